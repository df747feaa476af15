"""Group `logger`: a mirror of what the files of a run or a training say. The files are the truth."""

from abc import abstractmethod
from argparse import Namespace
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


class NamedLogger(Logger):
    """What Lightning asks of every logger. Settings are not logged: the folder holds them."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    @property
    def name(self) -> str:
        return self.title

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """They are in the folder, and W&B is given them at its start."""


class AbstractLogger(NamedLogger):
    """One run or training. Trainings use it as Lightning's loggers; evaluations call `log_metrics` after every question
    (`running/accuracy` [%], `running/answered`, `running/errors`) and `conclude` once."""

    @abstractmethod
    def conclude(self, summary: Mapping[str, Any], samples: Sequence[tuple[Sample, Path]]) -> None:
        """An evaluation is over and its folder whole. `summary`: as `kvtp.summary.flat` makes it; `samples` with the
        files of their pictures."""

    def picture(self, name: str, path: Path) -> None:
        """A training has drawn something; the metrics of the same validation follow."""

    def close(self) -> None:
        """No more will come. (Lightning's `finalize` comes before the last validation.)"""
