"""The benchmark's own relevance labels: an upper bound for every predictor."""

import torch
from jaxtyping import Float
from torch import Tensor

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
        if not question.relevance:
            raise ValueError(
                f"relevance=oracle needs one label per clip, got {question.relevance} for question {question.id!r}; "
                "choose a benchmark with relevance labels or another relevance"
            )
        video = question.ref
        start = 0.0 if video.start is None else video.start
        end = frames.duration if video.end is None else video.end
        if end <= start:
            raise ValueError(f"the end of a video must lie after its start, got {start} … {end} s for {question.id!r}")
        clips = len(question.relevance)
        clip = ((tokens.timestamps - start) / (end - start) * clips).floor().long().clamp(0, clips - 1)
        labels = self.sign * torch.tensor(question.relevance, dtype=torch.float32)
        return labels.to(tokens.features.device)[clip.to(tokens.features.device)]
