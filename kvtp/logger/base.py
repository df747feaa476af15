"""Group `logger`: a mirror of what the files of a run or a training say. The files are the truth."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class Sample:
    """One question of a run as a person would look at it; `picture`: a file."""

    question_id: str
    question: str
    options: tuple[str, ...] | None
    answer: str | None
    reply: str
    outcome: str
    tokens: int  # visual tokens kept
    picture: Path


class AbstractLogger(Logger):
    """One run or training. Trainings use it as Lightning's loggers; evaluations call `log_metrics` after every question
    (`accuracy` so far in percent, questions `answered`, `errors`) and `conclude` once."""

    @abstractmethod
    def conclude(self, summary: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        """The run is over. `summary`: flat; what it holds is told in `kvtp.logger.told`."""
