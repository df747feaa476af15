"""A CSV file, for spreadsheets."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kvtp.logger.base import AbstractLogger, Sample


class Csv(AbstractLogger):
    """`folder`/metrics.csv: one line per step of a training, or per question of a run with the accuracy so far; the
    last line of a run holds its summary. What is resumed goes on with the same file: steps of a training that were lost
    with a kill come twice. (Lightning's own CSVLogger would start afresh.)"""

    def __init__(self, folder: Path, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.path = Path(folder) / "metrics.csv"
        self.columns: list[str] = []

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        row = {"step": "" if step is None else step, **{key: float(value) for key, value in metrics.items()}}
        if not row.keys() <= set(self.columns):  # rare: a new kind of line
            before, known = self._read()
            self.columns = list(dict.fromkeys([*known, *row]))
            self._write(before)
        with self.path.open("a", newline="") as page:
            csv.DictWriter(page, self.columns).writerow(row)

    @rank_zero_only
    def conclude(self, summary: Mapping[str, Any], samples: Sequence[tuple[Sample, Path]]) -> None:
        self.log_metrics({key: value for key, value in summary.items() if isinstance(value, int | float)})

    def _read(self) -> tuple[list[dict[str, str]], list[str]]:
        """Lines and columns so far."""
        if not self.path.exists():
            return [], []
        with self.path.open(newline="") as page:
            table = csv.DictReader(page)
            return list(table), list(table.fieldnames or ())

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        new = self.path.with_suffix(".new")
        with new.open("w", newline="") as page:
            table = csv.DictWriter(page, self.columns)
            table.writeheader()
            table.writerows(rows)
        new.replace(self.path)
