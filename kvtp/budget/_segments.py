"""A video cut into segments of frames that look alike: Vista-LLM §3.2, equations 1 and 2."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from kvtp.tensors import by_frame
from kvtp.types import VisualTokens


def frame_means(tokens: VisualTokens) -> Float[Tensor, "T D"]:
    """Equation 1: the mean of each frame's tokens; 0 for a frame without tokens. In single precision, where the
    released code has the model's: cuts at the very threshold may differ.

    Raises ValueError for tokens that no model has looked at.
    """
    if tokens.features.shape[1] == 0:
        raise ValueError(
            "segments are made of the tokens' features, which must have a width above 0, got 0; "
            "choose a budget and a relevance without segments"
        )
    return by_frame(tokens.features, tokens).sum(1, dtype=torch.float32) / tokens.per_frame.clamp_min(1)[:, None]


def segments(features: Float64[Tensor, "T D"], tau: float, merge_singletons: bool) -> Int64[Tensor, " T"]:
    """Number of the segment that each frame is in, from 0 without gaps: a new one where the cosine to the frame before
    is below `tau`. `features`: of `frame_means` at length 1, on the CPU, because singletons are merged one by one.

    A frame without tokens looks like nothing: it is in the segment of the frame before it, the first ones in the first.
    """
    seen = features.any(1).nonzero()[:, 0]
    looks = features[seen]
    cut = (looks[:-1] * looks[1:]).sum(1) < tau
    begins = [0, *(cut.nonzero()[:, 0] + 1).tolist()]
    if merge_singletons:
        begins = _merged(looks, begins)
    new = torch.zeros(len(features), dtype=torch.int64)
    new[seen[begins[1:]]] = 1
    return new.cumsum(0)


def _merged(looks: Float64[Tensor, "n D"], begins: list[int]) -> list[int]:
    """Where segments begin, once each of one frame has joined the neighbour whose mean is more like it, at a tie the
    later one. From the first to the last; a neighbour may have grown before.

    A rule of the released code, not of the paper. Where that fails, here is no failure: a single frame in all is a
    segment, and the last frame joins the segment before it even if it is its opposite.
    """
    ends, segment = [*begins, len(looks)], 0
    sums = torch.cat([looks.new_zeros(1, looks.shape[1]), looks.cumsum(0)])

    def likeness(neighbour: int) -> float:
        if not 0 <= neighbour < len(ends) - 1:
            return -torch.inf
        mean = normalize(sums[ends[neighbour + 1]] - sums[ends[neighbour]], dim=0)
        return float((looks[ends[segment]] * mean).sum())

    while segment < len(ends) - 1 and len(ends) > 2:
        if ends[segment + 1] - ends[segment] > 1:
            segment += 1
        else:
            earlier = likeness(segment - 1) > likeness(segment + 1)
            del ends[segment if earlier else segment + 1]
    return ends[:-1]
