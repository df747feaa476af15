"""ToMe: similar tokens merge in bipartite rounds, at the input of the language model."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kvtp.errors import check_choice
from kvtp.pruner._bipartite import Lists, merge_round
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import cue
from kvtp.types import Budget, Selection, VisualTokens

CACHED = 8  # frames at a time on a CPU, whose cache holds them: a quarter faster; an accelerator takes all at once


class ToMe(AbstractPruner):
    """Bolya et al., arXiv 2210.09461, as KVTP (arXiv 2503.10742) §5.1 uses it: per frame, after the projector, until
    the budget is met; similarity is the cosine of the tower's states.

    variant: paper = exactly the budget, raster order; official = the released code's count N − trunc(N·(1 − rate)) and
    its order (merged, then unmerged). A frame with nothing granted disappears (the released code never returns).
    """

    cues = frozenset({"tower_states"})

    def __init__(self, variant: str, positions: Positions) -> None:
        check_choice("variant", variant, ("paper", "official"))
        self.variant = variant
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        size, goal = torch.stack([tokens.per_frame, self._granted(tokens, budget)]).tolist()
        at_once = CACHED if tokens.features.device.type == "cpu" else tokens.frames
        parts, first = [], 0
        for start in range(0, tokens.frames, at_once):
            block = slice(start, start + at_once)
            rows = slice(first, first + sum(size[block]))
            parts.append(self._merge(tokens, rows, size[block], goal[block]))
            first = rows.stop
        return Selection(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _granted(self, tokens: VisualTokens, budget: Budget) -> Int64[Tensor, " T"]:
        if self.variant == "paper" or budget.rate is None:
            return budget.per_frame
        size = tokens.per_frame
        return (size - (size * (1 - budget.rate)).trunc().long()).clamp_max(size)

    def _merge(
        self, tokens: VisualTokens, rows: slice, size: list[int], goal: list[int]
    ) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n D"]]:
        """What remains of some consecutive frames."""
        features, keys = tokens.features[rows].float(), cue(tokens, "tower_states")[rows].float()
        row = torch.arange(rows.start, rows.stop, device=features.device)
        finished, lists = Lists.start(size, goal, row, features, keys).split()
        done = [finished]
        while lists.size:
            finished, lists = merge_round(lists).split()
            done.append(finished)
        row = torch.cat([part.row for part in done])
        gain = torch.cat([part.gain for part in done])
        features = torch.cat([part.features for part in done])
        order = (row if self.variant == "paper" else tokens.frame[row]).argsort(stable=True)
        return row[order], features[order].mul_(gain[order, None])
