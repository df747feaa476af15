"""A CSV file, for spreadsheets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.csv_logs import CSVLogger

from kvtp.logger.base import AbstractLogger, Sample


class Csv(CSVLogger, AbstractLogger):
    """`folder`/csv/metrics.csv: one line per step of a training, or per question of a run with the accuracy so far; the
    last line of a run holds its summary."""

    def __init__(self, folder: Path, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]) -> None:
        super().__init__(save_dir=str(folder), name="", version="csv", flush_logs_every_n_steps=1)

    def conclude(self, summary: Mapping[str, Any], samples: Sequence[tuple[Sample, Path]]) -> None:
        numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        self.log_metrics(numbers)
        self.finalize("success")
