"""LLM-VTP: the visual tokens of each frame that the question attends to most, at one layer of the language model."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kvtp.budget._rounding import round_down, round_up
from kvtp.errors import check_choice, check_ratio, check_whole
from kvtp.pruner._pivot import pivot_merge
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import cue, top_per_frame
from kvtp.types import Budget, Selection, VisualTokens

POOL = {"max": Tensor.amax, "mean": Tensor.mean, "min": Tensor.amin}
CUE = {"rope": "question_attention", "plain": "question_attention_plain"}


class LLMVTP(AbstractPruner):
    """LLM-VTP: LLM-Reasoned Visual Token Pruning (anonymous, under review), §3.2: of each frame's N_t tokens the
    ⌈alpha·N_t⌉ that the question attends to most stay (Eq. 4–6); the caches of the layers already run forget the others
    (Eq. 7–8). PruneVid, arXiv 2412.16117, is its released successor; its merging before the LLM is not part of this.

    layer: M, counted from 1: the attention of the M-th layer ranks, and the cut is after M whole layers; after the last
        one it only compresses the caches. (PruneVid counts `selected_layer` from 0: its i is layer i + 1 here.)
    alpha: the share kept.
    scope: where tokens are ranked (table 5): `frame`, or `video` = ⌈alpha·K⌉ of all.
    head_pool, query_pool: heads are pooled first (table 6), then the question's rows; the paper does not say in which
        order. PruneVid takes the `max` over rows.
    attention: `rope` = as the layer attends (Eq. 3); `plain` = PruneVid's, without positions and mask.
    rounding: PruneVid takes the `floor`. A share that is whole but for the noise of floating point counts as whole.
    merge: dropped tokens are merged into the kept token of nearest hidden state (table 4), by LOOK-M's pivotal rule;
        the paper says no more than that. The caches are compressed without it.
    complement: keep the alpha that the question attends to least (table 10), which is what is left outside the top
        ⌈(1 − alpha)·N_t⌉; not with `merge`.
    """

    scope = "video"
    positions = "keep"
    compress_cache = True

    def __init__(
        self,
        layer: int,
        alpha: float,
        scope: str,
        head_pool: str,
        query_pool: str,
        attention: str,
        rounding: str,
        merge: bool,
        complement: bool,
    ) -> None:
        check_whole("layer", layer, 1)
        check_ratio(alpha)
        check_choice("scope", scope, ("frame", "video"))
        check_choice("head_pool", head_pool, tuple(POOL))
        check_choice("query_pool", query_pool, ("mean", "max"))
        check_choice("attention", attention, tuple(CUE))
        check_choice("rounding", rounding, ("ceil", "floor"))
        check_choice("merge", merge, (True, False))
        check_choice("complement", complement, (True, False))
        if complement and merge:
            raise ValueError(
                "complement must be false with merge, got true; table 10 merges nothing: set one of the two to false"
            )
        self.layers = (layer,)
        self.alpha = alpha
        self.ranked = scope  # `scope` is the contract's: whatever is ranked, rates per frame do not bind
        self.head_pool, self.query_pool = head_pool, query_pool
        self.cue = CUE[attention]
        self.cues = frozenset({self.cue})
        self.rounding = rounding
        self.merge, self.complement = merge, complement

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        ranked = tokens if self.ranked == "frame" else _as_one_frame(tokens)
        granted = Budget(self._share(ranked.per_frame), self.alpha)
        scores = pooled(cue(tokens, self.cue), self.head_pool, self.query_pool)
        index = top_per_frame(scores, ranked, granted)
        if self.complement:
            rest = torch.ones_like(tokens.frame, dtype=torch.bool)
            rest[index] = False
            index = rest.nonzero().squeeze(1)
        if not self.merge or not len(index):  # a floor may leave nothing to merge into
            return Selection(index)
        return Selection(index, *pivot_merge(tokens.features, index, "pivot", tokens.features))

    def _share(self, alive: Int64[Tensor, " T"]) -> Int64[Tensor, " T"]:
        """How many of the most attended tokens are taken of each group: to be kept, or with `complement` to go."""
        quota = (1 - self.alpha if self.complement else self.alpha) * alive.double()
        return round_down(quota) if self.rounding == "floor" else round_up(quota)


def pooled(attention: Float[Tensor, "H Q K"], head_pool: str, query_pool: str) -> Float[Tensor, " K"]:
    """How much the question attends to each visual token: over heads first, then over the question's rows."""
    return POOL[query_pool](POOL[head_pool](attention.float(), 0), 0)


def _as_one_frame(tokens: VisualTokens) -> VisualTokens:
    return replace(tokens, frame=torch.zeros_like(tokens.frame), frames=1, grid=(1, len(tokens)))
