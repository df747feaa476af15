"""Documents that hold a generated part between two marks."""

import re
from pathlib import Path

from kvtp.command import CommandError
from kvtp.store import write_whole


def insert(path: Path, name: str, text: str) -> None:
    """Put `text` between the lines `<!-- name -->` and `<!-- /name -->` of a Markdown file, in place of what is there;
    all else stays byte for byte. CommandError without exactly one such pair."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not path.is_file():
        raise CommandError(f"into: {path} is no file; give a document that has the lines {begin} and {end}")
    document = path.read_bytes().decode("utf-8")
    opened, closed = (list(re.finditer(rf"^{re.escape(mark)}\r?$", document, re.MULTILINE)) for mark in (begin, end))
    if not len(opened) == len(closed) == 1 or opened[0].end() > closed[0].start():
        raise CommandError(f"into: {path} must have one line {begin} and below it one {end}; add them where it belongs")
    line = "\r\n" if opened[0][0].endswith("\r") else "\n"
    inside = f"\n{text.strip()}\n".replace("\n", line)
    write_whole(path, document[: opened[0].start()] + begin + inside + document[closed[0].start() :])
