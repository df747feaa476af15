"""PruMerge, PruMerge+: outliers of the class token's attention stay, with their neighbours; the rest becomes one."""

import sys

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.budget._rounding import round_down
from kvtp.errors import check_choice, check_range, check_whole
from kvtp.pruner._neighbours import enriched, likeness
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import by_frame, cue, present, ranking, slots, starts
from kvtp.types import Budget, Selection, VisualTokens

FENCE = 1.5  # interquartile ranges above the third quartile


class PruMergePlus(AbstractPruner):
    """Shang et al., arXiv 2403.15388, with its released code (commit 097c041), each frame by itself, before the LLM;
    the pictures of a batch share one c/N in the code. The budget does not bind it.

    Of a frame's N tokens stay the c that are most attended: those whose attention exceeds the third quartile by more
    than 1.5 interquartile ranges (`ratio` null), or ⌊N·ratio⌋. `spatial` (PruMerge+) adds a grid: every s-th token of
    the first N − 1. Adaptive: s = ⌊⌊N/c⌋/3⌋, from the first token on; with a `ratio`: s = ⌊1/ratio⌋, from ⌊s/2⌋ on (the
    released code may keep a token twice there). y_i = x_i + Σ a_j·x_j over the `neighbours` tokens j ≠ i of the frame,
    kept or not, nearest by cosine of the keys. After each frame one more token: Σ a_j·x_j over what was dropped.

    Where the code fails: without any outlier the most attended token is taken for one, also where ⌊N·ratio⌋ is 0; a
    stride of 0 (more than a third are outliers) is 1. At stride 1 (adaptive: more than a sixth are) all stay, but
    possibly for the last one; a frame that loses nothing gets no token for what was dropped. Rows are in raster order
    (the code's: by attention, then the grid).

    Attention and keys are those of the last block that runs, as all cues of a tower are. The code reads them one block
    later, in the block that features of the last but one layer would enter next and that no host runs.
    """

    scope = "video"
    cues = frozenset({"cls_attention", "tower_keys_full"})

    def __init__(self, ratio: float | None, neighbours: int, spatial: bool, positions: Positions) -> None:
        if ratio is not None:
            check_range("ratio", ratio, sys.float_info.min, 1)
        check_whole("neighbours", neighbours, 0)
        check_choice("spatial", spatial, (True, False))
        self.ratio = ratio
        self.neighbours = neighbours
        self.spatial = spatial
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        attention, features = cue(tokens, "cls_attention").float(), tokens.features.float()
        kept = self._kept(attention, tokens)
        count, dropped = kept.sum(1), tokens.per_frame - kept.sum(1)
        counts, frames_left = count.tolist(), (dropped > 0).nonzero().squeeze(1)

        frame, nth = slots(count, sum(counts))
        chosen = (~kept).long().argsort(dim=1, stable=True)[:, : max(counts)]  # ascending; what follows is padding
        first = starts(tokens.per_frame)
        row = first[frame] + chosen[frame, nth]
        similarity = likeness(cue(tokens, "tower_keys_full"), chosen, tokens)
        nearest = similarity.topk(min(self.neighbours, similarity.shape[2] - 1), dim=2)
        near = nearest.values[frame, nth], nearest.indices[frame, nth]
        merged = enriched(features, attention, row, first[frame], *near)

        every, left = torch.arange(len(tokens), device=row.device), attention.index_fill(0, row, 0)
        rest = embedding_bag(every, features, first, per_sample_weights=left, mode="sum")[frames_left]
        index = torch.cat([row, row.new_full((len(frames_left),), -1)])
        order = torch.cat([frame, frames_left]).argsort(stable=True)  # the token for what was dropped closes its frame
        return Selection(index[order], torch.cat([merged, rest])[order])

    def _kept(self, attention: Float[Tensor, " K"], tokens: VisualTokens) -> Bool[Tensor, "T N"]:
        size = tokens.per_frame
        if self.ratio is None:
            most = _outliers(attention, tokens).clamp_min(1)
            stride, first = (size // most // 3).clamp_min(1)[:, None], 0
        else:
            most = round_down(size.double() * self.ratio).clamp_min(1)
            stride = torch.full_like(size, int(1 / self.ratio))[:, None]
            first = int(1 / self.ratio) // 2
        kept = ranking(attention, tokens).argsort(dim=1) < most[:, None]
        if self.spatial:
            place = torch.arange(kept.shape[1], device=kept.device)
            kept |= (place >= first) & ((place - first) % stride == 0) & (place < size[:, None] - 1)
        return kept & present(tokens)


def _outliers(attention: Float[Tensor, " K"], tokens: VisualTokens) -> Int64[Tensor, " T"]:
    """Tokens of each frame that are attended far more than the others (Tukey's fence)."""
    values = by_frame(attention, tokens, fill=torch.nan)
    low, high = values.nanquantile(values.new_tensor([0.25, 0.75]), dim=1)
    return (values > (high + FENCE * (high - low))[:, None]).sum(1)
