"""Hard frame selection: the most relevant frames with all their tokens, nothing of the others."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.budget._relevance import finite
from kvtp.budget._rounding import SLACK
from kvtp.budget.base import AbstractBudget
from kvtp.errors import check_ratio
from kvtp.types import Budget, VisualTokens


class TopK(AbstractBudget):
    """Keeps ⌊r·T⌋ frames (at least one); among equally relevant ones the earlier first.

    The baseline of KVTP, arXiv 2503.10742 §5.2, after KeyVideoLLM, with r = 20 %.
    """

    def __init__(self, retention_ratio: float) -> None:
        check_ratio(retention_ratio)
        self.retention_ratio = retention_ratio

    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        scores = finite(relevance, tokens)
        count = max(1, math.floor(self.retention_ratio * tokens.frames + SLACK))
        rate = torch.zeros_like(scores)
        rate[scores.argsort(descending=True, stable=True)[:count]] = 1
        return Budget(rate.long() * tokens.per_frame, self.retention_ratio, rate)
