"""Look-M: the KV cache keeps the text and the most attended visual tokens; the others merge into what stays."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kvtp.attention import column_sums
from kvtp.errors import check_choice, check_range, check_ratio
from kvtp.pruner._pivot import MERGES, pivot_merge
from kvtp.pruner.base import AbstractCachePolicy, AbstractPruner
from kvtp.tensors import everything
from kvtp.types import Budget, Selection, VisualTokens


class LookM(AbstractPruner):
    """Wan et al., arXiv 2406.18139 (text-prior, pivotal merging), as LLM-VTP's experiments use it: the prompt runs
    whole, then the cache of each layer keeps `important_ratio` + `recent_ratio` of its rows (null = half of
    `retention_ratio` each), each head its own. `merge`: pivot, or the paper's ablations average, weighted, none.

    The released code puts text first by adding −65516 to the scores of visual tokens. In half precision this leaves
    hardly any difference between them, and ties decide; here the scores are fp32 and text is taken first, then visual
    tokens.
    """

    layers = ()
    scope = "video"

    def __init__(
        self, retention_ratio: float, important_ratio: float | None, recent_ratio: float | None, merge: str
    ) -> None:
        check_ratio(retention_ratio)
        check_choice("merge", merge, MERGES)
        important = retention_ratio / 2 if important_ratio is None else important_ratio
        recent = retention_ratio / 2 if recent_ratio is None else recent_ratio
        check_range("important_ratio", important, 0, 1)
        check_range("recent_ratio", recent, 0, 1)
        if important + recent > 1:
            raise ValueError(
                f"important_ratio + recent_ratio must be at most 1, got {important} + {recent}; both are shares of the "
                "cache, and null is half of the retention ratio"
            )
        self.cache = LookMCache(important, recent, merge)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return everything(tokens)


class LookMCache(AbstractCachePolicy):
    """Of S rows, h = important·S and w = recent·S, truncated in floating point as released, layer by layer; nothing
    happens where S ≤ h + w.

    Rows are scored by the attention that they receive from all rows, a softmax of logits scaled by 1/√d (d: width of a
    key, whatever the host's scale), summed over the query heads that share their key.
    Kept are the last w rows, of the rows before them the h best, text before visual tokens, and whatever text is left:
    where more than h rows of text stand before the last w, all of it stays and the cache is larger than asked for.
    Newlines count as text. Every head keeps equally many, and positions stay as they are in the keys.
    """

    def __init__(self, important: float, recent: float, merge: str) -> None:
        self.important, self.recent, self.merge = important, recent, merge
        self.over: list[int] = []  # by layer
        self.share: list[float] = []
        self.counted: tuple[int, int] | None = None  # rows, and how many of them stay whatever their score

    def after_prefill(
        self,
        layer: int,
        queries: Float[Tensor, "H S d"] | None,
        keys: Float[Tensor, "G S d"],
        values: Float[Tensor, "G S d"],
        visual: Bool[Tensor, " S"],
    ) -> tuple[Float[Tensor, "G n d"], Float[Tensor, "G n d"]]:
        if layer == 0:
            self.over, self.share, self.counted = [], [], None
        if queries is None:
            raise ValueError("queries must be given to score a cache, got None; a policy gets them by reads_queries")
        rows = keys.shape[1]
        important, recent = int(rows * self.important), int(rows * self.recent)
        if rows > important + recent:
            received = column_sums(queries, keys, keys.shape[2] ** -0.5)
            older = visual & (torch.arange(rows, device=visual.device) < rows - recent)
            if self.counted is None or self.counted[0] != rows:  # waits for the device: once a question
                self.counted = rows, rows - int(older.sum())
            most = max(important + recent, self.counted[1])
            kept = _kept(received.unflatten(0, (len(keys), -1)).sum(1), older, most)
            keys, values = pivot_merge(keys, kept, self.merge, keys, values)
        self.over.append(max(0, keys.shape[1] - important - recent))
        self.share.append(keys.shape[1] / rows)
        return keys, values

    def told(self) -> Mapping[str, float]:
        """Means over layers: rows kept beyond h + w, and the share of rows kept."""
        layers = len(self.share)
        if layers == 0:
            return {}
        return {"cache_rows_over_budget": sum(self.over) / layers, "cache_share": sum(self.share) / layers}


def _kept(scores: Float[Tensor, "G S"], older: Bool[Tensor, " S"], count: int) -> Int64[Tensor, "G n"]:
    """`count` rows, ascending: all that are no `older` visual tokens, then the best of these (ties: the earlier)."""
    best = scores.masked_fill(~older, torch.inf).argsort(dim=1, descending=True, stable=True)
    return best[:, :count].sort(dim=1).values
