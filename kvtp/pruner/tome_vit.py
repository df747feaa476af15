"""ToMe where it was made for: similar patches merge in every block of the vision tower."""

from dataclasses import dataclass, replace
from math import floor

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.budget._rounding import SLACK
from kvtp.errors import Refused, check_choice, check_ratio
from kvtp.pruner.base import AbstractPruner, AbstractTowerPruner
from kvtp.tensors import everything
from kvtp.types import Budget, Selection, VisualTokens


class ToMeViT(AbstractPruner):
    """Bolya et al., arXiv 2210.09461, with its released code: acts in the tower alone; nowhere at retention 1.

    `retention_ratio`: patches after the last block, of those before the first. `proportional`: attention weighs merged
    patches by their size, as the authors do with models that were not trained for merging. Blocks merge evenly; the
    released schedules (r, inflection) and lists of one number per block are not offered.
    """

    layers = ()

    def __init__(self, retention_ratio: float, proportional: bool) -> None:
        check_ratio(retention_ratio)
        check_choice("proportional", proportional, (True, False))
        self.tower = None if retention_ratio == 1 else BipartiteMerging(retention_ratio, proportional)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return everything(tokens)


@dataclass(frozen=True)
class BipartiteMerging(AbstractTowerPruner):
    """A = even rows, B = odd rows. Each a proposes to the b nearest by cosine of the keys; the best proposals, as many
    as must go, are accepted: b becomes the mean of its group, weighted by size.

    What remains stands as in the released code: first the a that stayed (best proposal first, or ascending where rows
    are protected), then B. The grid of a picture is lost. `removed`: the same number in each block (one more in the
    first few, so that exactly ⌊retention_ratio · patches⌋ remain), but never more than half of the patches there.
    """

    retention_ratio: float
    proportional: bool
    removed: tuple[int, ...] = ()

    def fit(self, patches: int, blocks: int) -> "BipartiteMerging":
        remain = floor(self.retention_ratio * patches + SLACK)
        fewest = _remaining(patches, [patches] * blocks)
        if remain < fewest:
            raise Refused(
                f"retention_ratio must be in [{fewest / patches:.4g}, 1], got {self.retention_ratio:g}: {blocks} "
                f"blocks that merge at most half of the patches each leave {fewest} of {patches}"
            )
        # the smallest number that is enough in every block; one less in some blocks leaves one more at a time
        most = next(most for most in range(patches) if _remaining(patches, [most] * blocks) <= remain)
        schedules = ([most] * first + [most - 1] * (blocks - first) for first in range(blocks + 1))
        schedule = next(each for each in schedules if _remaining(patches, each) == remain)
        return replace(self, removed=_bounded(patches, schedule))

    def __call__(
        self,
        states: Float[Tensor, "T P C"],
        keys: Float[Tensor, "T P c"],
        size: Float[Tensor, "T P"],
        block: int,
        protected: int = 0,
    ) -> tuple[Float[Tensor, "T n C"], Float[Tensor, "T n"], Int64[Tensor, "T n"]]:
        frames, count = size.shape
        gone, remain = self.removed[block], count - self.removed[block]
        partner, order = _propose(keys.float(), protected)
        joins, stays = order[:, :gone], order[:, gone:]
        if protected:
            stays = stays.sort(dim=1).values
        odd = torch.arange(count // 2, device=size.device).expand(frames, -1)
        source = torch.cat([2 * stays, 2 * odd + 1], dim=1)

        place = torch.arange(remain, device=size.device).expand(frames, -1)
        target = torch.empty_like(size, dtype=torch.int64).scatter_(1, source, place)
        target.scatter_(1, 2 * joins, stays.shape[1] + partner.gather(1, joins))
        weight = size.float()  # whole numbers: they add up to the same in any order
        larger = weight.new_zeros(frames, remain).scatter_add_(1, target, weight)
        weight = (weight / larger.gather(1, target)).flatten()

        # groups one after the other, not atomic additions: the same result each time on an accelerator, too
        target = (target + remain * torch.arange(frames, device=size.device)[:, None]).flatten()
        members = torch.zeros_like(source).flatten().scatter_add_(0, target, torch.ones_like(target))
        group, first = target.argsort(stable=True), members.cumsum(0) - members
        rows = states.float().flatten(0, 1)
        merged = embedding_bag(group, rows, first, per_sample_weights=weight[group], mode="sum")
        return merged.to(states.dtype).unflatten(0, (frames, remain)), larger.to(size.dtype), source


def _propose(keys: Float[Tensor, "T P c"], protected: int) -> tuple[Int64[Tensor, "T A"], Int64[Tensor, "T A"]]:
    """For every a its nearest b, and all a by how near that is (ties: the earlier first); the protected come last."""
    keys = keys / keys.norm(dim=-1, keepdim=True).clamp_min(1e-20)
    cosine = torch.bmm(keys[:, 0::2], keys[:, 1::2].mT)
    cosine[:, : (protected + 1) // 2] = -torch.inf
    cosine[:, :, : protected // 2] = -torch.inf
    best, partner = cosine.max(dim=2)
    return partner, best.argsort(dim=1, descending=True, stable=True)


def _bounded(patches: int, schedule: list[int]) -> tuple[int, ...]:
    """What goes in each block if never more than half of the patches does."""
    removed = []
    for count in schedule:
        removed.append(min(count, patches // 2))
        patches -= removed[-1]
    return tuple(removed)


def _remaining(patches: int, schedule: list[int]) -> int:
    return patches - sum(_bounded(patches, schedule))
