"""Which of a film's tokens the decoder gets in training."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Int64
from torch import Tensor

Part = tuple[int, Tensor]  # number of a film in its batch, and tokens of it, Int64 [K], ascending


class Parts(ABC):
    """Of a batch. Talks are about parts: several may be of one film."""

    retention: float  # for names of metrics

    @abstractmethod
    def of(self, films: int, frames: int, each: int) -> list[Part]:
        """Of so many films of so many frames with `each` tokens."""


@dataclass(frozen=True)
class Drawn(Parts):
    """One of every film, as `random_part` draws it."""

    retention: float
    unevenness: float
    seed: int

    def of(self, films: int, frames: int, each: int) -> list[Part]:
        generator = torch.Generator().manual_seed(self.seed)
        return [(film, random_part(frames, each, self.retention, self.unevenness, generator)) for film in range(films)]


@dataclass(frozen=True)
class Chosen(Parts):
    """Those given."""

    retention: float
    parts: Sequence[Part]

    def of(self, films: int, frames: int, each: int) -> list[Part]:
        return list(self.parts)


def random_part(
    frames: int, each: int, retention: float, unevenness: float, generator: torch.Generator
) -> Int64[Tensor, " K"]:
    """⌈r·K⌉ of K = `frames` · `each` tokens drawn without replacement, ascending; those of frame t with weight
    exp(u·n_t), n_t normal, u uniform in [0, `unevenness`]: from even thinning to a few frames that keep nearly all."""
    count = ceil(retention * frames * each)
    spread = unevenness * torch.rand((), generator=generator) * torch.randn(frames, generator=generator)
    # the largest of log-weight + Gumbel noise are a weighted draw without replacement (Efraimidis and Spirakis 2006)
    noise = -torch.empty(frames * each).exponential_(generator=generator).log()
    return (spread.repeat_interleave(each) + noise).topk(count).indices.sort().values
