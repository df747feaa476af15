"""Frame dropping: fewer frames, uniformly spaced, each with all its tokens."""

import numpy as np
import torch

from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.types import Budget, Selection, VisualTokens


class FrameDrop(AbstractPruner):
    """Keeps round(r·T) frames (at least one), both ends included: what sampling fewer frames would have given.

    Only the budget's retention ratio counts, as a share of frames.
    """

    scope = "video"

    def __init__(self, positions: Positions) -> None:
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        count = max(1, round(budget.retention_ratio * tokens.frames))
        kept = torch.zeros(tokens.frames, dtype=torch.bool)
        kept[np.linspace(0, tokens.frames - 1, count).astype(np.int64)] = True
        return Selection(kept.to(tokens.frame.device)[tokens.frame].nonzero().squeeze(1))
