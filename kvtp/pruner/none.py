"""No pruning: the papers' `full` row."""

import torch

from kvtp.pruner.base import AbstractPruner
from kvtp.types import Budget, Selection, VisualTokens


class NoPruning(AbstractPruner):
    """Acts nowhere; called all the same, keeps every token."""

    layers = ()

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return Selection(torch.arange(len(tokens), device=tokens.frame.device))
