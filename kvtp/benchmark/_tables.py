"""Annotation files as their publishers have them: read from the disk, or from the hub, not yet understood."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from kvtp.errors import Absent

log = logging.getLogger(__name__)
Row = TypeVar("Row", bound="Fields")


@dataclass(frozen=True)
class Part:
    """A split as it was published.

    `files`: patterns below the root, in the order in which they are looked for; those of the first that matches are
    read. `joined`: patterns of further files that belong to it (answers beside questions). `configs` and `split`: what
    the hub calls the same. `rows`: how many there are, where that is known. `labelled`: whether answers were published.
    """

    files: tuple[str, ...]
    configs: tuple[str | None, ...] = (None,)
    split: str = "test"
    rows: int | None = None
    joined: tuple[str, ...] = ()
    labelled: bool = True


@dataclass(frozen=True)
class Table:
    """The rows of one file, or of one configuration of the hub. `name`: the file's stem, or the configuration."""

    name: str
    where: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Found:
    """The tables of a part. `commit`: of the hub's data set, or "sha256:…" of the files' bytes."""

    tables: tuple[Table, ...]
    origin: str
    commit: str


class Fields(BaseModel):
    """What a set reads of each raw row. More columns may stand beside them."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)


def annotation_files(root: Path, part: Part) -> list[Path]:
    """Those of a part that are there, in their order; none where no pattern matches."""
    main = next((found for pattern in part.files if (found := sorted(root.glob(pattern)))), [])
    return [*main, *(path for pattern in part.joined for path in sorted(root.glob(pattern)))] if main else []


def read_part(root: Path, part: Part, repo: str | None, revision: str | None) -> Found:
    """From `root` if it has the files, else from the hub's data set `repo` at `revision` (None: the newest).

    Absent, naming what to do, for what is nowhere; ValueError for what cannot be read.
    """
    if paths := annotation_files(root, part):
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.read_bytes())
        return Found(tuple(map(read_table, paths)), str(root), f"sha256:{digest.hexdigest()}")
    wanted = " or ".join(part.files)
    if repo is None:
        raise Absent(
            f"benchmark.root={root} must be a folder with {wanted}, there is none, and no data set of the hub is known "
            "for it; set benchmark.root to where it lies, or to miniature to try things out"
        )
    return _of_the_hub(root, part, repo, revision)


def read_table(path: Path) -> Table:
    """A Parquet file, a JSON list, or lines of JSON; a single JSON object is a single row. ValueError for anything
    else."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(path).to_pylist()
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        else:
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]}); fetch it again") from error
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} must hold a list of objects, one per question; fetch it again")
    return Table(path.stem, str(path), rows)


class Unfit(ValueError):
    """Rows of a table that break rules: the message tells the first, `error` has all."""

    def __init__(self, table: Table, error: ValidationError) -> None:
        super().__init__(f"{table.where}: {next(complaints(error))}")
        self.table, self.error = table, error


def checked(fields: type[Row], table: Table) -> list[Row]:
    """The rows of a table as a set reads them; Unfit naming file, row, field and rule for the first that is not."""
    try:
        return TypeAdapter(list[fields]).validate_python(list(table.rows))  # type: ignore[valid-type]
    except ValidationError as error:
        raise Unfit(table, error) from error


def complaints(error: ValidationError) -> Iterator[str]:
    """One line for each field that breaks a rule; rows count from 0."""
    for one in error.errors(include_url=False):
        row, *field = one["loc"]
        what = ".".join(map(str, field)) or "row"
        if one["type"] == "missing":
            yield f"row {row}: field {what}: missing"
        else:
            yield f"row {row}: field {what}: {one['msg']}, got {str(one['input'])[:80]!r}"


def _of_the_hub(root: Path, part: Part, repo: str, revision: str | None) -> Found:
    from datasets import load_dataset
    from huggingface_hub import HfApi, constants

    from kvtp.backbone._hub import PATIENCE, UNREACHABLE, brief

    try:
        commit = revision
        if revision is None or not re.fullmatch("[0-9a-f]{40}", revision):  # a commit needs no network, if it is cached
            commit = HfApi().dataset_info(repo, revision=revision, timeout=PATIENCE).sha
        if revision is None:
            log.warning("%s is read as it is today; benchmark.revision=%s keeps it so", repo, commit)
        sets = [(config, load_dataset(repo, config, split=part.split, revision=commit)) for config in part.configs]
    except (*UNREACHABLE, ValueError) as error:
        raise Absent(
            f"benchmark.root={root} has no {' or '.join(part.files)}, and the hub does not give {repo} "
            f"({'it is not asked offline' if constants.HF_HUB_OFFLINE else brief(error)}); set benchmark.root, have "
            "scripts/download.py with the same benchmark=… fetch it or tell what to put where, or set "
            "benchmark.root=miniature to try things out"
        ) from error
    tables = tuple(
        Table(config or "default", f"{repo} {config or ''}".strip(), rows.to_list()) for config, rows in sets
    )
    return Found(tables, repo, str(commit))
