"""Soft frame selection: the more relevant a frame, the more of its tokens stay (KVTP)."""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from kvtp.budget._relevance import finite
from kvtp.budget._rounding import largest_remainder, round_down, round_half_up
from kvtp.budget._water_fill import softened, water_fill
from kvtp.budget.base import AbstractBudget
from kvtp.errors import check_choice, check_range, check_ratio, check_whole
from kvtp.types import Budget, VisualTokens


class Softmax(AbstractBudget):
    """rate = softmax(relevance / temperature)·T·r: KVTP, arXiv 2503.10742, equation 1.

    temperature: 0 = hard, ∞ = uniform. Figure 7 of the paper goes from 5 to 0.
    overflow: what a rate above 1 cannot use. water_fill = goes to the frames below 1 in proportion to their rates, so
        that exactly r of all tokens stay; discard = is lost, as in the released code (far less than r may stay).
    rounding: largest_remainder = the exact total, rounded half up; floor = each frame rounded down, as released.
    min_tokens: what every frame keeps at least (a frame with fewer: all it has), at the expense of the others.
    clip: frames per clip whose relevance is averaged first; null = each frame for itself.
    """

    def __init__(
        self,
        retention_ratio: float,
        temperature: float,
        overflow: str,
        rounding: str,
        min_tokens: int,
        clip: int | None,
    ) -> None:
        check_range("temperature", temperature, 0)
        check_choice("overflow", overflow, ("water_fill", "discard"))
        check_choice("rounding", rounding, ("largest_remainder", "floor"))
        check_whole("min_tokens", min_tokens, 0)
        if clip is not None:
            check_whole("clip", clip, 1)
        check_ratio(retention_ratio)
        self.retention_ratio = retention_ratio
        self.temperature = temperature
        self.overflow = overflow
        self.rounding = rounding
        self.min_tokens = min_tokens
        self.clip = clip

    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        capacity = tokens.per_frame
        total = round_half_up(self.retention_ratio * len(tokens))
        least = self._least(capacity, total)
        scores = finite(relevance, tokens)
        if self.clip is not None:
            scores = _clip_means(scores, self.clip)
        logits = softened(scores, self.temperature)
        rate = self._rate(logits, capacity, least)
        quota = rate.clamp(max=1) * capacity
        if self.rounding == "floor":
            per_frame = round_down(quota)
        else:
            used = total if self.overflow == "water_fill" else round_down(quota.sum() + 0.5)
            per_frame = largest_remainder(quota, capacity, used)
        return Budget(per_frame, self.retention_ratio, rate)

    def _rate(
        self, logits: Float64[Tensor, " T"], capacity: Int64[Tensor, " T"], least: Int64[Tensor, " T"]
    ) -> Float64[Tensor, " T"]:
        """Before rounding; with `discard` it may exceed 1."""
        if self.overflow == "water_fill":
            return water_fill(logits, capacity, least, self.retention_ratio)
        weight = logits.exp()
        rate = self.retention_ratio * (weight / weight.mean())  # so that equal scores give r itself
        if self.min_tokens == 0:
            return rate
        used = (rate.clamp(max=1) * capacity).sum().maximum(least.sum())
        return water_fill(logits, capacity, least, used / capacity.sum())

    def _least(self, capacity: Int64[Tensor, " T"], total: int) -> Int64[Tensor, " T"]:
        least = capacity.clamp_max(self.min_tokens)
        if self.min_tokens * len(capacity) > total and int(least.sum()) > total:
            raise ValueError(
                f"min_tokens must be in [0, {total // len(capacity)}] for {total} tokens in {len(capacity)} frames, "
                f"got {self.min_tokens}; raise retention_ratio or lower min_tokens"
            )
        return least


def _clip_means(scores: Float64[Tensor, " T"], clip: int) -> Float64[Tensor, " T"]:
    """Every frame's score replaced by the mean of its clip; the last clip may be shorter."""
    number = torch.arange(len(scores), device=scores.device) // clip
    clips = (len(scores) - 1) // clip + 1
    total = scores.new_zeros(clips).index_add_(0, number, scores)
    return (total / torch.bincount(number, minlength=clips))[number]
