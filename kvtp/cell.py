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
from kvtp.pipeline import Pipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """A run and the pipeline that makes its predictions."""

    row: Row
    pipeline: Pipeline


def assemble(rows: Sequence[Row]) -> list[Cell]:
    """A pipeline per row. No weights load; CommandError for values that a stage refuses, before any run begins."""
    made: dict[str, Any] = {}
    cells = []
    for row in rows:
        stages = {}
        for stage in STAGES:
            # a predictor may share its backbone's tower, a scout's pictures may have its tokens' grid: one for each
            parts = [row.config[stage], row.config["backbone"] if stage in ("relevance", "scout") else None]
            key = json.dumps(parts, sort_keys=True)
            if key not in made:
                made[key] = make(stage, row.config[stage])
            stages[stage] = made[key]
        _tell_of_toys(row)
        try:
            cells.append(Cell(row, Pipeline(**stages)))
            _ = [stages[stage].identity for stage in ("backbone", "relevance", "scout")]
        except ValueError as error:  # cues that this backbone cannot give, a checkpoint that is not there
            raise CommandError(f"{row.name}: {error}") from error
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


def make(section: str, config: Mapping[str, Any]) -> Any:
    """The object that a section of the configuration describes."""
    try:
        return instantiate(config, _convert_="all")
    except HydraException as error:
        message = str(error.__cause__ or error)
        raise CommandError(message if message.startswith(f"{section}.") else f"{section}: {message}") from error
