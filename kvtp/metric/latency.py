"""Where the time goes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Stopwatch:
    """Wall time [ms] per part, summed over its visits. On CUDA the device is synchronised at both ends."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.ms[part] += (self._now() - start) * 1e3

    def forget(self, part: str) -> None:
        """What was timed of a part since the last `take`."""
        self.ms.pop(part, None)

    def take(self) -> dict[str, float]:
        """The times so far, and start again."""
        taken = {part: round(ms, 3) for part, ms in self.ms.items()}
        self.ms.clear()
        return taken

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return perf_counter()
