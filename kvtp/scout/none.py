"""No scout."""

from kvtp.scout.base import AbstractScout
from kvtp.types import Frames, Question, VisualTokens


class NoScout(AbstractScout):
    """Adds nothing."""

    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens:
        return tokens
