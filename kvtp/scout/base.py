"""Stage `scout`: a second, small model looks at frames and question and scores every token."""

from abc import ABC, abstractmethod
from typing import ClassVar

from kvtp.types import Frames, Question, VisualTokens


class AbstractScout(ABC):
    """Only adds cues."""

    cues: ClassVar[frozenset[str]] = frozenset()  # needed from the backbone
    supplies: ClassVar[frozenset[str]] = frozenset()  # added here

    @abstractmethod
    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens: ...

    def flops(self, frames: Frames, question: Question) -> float:
        """Of its networks, for one question about one video, closed form (1 MAC = 2 FLOPs); what the backbone has
        computed anyway costs nothing here."""
        return 0.0
