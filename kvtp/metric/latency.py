"""Where the time goes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Stopwatch:
    """Time [ms] per part, summed over its visits.

    Wall time on a CPU. On CUDA, events stand at both ends of a part, among the work queued there: what the device
    takes, and its waits for the host within the part. Nothing else waits for them before `take` does. They stand in the
    queue that is in use, or in the `stream` given: times of parts in several queues overlap.
    """

    def __init__(self) -> None:
        self.ms: dict[str, float] = defaultdict(float)
        self.queued: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, part: str, stream: torch.cuda.Stream | None = None) -> Iterator[None]:
        if on_cuda():
            begun = _event(stream)
            try:
                yield
            finally:
                self.queued.append((part, begun, _event(stream)))
        else:
            start = perf_counter()
            try:
                yield
            finally:
                synchronise()  # the GPU may have come into use within
                self.ms[part] += (perf_counter() - start) * 1e3

    def take(self) -> dict[str, float]:
        """The times so far, and start again. Waits for the parts that it tells of, not for other queues."""
        for part, begun, ended in self.queued:
            ended.synchronize()
            self.ms[part] += begun.elapsed_time(ended)
        taken = {part: round(ms, 3) for part, ms in self.ms.items()}
        self.ms.clear()
        self.queued.clear()
        return taken


def on_cuda() -> bool:
    """Whether this process uses a GPU."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def synchronise() -> None:
    """Wait for the GPU, if this process uses one."""
    if on_cuda():
        torch.cuda.synchronize()
        for gpu in range(torch.cuda.device_count()):  # a large model is on several; on others it would open a context
            if torch.cuda.memory_allocated(gpu):
                torch.cuda.synchronize(gpu)


def _event(stream: torch.cuda.Stream | None) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    if stream is None:
        event.record()
    else:
        event.record(stream)
    return event
