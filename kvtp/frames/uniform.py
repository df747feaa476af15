"""A fixed number of pictures, evenly over the film."""

from kvtp.errors import check_whole
from kvtp.frames._indices import Spread
from kvtp.frames._sampler import AbstractSampler


class Uniform(AbstractSampler):
    """`count` pictures from the first to the last (LLaVA-Video's rule); a film with fewer gives each of them once."""

    def __init__(self, count: int, reader: str | None, timeout: float, workers: int) -> None:
        check_whole("frames.count", count, 1)
        super().__init__(Spread(count), reader, timeout, workers)
