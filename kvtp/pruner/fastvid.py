"""FastVID: a film is cut into scenes; salient tokens stay, the others are merged into anchors of their scene."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cosine_similarity, embedding_bag, normalize

from kvtp.errors import check_choice, check_range, check_ratio, check_whole
from kvtp.pruner._density import density_peaks, squared_distances
from kvtp.pruner._fastvid_plan import Plan, Planner
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import by_frame, cue, ranking, slots, starts
from kvtp.types import Budget, Selection, VisualTokens

NEIGHBOURS = 4  # that a token's density is told from, itself among them
VARIANTS = ("onevision", "llava_video", "qwen2_5_vl")


class FastVID(AbstractPruner):
    """Shen et al., arXiv 2503.11187, in the three forms of its released code, which differ by the host.

    Segments: cut between frames whose cosine of `frame_feature` is below `tau`, and at the `segments_min` − 1 smallest
    (all there are, in a short film; among equals the earlier). Of the R = ⌊r·N⌋ tokens of each frame, a share
    `context_ratio` is for anchors. The others are salient: the most attended (`probe_attention`), kept as they are. The
    last frame of a segment and each `anchor_step`-th before it hold its anchors: density peaks of their tokens that are
    not salient. For each of these frames alone, all tokens of the segment that are not salient go to the anchor of
    largest cosine; an anchor a with n tokens of mean m becomes w·a + (1 − w)·m, w = max(1/(n + 1), `beta`).

    variant: onevision = both numbers rounded down per frame, anchors of a segment shared equally, what is left over is
    lost; an anchor is among the tokens that go to it. llava_video = rounded per segment, and shared with nothing left
    over (salient tokens: the first frames get one more, anchors: the last); anchors do not go to those of their own
    frame. qwen2_5_vl = so too, at least one anchor a segment; of a run of frames whose next is as like as `ignore`
    only the last keeps tokens: it shares the segment's number with the other such frames, up to half its tokens as
    anchors and the rest salient, which in a film where little moves leaves fewer than r·N·T.

    Where the released code fails: short films, single frames, any grid, a different number of tokens in each frame, and
    fewer than four tokens to find peaks among go by the same rules; a frame has no more anchors than it has tokens that
    are not salient, which for onevision and llava_video leaves fewer than r·N·T for r above about 0.45. Equal scores
    are ranked by place (released: at random); nothing is counted for newlines, which are the host's.
    """

    scope = "video"
    cues = frozenset({"probe_attention", "frame_feature"})

    def __init__(
        self,
        retention_ratio: float,
        segments_min: int,
        tau: float,
        context_ratio: float,
        anchor_step: int,
        beta: float,
        ignore: float,
        variant: str,
        positions: Positions,
    ) -> None:
        check_ratio(retention_ratio)
        check_whole("segments_min", segments_min, 1)
        check_range("tau", tau, -1, 1)
        check_range("context_ratio", context_ratio, 0, 1)
        check_whole("anchor_step", anchor_step, 1)
        check_range("beta", beta, 0, 1)
        check_range("ignore", ignore, -1, 1)
        check_choice("variant", variant, VARIANTS)
        self.plan = Planner(retention_ratio, segments_min, tau, context_ratio, anchor_step, ignore, variant)
        self.beta = beta
        self.joins_itself = variant == "onevision"
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        scene, attention = cue(tokens, "frame_feature").float(), cue(tokens, "probe_attention").float()
        likeness = cosine_similarity(scene[:-1], scene[1:], dim=1)
        count, likeness = tokens.per_frame.cpu(), likeness.cpu()  # waits for the device: once for all that follows
        plan = self.plan(count, likeness)
        first = starts(count).to(tokens.frame.device)

        frame, nth = slots(plan.salient.to(first.device), int(plan.salient.sum()))
        salient = first[frame] + ranking(attention, tokens)[frame, nth]
        rest = torch.ones(len(tokens), dtype=torch.bool, device=first.device)
        rest[salient] = False
        if not len(plan.holders):
            return Selection(salient.sort().values)

        anchors, merged = self._merged(tokens.features.float(), _peaks(tokens, rest, first, plan), rest, plan)
        index, order = torch.cat([salient, anchors]).sort()
        features = tokens.features[index]
        features[order.argsort()[len(salient) :]] = merged.to(features.dtype)
        return Selection(index, features)

    def _merged(
        self, features: Float[Tensor, "K D"], anchors: Int64[Tensor, "B n"], rest: Bool[Tensor, " K"], plan: Plan
    ) -> tuple[Int64[Tensor, " total"], Float[Tensor, "total D"]]:
        """The rows of the anchors without the padding, and what becomes of them."""
        device, total = features.device, int(plan.anchors.sum())
        amount = plan.anchors.to(device)
        holder, nth = slots(amount, total)
        row = anchors[holder, nth]
        held_by = torch.full((len(features),), -1, device=device)
        held_by[row] = holder
        padding = torch.arange(anchors.shape[1], device=device) >= amount[:, None]
        begin, direction = starts(amount), normalize(features[anchors], dim=2)

        tokens, goals = [], []
        for rows, holders, most in plan.blocks:
            # of the tokens themselves only directions count: their lengths do not change which anchor is nearest
            near = (features[rows] @ direction[holders, :most].flatten(0, 1).mT).unflatten(1, (-1, most))
            goal = begin[holders] + near.masked_fill_(padding[holders, :most], -torch.inf).argmax(2)
            stays = ~rest[rows, None]
            if not self.joins_itself:
                stays = stays | (held_by[rows, None] == torch.arange(holders.start, holders.stop, device=device))
            goals.append(goal.masked_fill(stays, total).flatten())
            tokens.append(torch.arange(rows.start, rows.stop, device=device).repeat_interleave(goal.shape[1]))

        goal, order = torch.cat(goals).sort(stable=True)  # those that stay come last
        joining = plan.merging - (0 if self.joins_itself else total)
        ends = torch.searchsorted(goal, torch.arange(total + 1, device=device))
        # sums without copies, and in one order on every device
        summed = embedding_bag(torch.cat(tokens)[order[:joining]], features, ends[:-1], mode="sum")
        count = ends.diff()[:, None]
        own = (1 / (count + 1)).clamp_min(self.beta)
        return row, own * features[row] + (1 - own) * summed / count.clamp_min(1)


def _peaks(
    tokens: VisualTokens, rest: Bool[Tensor, " K"], first: Int64[Tensor, " T"], plan: Plan
) -> Int64[Tensor, "B n"]:
    """The rows of each holder's anchors, the highest density peak first; what follows them is padding."""
    holders = plan.holders.to(first.device)
    there = by_frame(rest, tokens)[holders]
    squared = squared_distances(by_frame(tokens.features, tokens)[holders])
    peaks = density_peaks(squared, there, NEIGHBOURS, itself=True, far="all")
    place = peaks.argsort(dim=1, descending=True, stable=True)[:, : int(plan.anchors.max())]
    nth = torch.arange(place.shape[1], device=place.device)
    return first[holders, None] + place.masked_fill(nth >= plan.anchors.to(place.device)[:, None], 0)
