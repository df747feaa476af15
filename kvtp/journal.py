"""A training's curves as lines of JSON: they outlive a kill, and a resumed training goes on with the same file."""

import json
import logging
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from time import monotonic

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kvtp.command import CommandError
from kvtp.logger.base import NamedLogger

log = logging.getLogger(__name__)


class Journal(NamedLogger):
    """Writes `folder`/metrics.jsonl. Every `every` [s] a line is logged for those who watch; `steps` is how many there
    will be. A loss that is not finite ends the training."""

    def __init__(self, folder: Path, every: float, steps: int) -> None:
        super().__init__("journal")
        self.steps = steps
        self.path = folder / "metrics.jsonl"
        self.every, self.told = every, float("-inf")
        self.begun = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if not self.begun:
            self._forget(step or 0)
            self.begun = True
        row: dict[str, float] = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        row = {"step": step or 0} | row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name.startswith("train/") and not isfinite(value):
                raise CommandError(f"{name} is {value} at step {step}; a lower module.lr may help")
        validated, trained = (any(name.startswith(part) for name in row) for part in ("val/", "train/"))
        if validated or (trained and monotonic() - self.told >= self.every):
            self.told = monotonic()
            log.info(
                "step %d of %d: %s", step, self.steps, "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "step")
            )

    def rows(self) -> list[dict[str, float]]:
        """All that was logged; a line torn by a kill is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def validated(self, step: int) -> bool:
        """Whether validation has seen the model as it was after so many steps."""
        return any(row["step"] >= step - 1 for row in self.rows() if any(name.startswith("val/") for name in row))

    def _forget(self, step: int) -> None:
        """What was logged from this step on, after the last checkpoint and before a kill, comes again."""
        kept = [row for row in self.rows() if row["step"] < step]
        new = self.path.with_suffix(".new")
        new.write_text("".join(json.dumps(row) + "\n" for row in kept))
        new.replace(self.path)
