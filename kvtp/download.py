"""What a command line's models need of the hub: fetched, and compared with what the hub has."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from rich.console import Console
from rich.table import Table

from kvtp.backbone._hub import PATIENCE, UNREACHABLE, beside, brief, commit_of, folder_of, parts, wanted
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import STAGES, Row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A folder or hub id, and the key of the configuration that it stands under. `whole`: with its weights."""

    key: str
    name: str
    revision: str | None
    whole: bool = True


@dataclass(frozen=True)
class Fetched:
    """`commit`: None of a folder. `checksums`: as a word; `bad`: files that are not what the hub has."""

    source: Source
    folder: Path
    commit: str | None
    sizes: Mapping[str, int]
    checksums: str
    bad: tuple[Path, ...] = ()


def sections(rows: Sequence[Row], stage: str) -> list[Mapping[str, Any]]:
    """What the rows configure of a stage, each once."""
    found: list[Mapping[str, Any]] = []
    found.extend(row.config[stage] for row in rows if row.config[stage] not in found)
    return found


def sources(rows: Sequence[Row]) -> list[Source]:
    """Each once: all that the backbones name (weights where they say that they read them, else configuration and
    tokenizer), and the checkpoint of every other stage that has one."""
    found: dict[Any, Source] = {}
    for config in sections(rows, "backbone"):
        heavy = make("backbone", config).sources
        for key in config:
            named = config[key], config.get("revision" if key == "checkpoint" else f"{key}_revision")
            if (key == "checkpoint" or f"{key}_revision" in config) and named[0] is not None:
                found.setdefault(named, Source(f"backbone.{key}", *named, named in heavy))
    for stage in STAGES:
        for config in sections(rows, stage) if stage != "backbone" else ():
            if (name := config.get("checkpoint")) is not None:
                revision = config.get("revision")
                found.setdefault((name, revision), Source(f"{stage}.checkpoint", name, revision))
    return list(found.values())


def fetch(source: Source) -> Fetched:
    """Files that are there are kept. CommandError for what cannot be had."""
    place = folder_of if source.whole else beside
    try:
        folder = place(source.name, source.revision, source.key)
    except ValueError as error:
        raise CommandError(str(error)) from error
    sizes = {name: (folder / name).stat().st_size for name in wanted(path.name for path in folder.iterdir())}
    if folder == Path(source.name):
        return Fetched(source, folder, None, sizes, "its own folder")
    return Fetched(source, folder, commit_of(folder), sizes, *_verified(source.name, folder, sizes))


def _verified(name: str, folder: Path, sizes: Mapping[str, int]) -> tuple[str, tuple[Path, ...]]:
    (repository, inside), commit = parts(name), commit_of(folder)
    try:
        HfApi().model_info(repository, revision=commit, timeout=PATIENCE)  # where there is none, this says so at once
        log.info("%s: %d files are compared with the hub's checksums", name, len(sizes))
        found = HfApi().verify_repo_checksums(repository, revision=commit)
    except UNREACHABLE as error:
        log.warning("%s: the hub gives no checksums (%s)", name, brief(error))
        return "not given", ()
    wrong = [known["path"].removeprefix(inside) for known in found.mismatches if known["path"].startswith(inside)]
    bad = tuple(folder / path for path in wrong if path in sizes)
    return (f"{len(bad)} bad" if bad else f"{len(sizes)} ok"), bad


def told(fetched: Iterable[Fetched]) -> str:
    """For the terminal."""
    page = Table("source", "revision", "files", "GiB", "checksums", "folder", box=None)
    for one in fetched:
        size = sum(one.sizes.values()) / 2**30
        page.add_row(
            *(one.source.name, one.commit or "–", str(len(one.sizes)), f"{size:.3f}", one.checksums, str(one.folder))
        )
    text = StringIO()
    Console(width=1000, file=text).print(page)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def remedy(fetched: Iterable[Fetched]) -> Iterator[str]:
    """Of each bad file what to do: with the link goes what it points to, or it would be linked to again."""
    for one in fetched:
        for path in one.bad:
            both = {path, path.resolve()}
            yield f"{path.name} of {one.source.name} is not what the hub has: rm {' '.join(sorted(map(str, both)))}"
