"""Which pictures of a film are taken. Pure functions of the number of pictures and of the mean rate.

Nothing here, nor in what the decoding processes import, may import torch: seconds and memory for each of them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Spread:
    """`count` pictures evenly from the first to the last, positions truncated (LLaVA-Video); all if there are fewer."""

    count: int

    def __call__(self, total: int, average_fps: float) -> Int64[np.ndarray, " T"]:
        if total <= self.count:
            return np.arange(total)
        return np.linspace(0, total - 1, self.count, dtype=np.int64)


@dataclass(frozen=True)
class Middles:
    """The middle one of each of `count` equal segments (TSN's rule for testing, as PLLaVA, VideoChat2 and ST-LLM have
    it); of a film with fewer pictures each at most once."""

    count: int

    def __call__(self, total: int, average_fps: float) -> Int64[np.ndarray, " T"]:
        segment = (total - 1) / self.count
        picks = (segment / 2 + np.round(segment * np.arange(self.count))).astype(np.int64)
        return np.unique(picks)


@dataclass(frozen=True)
class Paced:
    """Every round(average_fps / fps)-th picture; were these more than `max_frames`, that many evenly (KVTP's rule)."""

    fps: float
    max_frames: int

    def __call__(self, total: int, average_fps: float) -> Int64[np.ndarray, " T"]:
        picks = np.arange(0, total, max(1, round(average_fps / self.fps)))
        return picks if len(picks) <= self.max_frames else Spread(self.max_frames)(total, average_fps)
