"""A fixed rate of pictures."""

from kvtp.errors import check_range, check_whole
from kvtp.frames._indices import Paced
from kvtp.frames._sampler import AbstractSampler


class Fps(AbstractSampler):
    """About `fps` pictures per second; were these more than `max_frames`, that many evenly (KVTP, its code)."""

    def __init__(self, fps: float, max_frames: int, reader: str | None, timeout: float, workers: int) -> None:
        check_range("frames.fps", fps, 1e-6)
        check_whole("frames.max_frames", max_frames, 1)
        super().__init__(Paced(fps, max_frames), reader, timeout, workers)
