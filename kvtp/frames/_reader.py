"""The interface of the readers: a probed file and picture numbers become pictures."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt8

from kvtp.errors import LoadError
from kvtp.frames._probe import Probe

REMEDY = "set frames.reader to pyav"


class Unsuited(LoadError):
    """This reader would take wrong pictures from the file, or none; another may not."""


class AbstractReader(ABC):
    """One decoding library, imported only when it reads. Pictures are RGB, upright, equal to the bit across readers."""

    @abstractmethod
    def read(self, probe: Probe, indices: Int64[np.ndarray, " T"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The pictures of ascending indices, one by one.

        Raises, before the first: ImportError where the library does not import, `Unsuited`. Later: `LoadError` and the
        library's own errors for a picture that cannot be decoded.
        """


def check_kind(reader: str, probe: Probe) -> None:
    """Raise `Unsuited` for files of which decord 0.6 and torchcodec 0.13 were seen to give other pictures than PyAV."""
    if probe.pts is None or not probe.container.startswith(("mov,", "matroska,")):
        raise Unsuited(f"{reader} miscounts in {probe.container} files; {REMEDY}")
    if probe.bits > 8:
        raise Unsuited(f"{reader} rounds films of {probe.bits} bits per colour in its own way; {REMEDY}")


def check_count(reader: str, count: int, probe: Probe) -> None:
    """Raise `Unsuited` unless the reader sees as many pictures as are shown."""
    if count != len(probe):
        raise Unsuited(f"{reader} counts {count} pictures where {len(probe)} are shown; {REMEDY}")
