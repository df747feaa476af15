"""Group `logger`: a mirror of what the files of a run or a training say. The files are the truth."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class Sample:
    """One question of a run as a person would look at it."""

    question_id: str
    question: str
    options: tuple[str, ...] | None
    answer: str | None
    reply: str
    outcome: str
    tokens: int  # visual tokens kept


class AbstractLogger(Logger):
    """One run or training. Trainings use it as Lightning's loggers; evaluations call `log_metrics` after every question
    (`running/accuracy` [%], `running/answered`, `running/errors`) and `conclude` once."""

    @abstractmethod
    def conclude(self, summary: Mapping[str, Any], samples: Sequence[tuple[Sample, Path]]) -> None:
        """An evaluation is over. `summary`: as `kvtp.summary.flat` makes it; `samples` with the files of their
        pictures."""

    def close(self) -> None:
        """No more will come. (Lightning's `finalize` comes before the last validation.)"""
