"""Stage `scout`: a second, small model looks at frames and question and scores every token."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from kvtp.backbone.base import AbstractBackbone
from kvtp.types import Frames, Question, VisualTokens


class AbstractScout(ABC):
    """Only adds cues."""

    cues: ClassVar[frozenset[str]] = frozenset()  # needed from the backbone
    supplies: ClassVar[frozenset[str]] = frozenset()  # added here

    @property
    def patches(self) -> int:
        """On the square grid of its own that `scout_patches` are on; 0 where it has none."""
        return 0

    @property
    def identity(self) -> str:
        """Changes when its weights do; empty where it has none."""
        return ""

    def meet(self, backbone: AbstractBackbone) -> None:  # noqa: B027 — most need not know
        """Told once, whose tokens it will score; no weights are there yet."""

    def load(self, backbone: AbstractBackbone) -> None:  # noqa: B027 — most have no weights
        """Load the weights now (idempotent). `backbone`: that of the same line, loaded."""

    def look(self, frames: Frames) -> None:  # noqa: B027 — likewise
        """What depends on the video alone, kept until another video comes. It is begun before the backbone looks, and
        need not be done when this returns."""

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """The queue of CUDA that `look` works in, beside the backbone; None = it works in the backbone's turn."""
        return None

    @abstractmethod
    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens:
        """ValueError for tokens that it cannot score."""

    def flops(self, frames: Frames, question: Question) -> float:
        """Of its networks, for one question about one video, closed form (1 MAC = 2 FLOPs); what the backbone has
        computed anyway costs nothing here."""
        return 0.0
