"""Softmax shares that know how much a frame can take."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

NEVER = 1e3  # nats between two frames, from which the lesser one's share is 0 in double precision


def softened(scores: Float64[Tensor, " T"], temperature: float) -> Float64[Tensor, " T"]:
    """scores / temperature up to a constant, ≤ 0, and finite for every finite score and temperature ≥ 0.

    Gaps between neighbours in rank are cut at `NEVER`, which changes no share but keeps the order, so that temperature
    0 is its own limit: each frame infinitely before the next, equals staying equal.
    """
    ordered, order = scores.sort(descending=True, stable=True)
    gap = ordered[:-1] - ordered[1:]
    step = torch.where(gap > 0, gap / temperature, 0).clamp_max(NEVER)
    depth = torch.cat([step.new_zeros(1), step.cumsum(0)])
    return torch.empty_like(scores).scatter_(0, order, -depth)


def water_fill(
    logits: Float64[Tensor, " T"],
    capacity: Int64[Tensor, " T"],
    least: Int64[Tensor, " T"],
    share: float | Float64[Tensor, ""],
) -> Float64[Tensor, " T"]:
    """Rates c·exp(logits), cut to [least/capacity, 1], with the one c at which they keep `share` of all tokens.

    The same as handing what exceeds 1 to the frames below 1 in proportion to their rates until none exceeds 1. The
    share kept is piecewise linear in c, with a kink wherever a frame leaves its least or becomes full: it is evaluated
    at all kinks at once, in logarithms because neighbouring kinks may lie many orders of magnitude apart.
    """
    low = least / capacity.clamp_min(1)
    kink = torch.cat([-logits, low.log() - logits]).sort().values
    level = (kink[:, None] + logits).exp()
    kept = (capacity * level.clamp(max=1).maximum(low)).sum(dim=1) / capacity.sum()
    above = (kept < share).sum().clamp_max(len(kink) - 1)  # the answer lies on the stretch that ends at this kink
    level = level.index_select(0, above[None]).squeeze(0)
    free = (level > low) & (level <= 1)
    bound = level.clamp(max=1).maximum(low)
    moving = (capacity * torch.where(free, level, 0)).sum() / capacity.sum()
    spare = share - (capacity * torch.where(free, 0, bound)).sum() / capacity.sum()
    scale = torch.where(moving > 0, spare / moving, 1)
    return torch.where(free, level * scale, bound).clamp(max=1).maximum(low)
