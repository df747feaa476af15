"""Documents that hold a generated part between two marks."""

import re
from pathlib import Path

from kvtp.command import CommandError
from kvtp.store import write_whole


def insert(path: Path, name: str, text: str) -> None:
    """Put `text` between the lines `<!-- name -->` and `<!-- /name -->` of a Markdown file, in place of what is there.
    CommandError without exactly one such pair."""
    document = path.read_text(encoding="utf-8") if path.is_file() else ""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(rf"^{re.escape(begin)}$.*?^{re.escape(end)}$", re.DOTALL | re.MULTILINE)
    if len(pattern.findall(document)) != 1:
        raise CommandError(f"into: {path} must have one line {begin} and below it one {end}; add them where it belongs")
    write_whole(path, pattern.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", document))
