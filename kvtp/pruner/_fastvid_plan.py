"""FastVID's arithmetic: where a film is cut, and how many tokens of which kind each frame keeps. Host numbers only."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kvtp.budget._rounding import round_down
from kvtp.tensors import slots, sums


@dataclass(frozen=True)
class Plan:
    """`count`: tokens of each frame; `salient`: those that it keeps as they are. `anchors`: into how many tokens each
    frame of `holders` merges the rest of its segment; never 0, frames ascending."""

    count: Int64[Tensor, " T"]
    segment: Int64[Tensor, " T"]
    salient: Int64[Tensor, " T"]
    holders: Int64[Tensor, " B"]
    anchors: Int64[Tensor, " B"]

    @property
    def blocks(self) -> list[tuple[slice, slice, int]]:
        """Of each segment that has anchors: its rows, its entries in `holders`, the most anchors one of them has."""
        segments = int(self.segment[-1]) + 1
        rows = _slices(sums(self.count, self.segment))
        holders = _slices(torch.bincount(self.segment[self.holders], minlength=segments))
        return [(r, h, int(self.anchors[h].max())) for r, h in zip(rows, holders, strict=True) if h.start < h.stop]

    @property
    def merging(self) -> int:
        """Tokens that are not salient, counted once for each frame that holds anchors of their segment."""
        return int(sums(self.count - self.salient, self.segment)[self.segment[self.holders]].sum())


@dataclass(frozen=True)
class Planner:
    """As the arguments of `kvtp.pruner.fastvid.FastVID`."""

    retention_ratio: float
    segments_min: int
    tau: float
    context_ratio: float
    anchor_step: int
    ignore: float
    variant: str

    def __call__(self, count: Int64[Tensor, " T"], likeness: Float[Tensor, " pairs"]) -> Plan:
        """`count`: tokens of each frame; `likeness` of each frame and the next, T − 1 in all."""
        cut = self._cuts(likeness)
        segment = torch.cat([torch.zeros(1, dtype=torch.int64), cut.cumsum(0)])
        frame = self._keeping(cut, likeness)
        own = segment[frame]
        frames = torch.bincount(own)  # that keep tokens, of each segment: its last is always one
        nth = slots(frames, len(frame))[1]
        back = frames[own] - 1 - nth
        holders = -(-frames // self.anchor_step)
        granted = round_down(self.retention_ratio * count.double())
        if self.variant == "onevision":
            context = round_down(self.context_ratio * granted.double())
            salient = granted - context
            anchors = (sums(context, segment) // holders)[own]
        else:
            whole = sums(granted, segment)
            context = round_down(self.context_ratio * whole.double())
            if self.variant == "qwen2_5_vl":
                context = context.clamp_min(1)
            salient = _dealt((whole - context).clamp_min(0), frames, own, nth)
            anchors = _dealt(context, holders, own, back // self.anchor_step)
        anchors = torch.where(back % self.anchor_step == 0, anchors, 0)
        size = count[frame]
        if self.variant == "qwen2_5_vl":
            anchors = torch.minimum(anchors, size // 2)
            salient = torch.minimum(salient, size - anchors)
        else:
            salient = torch.minimum(salient, size)
            anchors = torch.minimum(anchors, size - salient)
        held = anchors > 0
        of_all = torch.zeros_like(count)
        of_all[frame] = salient
        return Plan(count, segment, of_all, frame[held], anchors[held])

    def _cuts(self, likeness: Float[Tensor, " pairs"]) -> Bool[Tensor, " pairs"]:
        """Whether a segment ends between a frame and the next."""
        cut = likeness < self.tau
        cut[likeness.argsort(stable=True)[: self.segments_min - 1]] = True
        return cut

    def _keeping(self, cut: Bool[Tensor, " pairs"], likeness: Float[Tensor, " pairs"]) -> Int64[Tensor, " n"]:
        """Frames that keep any tokens."""
        if self.variant != "qwen2_5_vl":
            return torch.arange(len(cut) + 1)
        changes = cut | (likeness < self.ignore)
        return torch.cat([changes, changes.new_ones(1)]).nonzero().squeeze(1)


def _dealt(
    total: Int64[Tensor, " Z"], among: Int64[Tensor, " Z"], own: Int64[Tensor, " n"], nth: Int64[Tensor, " n"]
) -> Int64[Tensor, " n"]:
    """Each segment's total in equal parts, one more for those that come first by `nth`."""
    return total[own] // among[own] + (nth < total[own] % among[own])


def _slices(lengths: Int64[Tensor, " Z"]) -> list[slice]:
    return [slice(*ends) for ends in pairwise(accumulate(lengths.tolist(), initial=0))]
