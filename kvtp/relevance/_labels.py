"""Relevance labels of clips, as labels of pictures."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.budget._rounding import SLACK
from kvtp.types import Question


def labels_at(times: Float[Tensor, " T"], duration: float, question: Question) -> Float[Tensor, " T"]:
    """The label of the clip in which each time [s] lies; clips divide the video of so many seconds, or its segment,
    equally. ValueError for a question without labels, and for a segment without length."""
    if not question.relevance:
        raise ValueError(
            f"there must be one relevance label per clip, got {question.relevance} for question {question.id!r}; "
            "choose a benchmark with relevance labels or another relevance"
        )
    video, labels = question.ref, torch.tensor(question.relevance, dtype=torch.float32, device=times.device)
    start = 0.0 if video.start is None else video.start
    end = duration if video.end is None else video.end
    if end <= start:
        raise ValueError(f"the end of a video must lie after its start, got {start} … {end} s for {question.id!r}")
    clip = ((times - start) / (end - start) * len(labels) + SLACK).floor().long()
    return labels[clip.clamp(0, len(labels) - 1)]
