"""Rows become pipelines; what two of them configure alike is one object."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate

from kvtp.command import CommandError
from kvtp.config import STAGES, Row
from kvtp.errors import Absent
from kvtp.pipeline import Pipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """A run and the pipeline that makes its predictions."""

    row: Row
    pipeline: Pipeline


def assemble(rows: Sequence[Row], lacking: list[str] | None = None) -> list[Cell]:
    """A pipeline per row. No weights load; CommandError for values that a stage refuses, before any run begins.

    To `lacking` is added what is said of rows whose data set or checkpoints are not there, and the others are made
    without them; where it is None, or no row would be left, that is a CommandError, too."""
    made: dict[str, Any] = {}
    cells, complaints = [], []

    def stage_of(row: Row, stage: str) -> Any:
        # a predictor may share its backbone's tower, a scout's pictures may have its tokens' grid: one for each
        parts = [row.config[stage], row.config["backbone"] if stage in ("relevance", "scout") else None]
        key = json.dumps(parts, sort_keys=True)
        if key not in made:
            made[key] = make(stage, row.config[stage])
        return made[key]

    for row in rows:
        try:
            benchmark = stage_of(row, "benchmark")
        except CommandError as error:
            if lacking is None or len(rows) == 1 or not _absent(error):
                raise
            complaints.append(f"{row.name}: {error}")
            continue
        stages = {stage: stage_of(row, stage) for stage in STAGES if stage != "benchmark"}
        try:
            _ = [stages[stage].identity for stage in ("backbone", "relevance", "scout")]
        except ValueError as error:  # a checkpoint that is not there, or cannot be used
            complaints.append(f"{row.name}: {error}")
            if lacking is None or not _absent(error):
                raise CommandError(complaints[-1]) from error
            continue
        _tell_of_toys(row)
        try:
            cells.append(Cell(row, Pipeline(benchmark=benchmark, **stages)))
        except ValueError as error:  # cues that this backbone cannot give
            raise CommandError(f"{row.name}: {error}") from error
    if not cells:
        raise CommandError("\n".join(dict.fromkeys(complaints)))
    for said in dict.fromkeys(complaints):
        log.warning("left out: %s", said)
    if lacking is not None:
        lacking += complaints
    return cells


def _tell_of_toys(row: Row) -> None:
    """The small world's predictors know nothing of any other."""
    if row.choices.get("backbone", "tiny") == "tiny":
        return
    world = f"{row.config['paths']['checkpoints']}/tiny"
    for stage in ("relevance", "scout"):
        if str(known := row.config[stage].get("checkpoint", "")).startswith(world):
            log.warning(
                "%s on %s: %s.checkpoint=%s was trained on SparseKV-Shapes alone; conf/%s/%s.yaml names others",
                *(row.name, row.choices["backbone"], stage, known, stage, row.choices[stage]),
            )


def _absent(error: BaseException | None) -> bool:
    """Whether it comes of something that is not there."""
    return error is not None and (isinstance(error, Absent) or _absent(error.__cause__))


def make(section: str, config: Mapping[str, Any]) -> Any:
    """The object that a section of the configuration describes."""
    try:
        return instantiate(config, _convert_="all")
    except HydraException as error:
        message = str(error.__cause__ or error)
        raise CommandError(message if message.startswith(f"{section}.") else f"{section}: {message}") from error
