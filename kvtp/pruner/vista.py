"""Vista-LLM: what a scout finds for the question, anchors for the rest of the frame, what is near merged into both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.budget._rounding import round_down
from kvtp.errors import check_choice, check_range, check_whole
from kvtp.pruner._density import density_peaks, squared_distances
from kvtp.pruner._lot import lot
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import by_frame, cue, present, slots, starts, under
from kvtp.types import Budget, Selection, VisualTokens

CACHED = 8  # frames at a time on a CPU, whose cache holds them; an accelerator takes all at once


class Vista(AbstractPruner):
    """Vista-LLM §3.3–3.4 with its released code (lizhenyu-123/Vista-LLM, commit ec4e4a1), frame by frame, before the
    LLM. Of a budget of B_t tokens the ⌊rho·B_t⌋ with the highest scores are foveal (Eq. 7), as many of the other tokens
    as are left to grant are anchors (Eq. 8–10); each discarded token joins the nearest token that stays, which becomes
    (1 − alpha)·itself + alpha·the mean of those that joined it (Eq. 11–12). Kept tokens are in raster order.

    neighbours: K of Eq. 8, without the token itself; the paper does not give it, the code takes 7. As in the code,
        distances are divided by √D (else all densities vanish); ties go to the earlier token (there: to noise of 1e-6).
    alpha: not in the paper; the code's 0.5.
    compensation: who the anchors are (table 5 c): density peaks of the tokens that are not foveal (`dpc`), a `random`
        choice by question and `seed`, or those of the highest cosine with the frame's mean token (`representation`).
    saliency: `scout` = how much the scout's queries attend to the token (Eq. 6); `intrinsic` = how much the tokens of
        the vision tower do (table 5 a).
    aggregate: false = discarded tokens are lost (table 5 d). For Qwen2.5-VL the released code merges too, but the LLM
        never sees it: false is what it does there.
    mapping: `grid` = scores are on the token grid. `official` = patches of the scout's own square grid are ranked, and
        each stands for the token that its centre lies in. Two may stand for one, which then is granted twice and kept
        twice; its first copy takes what joins it, the second stays as it is. A patch in no token's cell is not ranked.
    """

    def __init__(
        self,
        rho: float,
        neighbours: int,
        alpha: float,
        compensation: str,
        saliency: str,
        aggregate: bool,
        mapping: str,
        seed: int,
        positions: Positions,
    ) -> None:
        check_range("rho", rho, 0, 1)
        check_whole("neighbours", neighbours, 1)
        check_range("alpha", alpha, 0, 1)
        check_choice("compensation", compensation, ("dpc", "random", "representation"))
        check_choice("saliency", saliency, ("scout", "intrinsic"))
        check_choice("aggregate", aggregate, (True, False))
        check_choice("mapping", mapping, ("grid", "official"))
        check_whole("seed", seed, 0)
        if saliency == "intrinsic" and mapping == "official":
            raise ValueError(
                "mapping must be grid with saliency=intrinsic, got 'official'; only the scout has a grid of its own"
            )
        self.rho = rho
        self.neighbours = neighbours
        self.alpha = alpha
        self.compensation = compensation
        self.aggregate = aggregate
        self.seed = seed
        self.positions = checked(positions)
        self.own_grid = mapping == "official"
        self.cue = "received_attention" if saliency == "intrinsic" else "scout_patches" if self.own_grid else "scout"
        self.cues = frozenset({self.cue})

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        near = _Nearness(tokens)
        foveal, anchors = self._chosen(near, budget)
        copies = foveal + anchors
        index = _rows(copies, tokens, budget.total)
        if not self.aggregate or not len(index):
            return Selection(index)
        return Selection(index, _aggregated(near, index, copies > 0, self.alpha))

    def parts(self, tokens: VisualTokens, budget: Budget) -> Mapping[str, Int64[Tensor, " n"]]:
        """What figure 6 shows in red and in green."""
        chosen = zip(("foveal", "anchors"), self._chosen(_Nearness(tokens), budget), strict=True)
        return {name: _rows(copies, tokens, int(copies.sum())) for name, copies in chosen}

    def _chosen(self, near: "_Nearness", budget: Budget) -> tuple[Int64[Tensor, "T N"], Int64[Tensor, "T N"]]:
        """How often each place is a foveal token, and whether it is an anchor."""
        foveal = self._foveal(near.tokens, round_down(budget.per_frame.double() * self.rho))
        candidate = present(near.tokens) & (foveal == 0)
        # never more than there are candidates: a frame is granted no more tokens than it has
        left = budget.per_frame - foveal.sum(1)
        return foveal, _highest(self._appeal(near, candidate), candidate, left).long()

    def _foveal(self, tokens: VisualTokens, share: Int64[Tensor, " T"]) -> Int64[Tensor, "T N"]:
        scores, places = cue(tokens, self.cue).float(), present(tokens)
        if not self.own_grid:
            return _highest(by_frame(scores, tokens), places, share).long()
        place = _under(scores.shape[1], tokens)
        chosen = _highest(scores, place >= 0, share)
        return torch.zeros_like(places, dtype=torch.long).scatter_add_(1, place.clamp_min(0), chosen.long())

    def _appeal(self, near: "_Nearness", candidate: Bool[Tensor, "T N"]) -> Float[Tensor, "T N"]:
        """The candidates with the highest become anchors."""
        if self.compensation == "dpc":
            return density_peaks(near.squared, candidate, self.neighbours, itself=False, far="row")
        if self.compensation == "random":
            return by_frame(lot(near.tokens, self.question_id, self.seed), near.tokens)
        towards = near.padded @ near.padded.sum(1)[:, :, None]  # the mean, up to a factor
        return towards.squeeze(2) / near.padded.norm(dim=2).clamp_min(1e-20)


@dataclass(frozen=True)
class _Nearness:
    """Features frame by frame, and their distances: made when first asked for, once for anchors and merging."""

    tokens: VisualTokens

    @cached_property
    def features(self) -> Float[Tensor, "K D"]:
        return self.tokens.features.float()

    @cached_property
    def padded(self) -> Float[Tensor, "T N D"]:
        return by_frame(self.features, self.tokens)

    @cached_property
    def squared(self) -> Float[Tensor, "T N N"]:
        at_once = CACHED if self.features.device.type == "cpu" else self.tokens.frames
        return torch.cat([squared_distances(frames) for frames in self.padded.split(at_once)])


def _highest(
    scores: Float[Tensor, "T P"], among: Bool[Tensor, "T P"], count: Int64[Tensor, " T"]
) -> Bool[Tensor, "T P"]:
    """The `count` highest of each frame, or all where fewer are `among`; ties: the earlier first."""
    order = scores.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) < count[:, None]) & among


def _under(patches: int, tokens: VisualTokens) -> Int64[Tensor, "T P"]:
    """The place in its frame of the token that the centre of each patch lies in; −1 where there is none."""
    side = math.isqrt(patches)
    if side**2 != patches:
        raise ValueError(f"scout_patches must be a square grid, got {patches} patches a frame; use mapping=grid")
    rows, columns = tokens.grid
    device = tokens.frame.device
    cell = under(side, rows, device)[:, None] * columns + under(side, columns, device)
    held = cell.new_full((tokens.frames, rows * columns), -1)
    held[tokens.frame, tokens.row * columns + tokens.column] = slots(tokens.per_frame, len(tokens))[1]
    return held[:, cell.flatten()]


def _rows(copies: Int64[Tensor, "T N"], tokens: VisualTokens, total: int) -> Int64[Tensor, " n"]:
    """The rows of the places, each as often as it says; `total` in all."""
    place = torch.arange(copies.shape[1], device=copies.device)
    row = starts(tokens.per_frame)[:, None] + place
    return torch.repeat_interleave(row.flatten(), copies.flatten(), output_size=total)


def _aggregated(
    near: _Nearness, index: Int64[Tensor, " n"], kept: Bool[Tensor, "T N"], alpha: float
) -> Float[Tensor, "n D"]:
    """Rows `index` of the features, with what is nearest to each; among equally near ones the earlier takes it."""
    tokens = near.tokens
    nearest = near.squared.masked_fill(~kept[:, None], torch.inf).argmin(2)
    joins = ~kept & kept.any(1, keepdim=True)  # where nothing is kept, everything is lost
    real = slots(tokens.per_frame, len(tokens))
    joins, host = joins[real], (starts(tokens.per_frame)[:, None] + nearest)[real]
    bag = torch.searchsorted(index, host).clamp_max(len(index) - 1)  # of the host's first copy

    size = torch.zeros(len(index), device=index.device).index_add_(0, bag, joins.float())
    itself = torch.where(size > 0, 1 - alpha, 1.0)
    member = torch.where(joins, (alpha / size)[bag], 0)
    every = torch.arange(len(tokens), device=index.device)
    bags, order = torch.cat([every[: len(index)], bag]).sort(stable=True)
    weight, row = torch.cat([itself, member])[order], torch.cat([index, every])[order]
    first = torch.searchsorted(bags, every[: len(index)])
    return embedding_bag(row, near.features, first, per_sample_weights=weight, mode="sum")
