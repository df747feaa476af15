"""HoliTom: what stands still through a stretch of the film is told once; of the rest the most attended tokens stay."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.budget._rounding import round_up
from kvtp.errors import check_choice, check_range, check_ratio, check_whole
from kvtp.pruner._density import density_peaks, squared_distances
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner._temporal import cells, through_time
from kvtp.pruner._windows import windows
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import cue, ranking, slots, starts
from kvtp.types import Budget, Selection, VisualTokens


class HoliTom(AbstractPruner):
    """Shao et al., arXiv 2505.21334, in the form of its released code: the outer module, before the LLM, which
    Vista-LLM's tables call HoliTom. Its inner merge ("+M"), inside the LLM, is no part of this.

    A cell is still between two frames where the cosine of its tokens is above `tau`. The film is cut into windows (up
    to `window_max` frames) in which most tokens are repetitions of still cells (`windows`). With these out of the
    count, everything keeps r' = min(r / (share of tokens left), 1), so that about r·K stay in all:
    * static: the cells still throughout a window become their mean over its frames. round(n·r') (half to even) of
      these n are centres by density peaks; a density comes from the `neighbours` nearest of the n, itself among them,
      but from no more than there are centres. Each other one joins the nearest centre (Euclid):
      `beta`·centre + (1 − `beta`)·mean of the joined. A centre stands in its cell of the window's first frame.
    * dynamic: of the n others of each frame the ⌈n·r'⌉ with the highest received attention stay, the rest is dropped.
    The total depends on the content: rounding up makes it a few percent more than r·K; a film so still that its static
    and dynamic tokens are fewer than r·K together keeps all of these (r' = 1), and no more.

    variant: paper = tokens in raster order, as the released code has it for hosts with a newline per row; official =
    as for the others: of each window the static tokens first, then the dynamic ones of all its frames. The tokens are
    the same, but a host with a newline per row may end a row of `official` twice (28 newlines instead of 24 for 37
    tokens of 8 frames of 4 × 4). Not reproduced: the noise that breaks ties of densities (here the earlier cell), D > 0
    (fails there), and that r' of a film is r of the next one in the same call.
    A cell that is empty in one of two frames is not still between them.
    """

    scope = "video"
    cues = frozenset({"received_attention"})

    def __init__(
        self,
        retention_ratio: float,
        tau: float,
        beta: float,
        neighbours: int,
        window_max: int,
        variant: str,
        positions: Positions,
    ) -> None:
        check_ratio(retention_ratio)
        check_range("tau", tau, -1, 1)
        check_range("beta", beta, 0, 1)
        check_whole("neighbours", neighbours, 1)
        check_whole("window_max", window_max, 1)
        check_choice("variant", variant, ("paper", "official"))
        self.retention_ratio = retention_ratio
        self.tau = tau
        self.beta = beta
        self.neighbours = neighbours
        self.window_max = window_max
        self.variant = variant
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        attention = cue(tokens, "received_attention").float()
        device = attention.device
        held = _held(tokens)
        there, still = torch.stack([held >= 0, _similarity(tokens) > self.tau]).cpu()  # waits for the device: once
        first, length, static = windows(still, self.window_max)
        window = torch.repeat_interleave(length)  # of each frame
        repeated = int(((length - 1) * static.sum(1)).sum())
        ratio = min(self.retention_ratio / ((len(tokens) - repeated) / len(tokens)), 1)

        moving = there & ~static[window]
        dynamic = _most_received(attention, moving, round_up(moving.sum(1).double() * ratio), tokens)
        centres = (static.sum(1).double() * ratio).round().long()
        source, features = self._told_once(tokens.features, held, first, length, static, centres)

        rows = torch.cat([source, dynamic])
        order = rows.argsort()
        if self.variant == "official":
            part = 2 * window.to(device)[tokens.frame[rows]]
            part[len(source) :] += 1
            order = order[part[order].argsort(stable=True)]
        index = rows[order]
        kept = tokens.features.index_select(0, index)
        kept[order.argsort()[: len(source)]] = features.to(kept.dtype)
        return Selection(index, kept)

    def _told_once(
        self,
        features: Float[Tensor, "K D"],
        held: Int64[Tensor, "T N"],
        first: Int64[Tensor, " W"],
        length: Int64[Tensor, " W"],
        static: Bool[Tensor, "W N"],
        centres: Int64[Tensor, " W"],
    ) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n D"]]:
        """Rows that the `centres` of each window take, and what stands in them. The windows are on the CPU."""
        some = centres > 0
        if not some.any():
            return held.new_empty(0), features.new_empty(0, features.shape[1], dtype=torch.float32)
        first, length, static, centres = first[some], length[some], static[some], centres[some]
        count = static.sum(1)
        most = int(count.max())
        window, cell = static.nonzero().unbind(1)
        place = (window * most + slots(count, len(window))[1]).to(held.device)  # windows padded to `most`, one by one

        one, nth = slots(length[window], int(length[window].sum()))
        member = held[(first[window[one]] + nth).to(held.device), cell[one].to(held.device)]
        mean = features.new_zeros(len(first) * most, features.shape[1], dtype=torch.float32)
        mean[place] = embedding_bag(member, features.float(), starts(length[window]).to(held.device), mode="mean")
        source = held.new_zeros(len(mean))
        source[place] = held[first[window].to(held.device), cell.to(held.device)]

        there = (torch.arange(most) < count[:, None]).to(held.device)
        centre, merged = self._clustered(mean.view(len(first), most, -1), there, centres, place)
        return source[centre], merged

    def _clustered(
        self,
        points: Float[Tensor, "B M D"],
        there: Bool[Tensor, "B M"],
        centres: Int64[Tensor, " B"],
        place: Int64[Tensor, " n"],
    ) -> tuple[Int64[Tensor, " c"], Float[Tensor, "c D"]]:
        """Places (b·M + m) of the centres, ascending, and the centres with what joined them. `place`: of all points
        that are `there`. `centres`, at least one for each b, are on the CPU."""
        batch, most, width = points.shape
        squared = squared_distances(points)
        score = squared.new_empty(batch, most, dtype=torch.float64)
        near = centres.clamp_max(self.neighbours)
        for count in near.unique().tolist():  # few numbers, mostly one
            alike = (near == count).nonzero().squeeze(1).to(place.device)
            score[alike] = density_peaks(squared[alike], there[alike], count, itself=True, far="all")
        order = score.argsort(dim=1, descending=True, stable=True)
        which, nth = slots(centres.to(place.device), int(centres.sum()))
        centre = (which * most + order[which, nth]).sort().values

        chosen = torch.zeros(batch * most, dtype=torch.bool, device=place.device).index_fill_(0, centre, True)
        nearest = squared.masked_fill(~chosen.view(batch, 1, most), torch.inf).argmin(2).flatten()[place]
        leader = torch.where(chosen[place], place, place // most * most + nearest)
        leader, nth = leader.sort(stable=True)
        member = place[nth]
        size = torch.zeros(batch * most, dtype=torch.int64, device=place.device)
        size.index_add_(0, leader, torch.ones_like(leader))
        joined = size[leader] - 1
        weight = torch.where(member == leader, self.beta, (1 - self.beta) / joined.clamp_min(1))
        weight = torch.where(joined > 0, weight, 1).float()
        begin = starts(size[centre])
        return centre, embedding_bag(member, points.view(-1, width), begin, per_sample_weights=weight, mode="sum")


def _held(tokens: VisualTokens) -> Int64[Tensor, "T N"]:
    """The row of the token in each cell of each frame; −1 = none."""
    rows, columns = tokens.grid
    held = torch.full((tokens.frames, rows * columns), -1, device=tokens.frame.device)
    held[tokens.frame, cells(tokens)] = torch.arange(len(tokens), device=held.device)
    return held


def _similarity(tokens: VisualTokens) -> Float[Tensor, "T N"]:
    """Cosine of the token in each cell with the one in the next frame; −∞ where there are not both."""
    order, cosine = through_time(tokens, torch.arange(tokens.frames, device=tokens.frame.device))
    frame = tokens.frame[order]
    similarity = torch.full((tokens.frames, tokens.grid[0] * tokens.grid[1]), -torch.inf, device=order.device)
    similarity[frame[:-1], cells(tokens)[order[:-1]]] = cosine.masked_fill(frame.diff() != 1, -torch.inf)
    return similarity


def _most_received(
    attention: Float[Tensor, " K"], among: Bool[Tensor, "T N"], granted: Int64[Tensor, " T"], tokens: VisualTokens
) -> Int64[Tensor, " n"]:
    """Rows of the `granted` most attended tokens of each frame; `among` and `granted` are on the CPU."""
    device = attention.device
    scores = attention.masked_fill(~among.to(device)[tokens.frame, cells(tokens)], -torch.inf)
    frame, nth = slots(granted.to(device), int(granted.sum()))
    return starts(tokens.per_frame)[frame] + ranking(scores, tokens)[frame, nth]
