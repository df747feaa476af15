"""DyCoke: frames keep what is new in them; while the reply is written, upper layers see few visual tokens."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cosine_similarity

from kvtp.budget._rounding import SLACK
from kvtp.errors import check_range, check_ratio, check_whole
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner._temporal import through_time
from kvtp.pruner.base import AbstractCachePolicy, AbstractPruner
from kvtp.tensors import top_per_frame
from kvtp.types import Budget, Selection, VisualTokens

STILL = 0.9  # cosine of two steps' attention from which on nothing is hidden


class DyCoke(AbstractPruner):
    """Tao et al., arXiv 2411.15024, in the form of its released code.

    Before the LLM, in windows of four frames, the second is compared with the first, the third with the first, the
    fourth with the third, and keeps the tokens that are least similar (cosine) to the same cell there; nothing is
    merged. References are the frames as they came. Whole stay the first of each window and, as released, the third of
    the last window where the film ends with a full one.
    `merge_ratio` k: a compared frame keeps trunc((1 − k)·n) of its n tokens, whatever the retention ratio; null = as
    many (the same number in each, or all that it has) as fit r·K tokens in all. Below the share of the whole frames
    that is refused.
    `decode_layer`, `decode_ratio`: see `DyCokeCache`; `decode_layer` null = all is seen while the reply is written.

    Where the released code fails or drops a frame: films of up to four frames, or of an odd number, go by the same
    rule; a token whose cell is empty in the reference counts as least similar of all; a single frame, which nothing
    can be compared with, stays whole at any ratio. Kept tokens are in raster order (released: by similarity).
    """

    scope = "video"

    def __init__(
        self,
        retention_ratio: float,
        merge_ratio: float | None,
        decode_layer: int | None,
        decode_ratio: float,
        positions: Positions,
    ) -> None:
        check_ratio(retention_ratio)
        if merge_ratio is not None:
            check_range("merge_ratio", merge_ratio, 0, 1)
        if decode_layer is not None:
            check_whole("decode_layer", decode_layer, 1)
        check_range("decode_ratio", decode_ratio, 0, 1)
        self.retention_ratio = retention_ratio
        self.merge_ratio = merge_ratio
        self.cache = None if decode_layer is None else DyCokeCache(decode_layer, decode_ratio)
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        count = tokens.per_frame.cpu()  # waits for the device: once for all that follows
        compared = _compared(tokens.frames)
        granted = count.clone()
        granted[compared] = self._granted(count, compared)
        granted = granted.to(tokens.frame.device)
        return Selection(top_per_frame(_novelty(tokens), tokens, replace(budget, per_frame=granted)))

    def _granted(self, count: Int64[Tensor, " T"], compared: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """How many tokens each compared frame keeps."""
        size = count[compared]
        if self.merge_ratio is not None:
            return (size.double() * (1 - self.merge_ratio)).trunc().long()
        if not size.any():
            return size
        whole, every = int(count.sum() - size.sum()), int(count.sum())
        room = math.floor(self.retention_ratio * every + SLACK) - whole
        if room < 0:
            floor = math.ceil(1e4 * whole / every - SLACK) / 1e4  # not below it, so that it can be asked for
            raise ValueError(
                f"retention_ratio must be in [{floor}, 1] for these {len(count)} frames, "
                f"{len(count) - len(compared)} of which stay whole, got {self.retention_ratio}; "
                "choose one of these, or set pruner.merge_ratio"
            )
        each = torch.arange(int(size.max()) + 1)
        most = int((torch.minimum(each[:, None], size).sum(1) <= room).sum()) - 1
        return size.clamp_max(most)


class DyCokeCache(AbstractCachePolicy):
    """While the reply is written, layers from `layer` on attend to a share 1 − `ratio` of the visual tokens: the last
    one, trunc((1 − ratio)·(K − 1)) of the others, and all that is not visual. Chosen at each step by the attention of
    the token being written in the layer before, mean over heads; newlines are not visual.

    Where this attention resembles the step before (cosine from 0.9 on; a reply's first step has none before it) the
    step attends to everything, as released. All rows stay stored: what one step hides the next may see.
    """

    reads_queries: ClassVar[bool] = False

    def __init__(self, layer: int, ratio: float) -> None:
        self.layer, self.ratio = layer, ratio
        self.watches = frozenset({layer - 1})
        self.visual: Int64[Tensor, " K"] | None = None  # rows of the cache
        self.before: Float[Tensor, " V"] | None = None  # attention in the step before
        self.visible: Int64[Tensor, " n"] | None = None
        self.steps, self.seeing_all = 0, 0

    def after_prefill(
        self,
        layer: int,
        queries: Float[Tensor, "H S d"] | None,
        keys: Float[Tensor, "G S d"],
        values: Float[Tensor, "G S d"],
        visual: Bool[Tensor, " S"],
    ) -> tuple[Float[Tensor, "G n d"], Float[Tensor, "G n d"]]:
        if layer == 0:
            self.reset()
            self.steps, self.seeing_all = 0, 0
        if layer == self.layer - 1:
            self.visual = visual.nonzero().squeeze(1)
        return keys, values

    def before_decode(self, layer: int, attention_row: Float[Tensor, "H S"] | None) -> Int64[Tensor, " n"] | None:
        if layer < self.layer:
            return None
        if layer == self.layer:
            if attention_row is None or self.visual is None:
                raise ValueError(f"layer {layer} must be told the attention of layer {layer - 1}, and its prefill")
            self.visible = self._look(attention_row, self.visual[:-1])
            self.steps += 1
            self.seeing_all += self.visible is None
        return self.visible

    def _look(self, attention_row: Float[Tensor, "H S"], ranked: Int64[Tensor, " V"]) -> Int64[Tensor, " n"] | None:
        """What this step sees; `ranked`: visual tokens that may be hidden."""
        attention, before = attention_row[:, ranked].float().mean(0), self.before
        self.before = attention
        shown = int((1 - self.ratio) * len(ranked))
        if shown == len(ranked) or (before is not None and cosine_similarity(attention, before, dim=0) >= STILL):
            return None
        best = attention.argsort(descending=True, stable=True)[:shown]
        seen = torch.ones(attention_row.shape[1], dtype=torch.bool, device=ranked.device)
        seen[ranked] = False
        seen[ranked[best]] = True
        return seen.nonzero().squeeze(1)

    def reset(self) -> None:
        self.before, self.visible = None, None

    def told(self) -> Mapping[str, float]:
        """Share of the steps that attended to everything; nothing where no step was made."""
        return {"steps_seeing_all": self.seeing_all / self.steps} if self.steps else {}


def _compared(frames: int) -> Int64[Tensor, " n"]:
    """Frames that are compared with another one; the others stay whole."""
    frame = torch.arange(frames)
    third = (frame % 4 == 2) & (frame != frames - 2)
    return ((frame % 2 == 1) | third).nonzero().squeeze(1)


def _novelty(tokens: VisualTokens) -> Float[Tensor, " K"]:
    """Minus the cosine of each token and the one in its cell of the frame that its frame is compared with; infinite
    where there is none. What it says of frames that stay whole does not matter."""
    frame = torch.arange(tokens.frames, device=tokens.frame.device)
    # 1 0 2 3 of each window: so each is beside the one that it is compared with; then a gap
    turn = (frame ^ (frame % 4 < 2)) + frame // 4
    order, cosine = through_time(tokens, turn)
    beside = turn[tokens.frame[order]].diff() == 1
    novelty = torch.full((len(tokens),), torch.inf, device=order.device)
    later = torch.maximum(order[1:], order[:-1])
    return novelty.scatter_reduce_(0, later, torch.where(beside, -cosine, torch.inf), "amin")
