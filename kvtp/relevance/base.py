"""Stage `relevance`: how much each frame matters to the question."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from kvtp.backbone.base import AbstractBackbone
from kvtp.types import Frames, Question, VisualTokens


class AbstractRelevance(ABC):
    """One real number per token frame, higher = more relevant; only differences matter."""

    cues: ClassVar[frozenset[str]] = frozenset()
    reads_tokens: ClassVar[bool] = False  # its scores come from the visual tokens alone: no network is run for them

    @property
    def identity(self) -> str:
        """Changes when its weights do; empty where it has none."""
        return ""

    def load(self, backbone: AbstractBackbone) -> None:  # noqa: B027 — most have no weights
        """Load the weights now (idempotent). `backbone`: that of the same line, loaded, whose tower may serve."""

    def look(self, frames: Frames) -> None:  # noqa: B027 — likewise
        """What depends on the video alone, kept until another video comes."""

    @abstractmethod
    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]: ...

    def flops(self, frames: Frames, question: Question) -> float:
        """Of its networks, for one question about one video, closed form (1 MAC = 2 FLOPs); what the backbone has
        computed anyway costs nothing here."""
        return 0.0
