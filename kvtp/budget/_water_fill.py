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
    share kept is piecewise linear in c, with a kink wherever a frame leaves its least or becomes full. Kinks are kept
    as logarithms, because neighbouring ones may lie many orders of magnitude apart.
    """
    low = least.double() / capacity.clamp_min(1)
    leaves, fills = low.log() - logits, -logits
    kink = _reached(share, torch.cat([leaves, fills]).sort().values, logits, capacity, low)
    free = (leaves < kink) & (fills >= kink)  # between kinks: exp(log low − x + x) is not always low
    bound = torch.where(fills < kink, 1, low)
    level = (kink + logits).exp()
    moving = (capacity * torch.where(free, level, 0)).sum() / capacity.sum()
    spare = share - (capacity * torch.where(free, 0, bound)).sum() / capacity.sum()
    scale = torch.where(moving > 0, spare / moving, 1)
    return torch.where(free, level * scale, bound).clamp(max=1).maximum(low)


def _reached(
    share: float | Float64[Tensor, ""],
    kinks: Float64[Tensor, " n"],
    logits: Float64[Tensor, " T"],
    capacity: Int64[Tensor, " T"],
    low: Float64[Tensor, " T"],
) -> Float64[Tensor, " 1"]:
    """The first of the ascending `kinks` at which `share` is kept, or the last: bisection, which needs no table of n
    times T and does not wait for the device."""
    first = torch.zeros(1, dtype=torch.int64, device=kinks.device)
    last = torch.full_like(first, len(kinks) - 1)
    for _ in range(len(kinks).bit_length()):
        middle = (first + last) // 2
        level = (kinks[middle] + logits).exp().clamp(max=1).maximum(low)
        short = (capacity * level).sum() / capacity.sum() < share
        first, last = torch.where(short, middle + 1, first).minimum(last), torch.where(short, last, middle)
    return kinks[first]
