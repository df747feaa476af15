"""PruMerge: the most attended tokens, each enriched by its nearest neighbours (the variant of KVTP's experiments)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.errors import check_choice, check_whole
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import by_frame, cue, present, ranking, slots, starts
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
        real = similarity > -torch.inf  # a frame of few tokens has fewer neighbours
        member = torch.where(real, first[:, None] + neighbour, kept[:, None])
        weight = torch.where(real, attention[member], 0)
        members = torch.cat([kept[:, None], member], dim=1)
        weights = torch.cat([weight.new_ones(len(kept), 1), weight], dim=1)
        return Selection(kept, embedding_bag(members, tokens.features.float(), per_sample_weights=weights, mode="sum"))

    def _nearest(
        self, chosen: Int64[Tensor, "T n"], order: Int64[Tensor, "T N"], tokens: VisualTokens
    ) -> tuple[Float[Tensor, "T n k"], Int64[Tensor, "T n k"]]:
        """Similarity (up to a factor per token) and place of the nearest other tokens of the frame; among equally near
        ones the more attended first."""
        states = by_frame(cue(tokens, "tower_states").float(), tokens)
        itself = chosen[..., None]
        similarity = torch.bmm(states.gather(1, itself.expand(-1, -1, states.shape[2])), states.mT)
        similarity /= states.norm(dim=-1).clamp_min(1e-20)[:, None]
        similarity.masked_fill_(~present(tokens)[:, None], -torch.inf).scatter_(2, itself, -torch.inf)
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
