"""A fixed number of pictures, each from the middle of its part of the film."""

from kvtp.errors import check_whole
from kvtp.frames._indices import Middles
from kvtp.frames._sampler import AbstractSampler


class Segments(AbstractSampler):
    """One picture from each of `count` equal parts, none twice."""

    def __init__(self, count: int, reader: str | None, timeout: float, workers: int) -> None:
        check_whole("frames.count", count, 1)
        super().__init__(Middles(count), reader, timeout, workers)
