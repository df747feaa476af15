"""FrameFusion: a patch that looks as in the frame before merges into it; then the least attended tokens go."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.errors import check_range, check_ratio
from kvtp.pruner._temporal import through_time
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import everything, most_attended, starts
from kvtp.types import Budget, Selection, VisualTokens


class FrameFusion(AbstractPruner):
    """Fu et al., arXiv 2501.01986, as its released code has it: merging before the first layer and after the attention
    of each one, then one pruning, and nothing from there on. The mean over the layers of the share of visual tokens
    that enter them is `cost`.

    Merging: every token whose cosine with the token before it in its patch (row, column) is at least `similarity` joins
    it; a chain of them becomes its mean, each token alive weighing the same whatever it was made of, in the place of
    its earliest frame. If that would take more than the cost asks for, only the ⌊excess⌋ most similar ones (ties: the
    earlier patch, then frame) do, and all is done. A call that merges less than `min_merge_ratio` of the tokens is the
    last one: the next one prunes to what each layer still to come may have, by what the prompt's last row attended in
    the layer run last, mean over heads (ties: the earlier first).

    What earlier calls did is read from `tokens.history`, which cannot tell a merge to the threshold that happened to
    take ⌊excess⌋ tokens from one cut short there: both count as the end (the released code goes on after the former;
    less than one token per layer is at stake). Otherwise the released code differs in this: every model has 28 layers;
    it compares and averages in the model's precision (here fp32), in bf16 miscounting chains of more than 256; newline
    tokens are visual and merge too (here they are the host's); Qwen2-VL's attention is averaged over four rows (here
    one). `similarity` is its value for LLaVA-Video.

    Raises ValueError if the layers already run have used more than `cost`.
    """

    layers = "all"
    site = "attention"
    at_input = True
    scope = "video"
    positions = "keep"
    cues = frozenset({"last_attention"})

    def __init__(self, cost: float, similarity: float, min_merge_ratio: float) -> None:
        check_ratio(cost)
        check_range("similarity", similarity, -1, 1)
        check_range("min_merge_ratio", min_merge_ratio, 0, 1)
        self.cost = cost
        self.similarity = similarity
        self.min_merge_ratio = min_merge_ratio

    def reads(self, tokens: VisualTokens) -> frozenset[str]:
        return self.cues if self._phase(tokens.history, tokens.depth) == "prune" else frozenset()

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        if not tokens.depth or not tokens.history:
            raise ValueError(
                f"depth must be at least 1 and history begin with the tokens at layer 0, got {tokens.depth} and "
                f"{tokens.history}; the backbone has to tell them"
            )
        phase = self._phase(tokens.history, tokens.depth)
        if phase == "merge":
            return self._merge(tokens)
        if phase == "prune":
            return self._prune(tokens)
        return everything(tokens)

    def _phase(self, history: Sequence[int], depth: int) -> Literal["merge", "prune", "done"]:
        """What the call after these has to do."""
        if len(history) > depth:  # no layer's attention follows
            return "done"
        phase: Literal["merge", "prune"] = "merge"
        for call in range(1, len(history)):
            before = history[call - 1]
            gone = before - history[call]
            if phase == "prune" or gone == self._excess(history[:call], depth):
                return "done"
            if gone / before < self.min_merge_ratio:
                phase = "prune"
        return phase

    def _excess(self, history: Sequence[int], depth: int) -> int:
        """How many tokens have to go for the layers still to come to meet the cost as they are."""
        return math.floor(max(0, history[-1] - allowance(history, self.cost, depth)))

    def _merge(self, tokens: VisualTokens) -> Selection:
        excess = self._excess(tokens.history, tokens.depth)
        if not excess:
            return everything(tokens)
        order, cosine = through_time(tokens, torch.arange(tokens.frames, device=tokens.frame.device))
        similarity = torch.cat([cosine.new_full((1,), -torch.inf), cosine])  # with the token before
        nearest = similarity.argsort(descending=True, stable=True)[:excess]
        joins = torch.zeros_like(similarity, dtype=torch.bool)
        joins[nearest] = similarity[nearest] >= self.similarity
        return _fused(tokens, order, joins)

    def _prune(self, tokens: VisualTokens) -> Selection:
        return most_attended(tokens, round(allowance(tokens.history, self.cost, tokens.depth)))


def allowance(history: Sequence[int], cost: float, depth: int) -> float:
    """Visual tokens that each layer still to come may have, so that the mean over all is `cost` of those at layer 0.

    With s = Π(1 − q) of the sparsities q of earlier calls the released code has it as a share of the tokens alive:
    1 − need = (depth·cost − Σ s) / ((depth − calls)·s). ValueError if earlier layers have used more than all.
    """
    run = len(history) - 1
    used = sum(history[1:])
    left = cost * depth * history[0] - used
    if left < 0:
        least = math.ceil(1e4 * used / (depth * history[0])) / 1e4
        raise ValueError(
            f"retention_ratio must be in [{least}, 1] for this video, got {cost}: that much has passed through the "
            f"first {run} of {depth} layers; keep more, or merge more by a lower pruner.similarity"
        )
    return left / (depth - run)


def _fused(tokens: VisualTokens, order: Int64[Tensor, " K"], joins: Bool[Tensor, " K"]) -> Selection:
    """Each token that does not join the one before it in the given order, averaged with those that follow and do."""
    stays = ~joins
    leader, member = order[stays][stays.cumsum(0) - 1].sort(stable=True)
    index, size = leader.unique_consecutive(return_counts=True)
    if len(index) == len(tokens):
        return everything(tokens)
    return Selection(index, embedding_bag(order[member], tokens.features.float(), starts(size), mode="mean"))
