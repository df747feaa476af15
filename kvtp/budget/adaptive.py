"""No bound: the method itself decides how much it keeps."""

import math

from jaxtyping import Float
from torch import Tensor

from kvtp.budget.base import AbstractBudget
from kvtp.types import Budget, VisualTokens


class Adaptive(AbstractBudget):
    """Grants every frame all it has, to methods whose number of tokens follows from the video (PruMerge). The
    retention_ratio of the command line is ignored.

    At retention 1 no pruner is called, so the ratio reported is the largest float below 1. Under it, a method that
    keeps what it is granted keeps everything.
    """

    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        return Budget(tokens.per_frame, math.nextafter(1, 0))
