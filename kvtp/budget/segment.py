"""Every frame a minimum, and the rest to segments that matter to the question (Vista-LLM)."""

import logging

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from kvtp.budget._relevance import finite
from kvtp.budget._rounding import SLACK, largest_remainder, round_half_up
from kvtp.budget._segments import frame_means, segments
from kvtp.budget._water_fill import softened, water_fill
from kvtp.budget.base import AbstractBudget
from kvtp.errors import check_choice, check_range, check_ratio
from kvtp.tensors import sums
from kvtp.types import Budget, VisualTokens

log = logging.getLogger(__name__)

NOTHING = 1e-8  # weights that sum to less count as equal, as released


class Segment(AbstractBudget):
    """base + softmax(r_m / temperature)·(r·K − Σ base) for segment m: Vista-LLM, equation 5.

    r_m is the mean relevance of the segment's frames: with relevance=prototype equation 4. A short segment is given as
    much as a long one of the same relevance, so its frames keep more.

    tau: a segment ends where the cosine of a frame and the next is below it.
    min_ratio: share of its tokens that every frame keeps, rounded to whole ones (half to even). The paper gives no
        figure, the released code has 0.1.
    temperature: 1 in the paper and as released; 0 = all to the best segment, ∞ = each as much.
    merge_singletons: segments of one frame join a neighbour; as released, not in the paper.
    rounding: largest_remainder = exactly r·K in all, rounded half up: what a segment cannot take goes to the others in
        proportion to their weights, and minima that are together too many shrink alike. per_frame = as released:
        segments are served in whole tokens, round after round, and each frame's part is rounded for itself, so that all
        frames of a segment keep as many, but the total is missed by up to half a token per frame and segment; minima
        that are together too many stay, and are then the total.

    Within a segment of frames of different size a frame is given in proportion to what it has above its minimum.
    """

    def __init__(
        self,
        retention_ratio: float,
        tau: float,
        min_ratio: float,
        temperature: float,
        merge_singletons: bool,
        rounding: str,
    ) -> None:
        check_range("tau", tau, -1, 1)
        check_range("min_ratio", min_ratio, 0, 1)
        check_range("temperature", temperature, 0)
        check_choice("rounding", rounding, ("largest_remainder", "per_frame"))
        check_ratio(retention_ratio)
        self.retention_ratio = retention_ratio
        self.tau = tau
        self.min_ratio = min_ratio
        self.temperature = temperature
        self.merge_singletons = merge_singletons
        self.rounding = rounding
        self.warned = False

    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        features, scores, capacity = _on_cpu(tokens, finite(relevance, tokens))
        base = (capacity.double() * self.min_ratio).round().long()
        room = capacity - base
        wanted, kept = self.retention_ratio * len(tokens), int(base.sum())
        if wanted - kept <= SLACK:
            self._warn(kept, tokens.frames)
        segment = segments(features, self.tau, self.merge_singletons)
        wide = sums(room, segment)
        logits = softened(sums(scores, segment) / torch.bincount(segment), self.temperature)
        if self.rounding == "per_frame":
            extra = _spread(_served(int(wanted - kept), logits.float().softmax(0), wide), wide, room, segment)
            quota, per_frame = base + extra, base + extra.round().long()  # not their sum: 3 + 0.5 would be 4
        else:
            extra = _spread(_filled(wanted - kept, logits, wide), wide, room, segment)
            quota = base.double() * min(1.0, wanted / max(kept, 1)) + extra
            per_frame = largest_remainder(quota, capacity, round_half_up(wanted))
        rate = quota / capacity.clamp_min(1)
        device = tokens.frame.device
        return Budget(per_frame.to(device), self.retention_ratio, rate.to(device))

    def _warn(self, kept: int, frames: int) -> None:
        if not self.warned:
            log.warning(
                "at retention_ratio=%g the %d tokens that min_ratio=%g keeps of %d frames use up the budget, which is "
                "then the same for every question; min_ratio=%g would leave about half of it to give",
                self.retention_ratio,
                kept,
                self.min_ratio,
                frames,
                self.retention_ratio / 2,
            )
        self.warned = True


def _on_cpu(
    tokens: VisualTokens, scores: Float64[Tensor, " T"]
) -> tuple[Float64[Tensor, "T D"], Float64[Tensor, " T"], Int64[Tensor, " T"]]:
    """Features, scores and number of tokens of each frame: one table, so that the device is waited for once."""
    table = torch.cat([frame_means(tokens).double(), scores[:, None], tokens.per_frame[:, None]], dim=1).cpu()
    return normalize(table[:, :-2], dim=1), table[:, -2], table[:, -1].long()


def _spread(
    given: Float64[Tensor, " M"], wide: Int64[Tensor, " M"], room: Int64[Tensor, " T"], segment: Int64[Tensor, " T"]
) -> Float64[Tensor, " T"]:
    """What the segments are given, frame by frame. Multiplied first: so the quotient is rounded once."""
    return given[segment] * room / wide[segment].clamp_min(1)


def _filled(bonus: float, logits: Float64[Tensor, " M"], wide: Int64[Tensor, " M"]) -> Float64[Tensor, " M"]:
    """min(c·exp(logits), wide) with the c at which they sum to `bonus`; 0 where there is none."""
    if bonus <= 0:
        return torch.zeros_like(logits)
    size = wide.clamp_min(1).double().log()  # rates are per token, so that a segment's tokens are as its weight
    return wide * water_fill(logits - size, wide, torch.zeros_like(wide), bonus / int(wide.sum()))


def _served(bonus: int, weight: Float32[Tensor, " M"], wide: Int64[Tensor, " M"]) -> Float64[Tensor, " M"]:
    """The released allocation, in single precision as there. It may hand out a few tokens more than `bonus`."""
    extra = torch.zeros_like(wide)
    while bonus > 0 and (extra < wide).any():
        free = extra < wide
        share = weight * free
        share = share / share.sum() if share.sum() > NOTHING else free / free.sum()
        given = (bonus * share).round().long().minimum(wide - extra)
        if not given.any():
            best = share.argmax()
            extra[best] += min(bonus, int(wide[best] - extra[best]))
            break
        extra += given
        bonus -= int(given.sum())
    return extra.double()
