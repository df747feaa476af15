"""Stage `budget`: relevance becomes a number of tokens per frame."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from kvtp.types import Budget, VisualTokens


class AbstractBudget(ABC):
    """0 ≤ n_t ≤ tokens in frame t; exact sums where the method defines one."""

    cues: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def __call__(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget: ...
