"""Stage `benchmark`: where questions come from, how they are put, and how a reply is scored."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from kvtp.types import Frames, Prediction, Prompt, Question, Verdict


class AbstractBenchmark(ABC):
    """A list of questions. Nothing leaves the denominator.

    `parser` changes when the same reply would be read differently, `videos_identity` when generated videos show
    something else: such predictions must not be mixed.
    """

    parser: ClassVar[str]
    videos_identity: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Question: ...

    @abstractmethod
    def prompt(self, question: Question, frames: Frames) -> Prompt: ...

    @abstractmethod
    def parse(self, reply: str, question: Question) -> Verdict:
        """Deterministic; never guesses a letter that the reply does not name."""

    @abstractmethod
    def summarise(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Numbers over all questions asked, in percent where they are shares."""
