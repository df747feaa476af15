"""One round of ToMe's bipartite soft matching, for many lists of different lengths at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.tensors import slots, starts

TINY = 1e-20  # keeps a vector of zeros one


@dataclass(frozen=True)
class Lists:
    """Lists of tokens, one after the other. A token's features are `gain` · `features`, its keys `key_gain` · `keys`:
    rescaling is put off to the next sum, which saves a pass over memory per round."""

    size: list[int]  # of each list, known to the host: shapes follow without waiting for the device
    goal: list[int]  # how many are to remain
    row: Int64[Tensor, " n"]  # where the token came from
    norm: Float[Tensor, " n"]  # of its features
    features: Float[Tensor, "n D"]
    gain: Float[Tensor, " n"]
    keys: Float[Tensor, "n C"]
    key_gain: Float[Tensor, " n"]
    key_norm: Float[Tensor, " n"]  # of `keys`, before the gain

    @classmethod
    def start(cls, size: list[int], goal: list[int], row: Tensor, features: Tensor, keys: Tensor) -> "Lists":
        """Before the first round; a list of which nothing is to remain is left out."""
        norm, one = features.norm(dim=-1), features.new_ones(len(features))
        lists = cls(size, goal, row, norm, features, one, keys, one, keys.norm(dim=-1))
        return lists._pick([i for i, remain in enumerate(goal) if remain])

    @property
    def sizes(self) -> Int64[Tensor, " F"]:
        return torch.tensor(self.size, dtype=torch.int64, device=self.row.device)

    def split(self) -> tuple["Lists", "Lists"]:
        """The lists that have come down to their goal, and the others."""
        more = [size > goal for size, goal in zip(self.size, self.goal, strict=True)]
        return self._pick([i for i, m in enumerate(more) if not m]), self._pick([i for i, m in enumerate(more) if m])

    def _pick(self, members: Sequence[int]) -> "Lists":
        if len(members) == len(self.size):
            return self  # without a copy
        which = torch.tensor(members, dtype=torch.int64, device=self.row.device)
        size = [self.size[member] for member in members]
        sizes = self.sizes
        member, nth = slots(sizes[which], sum(size))
        taken = starts(sizes)[which][member] + nth
        rows = {f.name: getattr(self, f.name)[taken] for f in fields(self) if f.name not in ("size", "goal")}
        return Lists(size=size, goal=[self.goal[member] for member in members], **rows)


def merge_round(lists: Lists) -> Lists:
    """A = even places, B = odd places. Each b proposes to its nearest a by cosine of the keys; the best proposals, as
    many as must go, are accepted. What merges becomes the mean, rescaled to the largest feature norm among its members
    (keys to that same norm). New list: A, then the b that stayed.

    Every list has to be longer than its goal, which has to be at least 1.
    """
    merges = [min(size - goal, size // 2) for size, goal in zip(lists.size, lists.goal, strict=True)]
    size = [n - merge for n, merge in zip(lists.size, merges, strict=True)]
    before, removed = lists.sizes, torch.tensor(merges, device=lists.row.device)
    partner, merged = _match(lists, before, removed)

    frame, place = slots(before, sum(lists.size))
    odd, half = place % 2 == 1, place // 2
    joins = odd & merged[frame, half]
    behind = (before + 1)[frame] // 2 + half - (merged.cumsum(1) - merged.long())[frame, half]
    place = torch.where(joins, partner[frame, half], torch.where(odd, behind, half))
    target = starts(before - removed)[frame] + place

    order = (2 * target + joins).argsort(stable=True)  # of each group the one that stays comes first
    members = target.new_zeros(sum(size)).scatter_add_(0, target, torch.ones_like(target))
    first = starts(members)
    norm = lists.norm.new_zeros(sum(size)).scatter_reduce_(0, target, lists.norm, "amax")

    def merge(values: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = embedding_bag(order, values, first, per_sample_weights=gain[order], mode="sum")
        length = total.norm(dim=-1)
        return total, torch.where(members > 1, norm / length.clamp_min(TINY), 1), length

    features, gain, _ = merge(lists.features, lists.gain)
    keys, key_gain, key_norm = merge(lists.keys, lists.key_gain)
    return Lists(size, lists.goal, lists.row[order[first]], norm, features, gain, keys, key_gain, key_norm)


def _match(
    lists: Lists, sizes: Int64[Tensor, " F"], removed: Int64[Tensor, " F"]
) -> tuple[Int64[Tensor, "F B"], Bool[Tensor, "F B"]]:
    """For every b its nearest a, and whether they are one of the `removed` nearest pairs (ties: earlier first)."""
    size, longest = sizes[:, None], max(lists.size)
    place = torch.arange(longest + longest % 2, device=size.device)  # as many a as b
    row = (starts(sizes)[:, None] + place).clamp_max(len(lists.row) - 1)
    keys = lists.keys.reshape(*row.shape, -1) if len(lists.row) == row.numel() else lists.keys[row]
    norm = lists.key_norm.clamp_min(TINY)[row]
    cosine = torch.bmm(keys[:, 1::2], keys[:, 0::2].mT).div_(norm[:, None, 0::2]).div_(norm[:, 1::2, None])
    best, partner = cosine.masked_fill_((place[0::2] >= size)[:, None], -torch.inf).max(dim=2)
    proposals = best.masked_fill(place[1::2] >= size, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return partner, proposals.argsort(dim=1) < removed[:, None]
