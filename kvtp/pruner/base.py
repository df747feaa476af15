"""Stage `pruner`: tokens and a budget become a selection. A pruner never sees a model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kvtp.types import Budget, Selection, VisualTokens


class AbstractCachePolicy:
    """What a method does to the KV cache: once after a layer's prefill attention, and before every attention of a
    written token. It may remember; one object serves one question at a time.

    `watches`: layers whose attention row it wants to see at each step. `reads_queries`: whether `after_prefill` is
    given queries (the engine makes them anew, for all rows).
    """

    watches: frozenset[int] = frozenset()
    reads_queries: ClassVar[bool] = True

    def after_prefill(
        self,
        layer: int,
        queries: Float[Tensor, "H S d"] | None,
        keys: Float[Tensor, "G S d"],
        values: Float[Tensor, "G S d"],
        visual: Bool[Tensor, " S"],
    ) -> tuple[Float[Tensor, "G n d"], Float[Tensor, "G n d"]]:
        """What the layer's cache holds from now on. Queries and keys are as the attention had them, positions in them.

        `visual`: which rows are visual tokens; newlines are not."""
        return keys, values

    def before_decode(self, layer: int, attention_row: Float[Tensor, "H S"] | None) -> Int64[Tensor, " n"] | None:
        """Rows that the layer may attend to in this step, ascending, the last one the token's own; None = all.

        `attention_row`: of the token being written, in the layer before, over its S cached rows, the own one last;
        None where that layer is not among `watches`.
        """
        return None

    def reset(self) -> None:
        """A reply begins: what earlier steps left is forgotten, what `after_prefill` saw is not."""

    def told(self) -> Mapping[str, float]:
        """Figures of the question so far, by name: what happened to its caches."""
        return {}


class AbstractTowerPruner(ABC):
    """Merges patches of each picture inside the vision tower, between a block's attention and its MLP.

    `proportional`: attention counts what was merged as often as it has parts: the logarithm of its size is added to the
    logits of its key. `removed`: how many go in each block, known once it is fitted to a tower; `blocks`: where any do.
    """

    proportional: bool
    removed: tuple[int, ...]

    @property
    def blocks(self) -> tuple[int, ...]:
        return tuple(block for block, count in enumerate(self.removed) if count)

    @abstractmethod
    def fit(self, patches: int, blocks: int) -> "AbstractTowerPruner":
        """The same for a tower of which so many blocks run, on so many patches a picture (no class token among them).

        Raises Refused, naming the range, where the tower has too few blocks for what is to go."""

    @abstractmethod
    def __call__(
        self,
        states: Float[Tensor, "T P C"],
        keys: Float[Tensor, "T P c"],
        size: Float[Tensor, "T P"],
        block: int,
        protected: int = 0,
    ) -> tuple[Float[Tensor, "T n C"], Float[Tensor, "T n"], Int64[Tensor, "T n"]]:
        """The merged states, how many patches each stands for, and the row that each took the place of.

        `keys`: of the block's attention, mean over heads. `protected`: leading rows that stay (a class token)."""


class AbstractPruner(ABC):
    """Says where it acts and which cues it needs, and selects tokens. Deterministic for a seed.

    `layers`: LLM layers already run at each call (0 = before the LLM), or "all".
    `site`: `layer` = after that many whole layers; `attention` = after the next attention residual, before its MLP.
    `at_input`: also called before the first layer, where `site=attention` would never be.
    `scope`: `frame` = the budget binds frame by frame; `video` = only its total binds.
    `positions`: `keep` = kept tokens keep their position ids; `renumber` = 0 … S'−1. M-RoPE backbones always keep.
    `compress_cache`: the caches of the layers already run keep only the selected tokens.
    `cache`, `tower`: a cache policy, a pruner inside the vision tower.
    """

    layers: tuple[int, ...] | Literal["all"] = (0,)
    site: Literal["layer", "attention"] = "layer"
    at_input: bool = False
    scope: Literal["frame", "video"] = "frame"
    positions: Literal["keep", "renumber"] = "renumber"
    cues: frozenset[str] = frozenset()
    compress_cache: bool = False
    cache: AbstractCachePolicy | None = None
    tower: AbstractTowerPruner | None = None
    question_id: str = ""  # set by the pipeline before each question: what a seeded pruner draws from, with its seed

    def reads(self, tokens: VisualTokens) -> frozenset[str]:
        """Those of its `cues` that a call on these tokens would look at (their features are not there yet). Cues
        inside the LLM are made for it alone."""
        return self.cues

    def parts(self, tokens: VisualTokens, budget: Budget) -> Mapping[str, Int64[Tensor, " n"]]:
        """The rows that a call would keep, by what they are kept for, most telling first: for pictures. Empty where all
        are kept for one reason."""
        return {}

    @abstractmethod
    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        """Raises ValueError, naming the range, for a ratio at which the method is undefined."""
