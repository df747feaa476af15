"""No token at all: the text-only limit."""

import sys

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.budget.base import AbstractBudget
from kvtp.types import Budget, VisualTokens


class Zero(AbstractBudget):
    """Nothing for any frame. It is the limit r → 0 of every budget; a retention ratio has to be above 0, so the one
    reported is the smallest positive (normal) float."""

    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        none = torch.zeros_like(tokens.per_frame)
        return Budget(none, sys.float_info.min, none.double())
