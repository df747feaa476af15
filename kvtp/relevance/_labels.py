"""Relevance labels of clips, as labels of pictures."""

from jaxtyping import Float, Int64
from torch import Tensor

from kvtp.types import Question


def clip_of(times: Float[Tensor, " T"], duration: float, clips: int, question: Question) -> Int64[Tensor, " T"]:
    """The clip in which each time [s] lies: `clips` divide the video of so many seconds, or its segment, equally.
    ValueError for a segment without length."""
    video = question.ref
    start = 0.0 if video.start is None else video.start
    end = duration if video.end is None else video.end
    if end <= start:
        raise ValueError(f"the end of a video must lie after its start, got {start} … {end} s for {question.id!r}")
    return ((times - start) / (end - start) * clips).floor().long().clamp(0, clips - 1)
