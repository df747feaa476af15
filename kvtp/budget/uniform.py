"""The same share of every frame."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.budget._rounding import largest_remainder, round_down, round_half_up
from kvtp.budget.base import AbstractBudget
from kvtp.errors import check_choice, check_ratio
from kvtp.types import Budget, VisualTokens


class Uniform(AbstractBudget):
    """Relevance does not matter. rounding: floor = ⌊r·N⌋ of each frame, as the baselines of the papers do it;
    largest_remainder = exactly r·K in all, rounded half up."""

    def __init__(self, retention_ratio: float, rounding: str) -> None:
        check_choice("rounding", rounding, ("floor", "largest_remainder"))
        check_ratio(retention_ratio)
        self.retention_ratio = retention_ratio
        self.rounding = rounding

    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        capacity = tokens.per_frame
        rate = torch.full_like(capacity, self.retention_ratio, dtype=torch.float64)
        if self.rounding == "floor":
            per_frame = round_down(rate * capacity)
        else:
            per_frame = largest_remainder(rate * capacity, capacity, round_half_up(self.retention_ratio * len(tokens)))
        return Budget(per_frame, self.retention_ratio, rate)
