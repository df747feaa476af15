"""The benchmark's own relevance labels: an upper bound for every predictor."""

from jaxtyping import Float
from torch import Tensor

from kvtp.relevance._labels import labels_at
from kvtp.relevance.base import AbstractRelevance
from kvtp.types import Frames, Question, VisualTokens


class Oracle(AbstractRelevance):
    """The label of the clip in which the frame's time lies; clips divide the video, or its segment, equally.

    `inverted`: with the sign changed, so that what matters least comes first; a control. Raises ValueError for a
    question without labels.
    """

    def __init__(self, inverted: bool) -> None:
        self.sign = -1.0 if inverted else 1.0

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        return self.sign * labels_at(tokens.timestamps, frames.duration, question).to(tokens.features.device)
