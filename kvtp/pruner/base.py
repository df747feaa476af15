"""Stage `pruner`: tokens and a budget become a selection. A pruner never sees a model."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from kvtp.types import Budget, Selection, VisualTokens


class AbstractPruner(ABC):
    """Says where it acts and which cues it needs, and selects tokens. Deterministic for a seed.

    `layers`: LLM layers already run at each call (0 = before the LLM), or "all".
    `site`: `layer` = after that many whole layers; `attention` = after the next attention residual, before its MLP.
    `scope`: `frame` = the budget binds frame by frame; `video` = only its total binds.
    `positions`: `keep` = kept tokens keep their position ids; `renumber` = 0 … S'−1. M-RoPE backbones always keep.
    `compress_cache`: the caches of the layers already run keep only the selected tokens.
    `cache`, `tower`: a cache policy, a pruner inside the vision tower.
    """

    layers: tuple[int, ...] | Literal["all"] = (0,)
    site: Literal["layer", "attention"] = "layer"
    scope: Literal["frame", "video"] = "frame"
    positions: Literal["keep", "renumber"] = "renumber"
    cues: ClassVar[frozenset[str]] = frozenset()
    compress_cache: bool = False
    cache: Any = None
    tower: Any = None
    question_id: str = ""  # set by the pipeline before each question: what a seeded pruner draws from, with its seed

    @abstractmethod
    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        """Raises ValueError, naming the range, for a ratio at which the method is undefined."""
