"""From rates to whole tokens."""

import math

from jaxtyping import Float, Int64
from torch import Tensor

SLACK = 1e-9  # 0.35 · 180 is 62.99999999999999: a quota that is whole but for the float noise counts as whole


def round_down(quota: Float[Tensor, "*T"]) -> Int64[Tensor, "*T"]:
    return (quota + SLACK).floor().long()


def round_up(quota: Float[Tensor, "*T"]) -> Int64[Tensor, "*T"]:
    return (quota - SLACK).ceil().long()


def round_half_up(quota: float) -> int:
    return math.floor(quota + 0.5 + SLACK)


def largest_remainder(
    quota: Float[Tensor, " T"], capacity: Int64[Tensor, " T"], total: int | Int64[Tensor, ""]
) -> Int64[Tensor, " T"]:
    """Integers that sum to `total`, which is Σ quota rounded: quotas rounded down, then one more where most was lost;
    among equals the earlier frame first. Needs 0 ≤ quota ≤ capacity."""
    whole = round_down(quota)
    lost = (quota - whole).masked_fill(whole >= capacity, -1)
    rank = lost.argsort(descending=True, stable=True).argsort()
    return whole + (rank < total - whole.sum())
