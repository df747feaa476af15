"""PruMerge: the most attended tokens, each enriched by its nearest neighbours (the variant of KVTP's experiments)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kvtp.errors import check_choice, check_whole
from kvtp.pruner._neighbours import enriched, likeness
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import cue, ranking, slots, starts
from kvtp.types import Budget, Selection, VisualTokens


class PruMerge(AbstractPruner):
    """Keeps the n tokens that the pooling head's probe attends to most; y_i = x_i + Σ a_j·x_j over the `neighbours`
    tokens j ≠ i of the frame, kept or not, that are nearest by cosine of the tower's states.

    KVTP (arXiv 2503.10742) §5.1 with its released code: no interquartile rule, no normalised weights, no summary token.
    variant: paper = raster order; official = by descending attention. The released code also scrambles the states
    while pooling them, which makes its neighbours random; that is not reproduced.
    """

    cues = frozenset({"probe_attention", "tower_states"})

    def __init__(self, neighbours: int, variant: str, positions: Positions) -> None:
        check_whole("neighbours", neighbours, 0)
        check_choice("variant", variant, ("paper", "official"))
        self.neighbours = neighbours
        self.variant = variant
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        counts = budget.per_frame.tolist()
        attention = cue(tokens, "probe_attention").float()
        order = ranking(attention, tokens)
        chosen = order[:, : max(counts)]
        if self.variant == "paper":
            chosen = _raster(chosen, budget.per_frame)
        frame, nth = slots(budget.per_frame, sum(counts))
        first = starts(tokens.per_frame)[frame]
        kept = first + chosen[frame, nth]
        similarity, neighbour = (nearest[frame, nth] for nearest in self._nearest(chosen, order, tokens))
        return Selection(kept, enriched(tokens.features.float(), attention, kept, first, similarity, neighbour))

    def _nearest(
        self, chosen: Int64[Tensor, "T n"], order: Int64[Tensor, "T N"], tokens: VisualTokens
    ) -> tuple[Float[Tensor, "T n k"], Int64[Tensor, "T n k"]]:
        """Similarity (up to a factor per token) and place of the nearest other tokens of the frame; among equally near
        ones the more attended first."""
        similarity = likeness(cue(tokens, "tower_states"), chosen, tokens)
        candidate = order[:, None].expand_as(similarity)
        nearest, rank = similarity.gather(2, candidate).sort(dim=2, descending=True, stable=True)
        near = slice(min(self.neighbours, similarity.shape[2] - 1))
        return nearest[..., near], candidate.gather(2, rank[..., near])


def _raster(chosen: Int64[Tensor, "T n"], granted: Int64[Tensor, " T"]) -> Int64[Tensor, "T n"]:
    """The first `granted` places of each frame in ascending order; what follows them is padding."""
    width = chosen.shape[1]
    spare = torch.arange(width, device=chosen.device) >= granted[:, None]
    last = torch.iinfo(chosen.dtype).max
    return chosen.masked_fill(spare, last).sort(dim=1).values.masked_fill(spare, 0)
