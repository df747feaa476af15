"""What a cache policy costs while the prompt is read, counted once per number of rows."""

from collections.abc import Mapping

from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kvtp.backbone.base import LLMShape
from kvtp.pruner.base import AbstractCachePolicy


class Counted(AbstractCachePolicy):
    """Does what `policy` does. `flops`: matrix products of its calls during the prefill, and of the queries made anew
    for it; `known`: those of one layer, by rows, kept between questions (layers are alike).

    On the meta device, where nothing is computed, it is called once for all layers that have equally many rows: what it
    tells is then the mean over such sizes, not over layers. Methods have one size, or remember nothing there.
    """

    def __init__(self, policy: AbstractCachePolicy, shape: LLMShape, known: dict[int, float]) -> None:
        self.policy, self.known = policy, known
        self.watches, self.reads_queries = policy.watches, policy.reads_queries  # type: ignore[misc]
        self.query = 2.0 * shape.width * shape.heads * shape.head_dim if policy.reads_queries else 0.0
        self.flops = 0.0
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
        if keys.is_meta and rows in self.left:
            found = keys[:, : self.left[rows]], values[:, : self.left[rows]]
        elif rows in self.known:
            found = self.policy.after_prefill(layer, queries, keys, values, visual)
        else:
            with FlopCounterMode(display=False) as counter:
                found = self.policy.after_prefill(layer, queries, keys, values, visual)
            self.known[rows] = rows * self.query + counter.get_total_flops()
        self.flops += self.known[rows]
        self.left[rows] = found[0].shape[1]
        return found

    def before_decode(self, layer: int, attention_row: Float[Tensor, "H S"] | None) -> Int64[Tensor, " n"] | None:
        return self.policy.before_decode(layer, attention_row)

    def reset(self) -> None:
        self.policy.reset()

    def told(self) -> Mapping[str, float]:
        return self.policy.told()
