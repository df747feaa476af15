"""VisionZip: tokens that the tower attends to stay; the others melt into a few, spread evenly over the frame."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from kvtp.budget._rounding import round_down
from kvtp.errors import check_choice, check_whole
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import by_frame, cue, present, ranking, slots, starts
from kvtp.types import Budget, Selection, VisualTokens


class VisionZip(AbstractPruner):
    """Yang et al., arXiv 2412.04467, in the form in which it is compared on video: after projector and pooling, each
    picture by itself, with the attention that a token receives in the tower in place of a class token's.

    Of n tokens ⌊n·dominant_ratio⌋ (54 of 64, as released) are the most attended ones, unchanged: dominant. The C others
    are contextual: every ⌊M/C⌋-th of the M tokens left over, wherever they lie. What remains joins the one of these
    that its key in the tower is nearest to by cosine, which becomes x + mean of those that join: their mean is added
    to it, not averaged with it, so that it is about twice as long as a token. `tokens`: n of every frame (or all that
    it has), whatever the budget, which therefore must not differ between frames; null = as many as it grants.

    variant: paper = tokens stand where they came from; official = as the released code does it for hosts with a newline
    after every row: the places of the dominant tokens are taken in order of attention, the tokens in raster order, so
    that they stand in each other's places.
    """

    cues = frozenset({"received_attention", "tower_keys"})

    def __init__(self, tokens: int | None, dominant_ratio: float, variant: str, positions: Positions) -> None:
        if tokens is not None:
            check_whole("tokens", tokens, 1)
            self.scope = "video"
        if not 0 <= dominant_ratio < 1:
            raise ValueError(f"dominant_ratio must be in [0, 1), got {dominant_ratio!r}; a share is left to be merged")
        check_choice("variant", variant, ("paper", "official"))
        self.tokens = tokens
        self.dominant_ratio = dominant_ratio
        self.variant = variant
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        size = tokens.per_frame
        granted = budget.per_frame if self.tokens is None else size.clamp_max(self.tokens)
        dominant = torch.minimum(round_down(granted.double() * self.dominant_ratio), (granted - 1).clamp_min(0))
        contextual = granted - dominant
        # waits for the device: once for all that follows
        total, most, used = torch.stack([granted.sum(), contextual.max(), (size * (granted > 0)).sum()]).tolist()

        order = ranking(cue(tokens, "received_attention").float(), tokens)
        place = torch.arange(order.shape[1], device=order.device).expand_as(order)
        chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order, place < dominant[:, None])
        target = _spread(present(tokens) & ~chosen, (size - dominant)[:, None], contextual[:, None])
        seat = order.gather(1, (chosen.cumsum(1) - 1).clamp_min(0)) if self.variant == "official" else place
        goal = torch.where(target, place, _nearest(cue(tokens, "tower_keys"), target, contextual, max(most, 1), tokens))
        goal = torch.where(chosen, seat, goal)  # the place of the kept token that each token goes to

        kept = chosen | target
        rank = (kept.cumsum(1) - 1).gather(1, goal) + starts(granted)[:, None]
        rank = rank.masked_fill((granted == 0)[:, None], total)  # nowhere
        rows = slots(size, len(tokens))
        whole, into = kept[rows], rank[rows]
        index = whole.argsort(descending=True, stable=True)[:total]
        return Selection(index, _joined(tokens.features.float(), whole, into, total, used))


def _spread(rest: Bool[Tensor, "T N"], left: Int64[Tensor, "T 1"], count: Int64[Tensor, "T 1"]) -> Bool[Tensor, "T N"]:
    """`count` of the `left` places of each frame that are `rest`, from the first on at equal steps."""
    step = (left // count.clamp_min(1)).clamp_min(1)
    nth = rest.cumsum(1) - 1
    return rest & (nth % step == 0) & (nth < step * count)


def _nearest(
    keys: Float[Tensor, "K c"], target: Bool[Tensor, "T N"], count: Int64[Tensor, " T"], most: int, tokens: VisualTokens
) -> Int64[Tensor, "T N"]:
    """For every place that of the nearest target of its frame, of which there are `count`, `most` at the most; among
    equally near ones the earlier."""
    padded = by_frame(keys.float(), tokens)
    targets = target.argsort(dim=1, descending=True, stable=True)[:, :most]
    theirs = normalize(padded.gather(1, targets[..., None].expand(-1, -1, padded.shape[2])), dim=-1)
    missing = torch.arange(most, device=count.device) >= count[:, None]
    similarity = torch.bmm(padded, theirs.mT).masked_fill_(missing[:, None], -torch.inf)
    return targets.gather(1, similarity.max(dim=2).indices)


def _joined(
    features: Float[Tensor, "K D"], whole: Bool[Tensor, " K"], into: Int64[Tensor, " K"], total: int, used: int
) -> Float[Tensor, "n D"]:
    """Rows 0 … total−1: each the `whole` token that goes `into` it, plus the mean of the others that do. Tokens that go
    nowhere, into row `total`, are all but `used` ones."""
    members = into.new_zeros(total + 1).scatter_add_(0, into, torch.ones_like(into))
    weight = torch.where(whole, 1, 1 / (members - 1).clamp_min(1)[into])
    order = into.argsort(stable=True)[:used]
    return embedding_bag(order, features, starts(members)[:total], per_sample_weights=weight[order], mode="sum")
