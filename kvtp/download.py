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

from kvtp.backbone._hub import PATIENCE, UNREACHABLE, brief, folder_of, parts, wanted
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import STAGES, Row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A folder or hub id, and the key of the configuration that it stands under."""

    key: str
    name: str
    revision: str | None


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
    """Each once: all that the backbones name, and the checkpoint of every other stage that has one."""
    found: dict[Any, Source] = {}
    for config in sections(rows, "backbone"):
        for place, source in enumerate(make("backbone", config).sources):
            if source[0] is not None:
                found.setdefault(source, Source("backbone" if place else "backbone.checkpoint", *source))
    for stage in STAGES:
        for config in sections(rows, stage) if stage != "backbone" else ():
            if (name := config.get("checkpoint")) is not None:
                revision = config.get("revision")
                found.setdefault((name, revision), Source(f"{stage}.checkpoint", name, revision))
    return list(found.values())


def fetch(source: Source) -> Fetched:
    """Files that are there are kept. CommandError for what cannot be had."""
    try:
        folder = folder_of(source.name, source.revision, source.key)
    except ValueError as error:
        raise CommandError(str(error)) from error
    sizes = {name: (folder / name).stat().st_size for name in wanted(path.name for path in folder.iterdir())}
    if folder == Path(source.name):
        return Fetched(source, folder, None, sizes, "its own folder")
    repository, within = parts(source.name)
    root = folder.parents[within.count("/") - 1] if within else folder  # called as the commit
    return Fetched(source, folder, root.name, sizes, *_verified(repository, root, sizes))


def _verified(name: str, folder: Path, sizes: Mapping[str, int]) -> tuple[str, tuple[Path, ...]]:
    try:
        HfApi().model_info(name, revision=folder.name, timeout=PATIENCE)  # where there is none, this says so at once
        log.info("%s: %d files are compared with the hub's checksums", name, len(sizes))
        found = HfApi().verify_repo_checksums(name, revision=folder.name)
    except UNREACHABLE as error:
        log.warning("%s: the hub gives no checksums (%s)", name, brief(error))
        return "not given", ()
    bad = tuple(folder / wrong["path"] for wrong in found.mismatches)
    return (f"{len(bad)} bad" if bad else f"{found.checked_count} ok"), bad


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
