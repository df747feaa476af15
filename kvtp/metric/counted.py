"""What a cache policy costs while the prompt is read, counted beside the clock."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kvtp.backbone.base import LLMShape
from kvtp.metric._sizes import Sizes
from kvtp.pruner.base import AbstractCachePolicy


class Counted(AbstractCachePolicy):
    """Does what `policy` does, for one question. `known`: FLOPs of one layer (layers are alike), by rows and visual
    tokens among them, kept between questions.

    On the meta device, where nothing is computed, it is called once for all layers that have equally many rows: what it
    tells is then the mean over such sizes, not over layers. Methods have one size, or remember nothing there.
    """

    def __init__(self, policy: AbstractCachePolicy, shape: LLMShape, known: dict[tuple[int, int], float]) -> None:
        self.policy, self.shape, self.known = policy, shape, known
        self.watches, self.reads_queries = policy.watches, policy.reads_queries  # type: ignore[misc]
        self.seen: list[Bool[Tensor, " S"]] = []  # which rows were visual, by call
        self.left: dict[int, int] = {}  # rows after it, by rows before

    def after_prefill(
        self,
        layer: int,
        queries: Float[Tensor, "H S d"] | None,
        keys: Float[Tensor, "G S d"],
        values: Float[Tensor, "G S d"],
        visual: Bool[Tensor, " S"],
    ) -> tuple[Float[Tensor, "G n d"], Float[Tensor, "G n d"]]:
        rows = len(visual)
        self.seen.append(visual)
        if keys.is_meta and rows in self.left:
            return keys[:, : self.left[rows]], values[:, : self.left[rows]]
        if keys.is_meta:
            found = self._count(self.policy, layer, queries, keys, values, visual)
        else:
            found = self.policy.after_prefill(layer, queries, keys, values, visual)
        self.left[rows] = found[0].shape[1]
        return found

    @property
    def flops(self) -> float:
        """Matrix products of its calls so far, and of the queries made anew for them."""
        if not self.seen:
            return 0.0
        here = self.seen[0].device  # a large model's layers are on several
        counts = torch.stack([visual.sum().to(here) for visual in self.seen]).tolist()  # waits for it once
        return sum(map(self._cost, self.seen, counts))

    def _cost(self, visual: Bool[Tensor, " S"], count: int) -> float:
        sizes = len(visual), count
        if sizes not in self.known:
            queries, keys = (
                torch.empty(heads, len(visual), self.shape.head_dim, device="meta")
                for heads in (self.shape.heads, self.shape.kv_heads)
            )
            given = queries if self.reads_queries else None
            with Sizes():
                self._count(deepcopy(self.policy), 0, given, keys, torch.empty_like(keys), visual.cpu())
        return self.known[sizes]

    def _count(
        self,
        policy: AbstractCachePolicy,
        layer: int,
        queries: Tensor | None,
        keys: Tensor,
        values: Tensor,
        visual: Tensor,
    ) -> tuple[Tensor, Tensor]:
        with FlopCounterMode(display=False) as counter:
            found = policy.after_prefill(layer, queries, keys, values, visual)
        spent = float(counter.get_total_flops())
        if self.reads_queries:
            spent += 2.0 * len(visual) * self.shape.width * self.shape.heads * self.shape.head_dim
        self.known[len(visual), int(visual.sum())] = spent
        return found

    def before_decode(self, layer: int, attention_row: Float[Tensor, "H S"] | None) -> Int64[Tensor, " n"] | None:
        return self.policy.before_decode(layer, attention_row)

    def reset(self) -> None:
        self.policy.reset()

    def told(self) -> Mapping[str, float]:
        return self.policy.told()
