"""What runs in a decoding process: one file becomes one block of pixels on disk. Nothing here imports torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from jaxtyping import Float64, Int64, UInt8

from kvtp.errors import LoadError
from kvtp.frames._decord import Decord
from kvtp.frames._probe import Probe, probe
from kvtp.frames._pyav import PyAV
from kvtp.frames._reader import AbstractReader, Unsuited
from kvtp.frames._torchcodec import TorchCodec

READERS: dict[str, type[AbstractReader]] = {"decord": Decord, "pyav": PyAV, "torchcodec": TorchCodec}
EITHER = ("decord", "pyav")  # what `reader: null` tries
CLOCK = 1e-6  # [s] times are ratios of integers; segment bounds were rounded by whoever wrote them


@dataclass(frozen=True)
class Request:
    """A file or its part from `start` to `end` [s], and the rule that picks pictures from (number, mean rate)."""

    path: str
    start: float | None
    end: float | None
    rule: Callable[[int, float], Int64[np.ndarray, " T"]]
    reader: str | None


@dataclass(frozen=True)
class Decoded:
    """What was written: uint8 of `shape` = (T, H, W, 3)."""

    shape: tuple[int, int, int, int]
    timestamps: Float64[np.ndarray, " T"]
    indices: Int64[np.ndarray, " T"]
    duration: float
    reader: str


def decode(request: Request, pixels: Path) -> Decoded:
    """Decodes into the file `pixels`. Everything that goes wrong with the video is a LoadError that names it."""
    try:
        film = probe(request.path)
        indices = choose(film, request)
        shape, reader = _read(film, indices, request.reader, pixels)
    except ImportError:
        raise  # not the file's fault
    except Exception as error:
        raise LoadError(f"{request.path}: {_reason(error)}") from error
    return Decoded((len(indices), *shape), film.times[indices], indices, film.duration, reader)


def choose(film: Probe, request: Request) -> Int64[np.ndarray, " T"]:
    """The rule's picks among the pictures with start ≤ time < end, so that neighbouring segments share none."""
    start = 0.0 if request.start is None else request.start
    end = np.inf if request.end is None else request.end
    if start >= end:
        raise LoadError(f"segment start must be before its end, got {start:g} s to {end:g} s")
    if start > film.times[-1] + CLOCK:
        raise LoadError(
            f"segment start must be within the film, got {start:g} s; its last picture is at {film.times[-1]:g} s"
        )
    first, stop = np.searchsorted(film.times, [start - CLOCK, end - CLOCK])
    if first >= stop:
        raise LoadError(f"no picture lies between {start:g} s and {end:g} s; widen the segment")
    return first + request.rule(int(stop - first), film.average_fps)


def _read(
    film: Probe, indices: Int64[np.ndarray, " T"], reader: str | None, pixels: Path
) -> tuple[tuple[int, int, int], str]:
    names = EITHER if reader is None else (reader,)
    for name in names[:-1]:
        try:
            return _write(READERS[name]().read(film, indices), pixels), name
        except (ImportError, Unsuited):
            continue
    return _write(READERS[names[-1]]().read(film, indices), pixels), names[-1]


def _write(pictures: Iterator[UInt8[np.ndarray, "H W 3"]], pixels: Path) -> tuple[int, int, int]:
    sizes = set()
    with pixels.open("wb") as file:
        for picture in pictures:
            file.write(picture.tobytes())
            sizes.add(picture.shape)
    if len(sizes) > 1:
        raise LoadError(f"the film's pictures differ in size [H, W, colours]: {', '.join(map(str, sorted(sizes)))}")
    (size,) = sizes
    return size


def _reason(error: Exception) -> str:
    if isinstance(error, LoadError):
        return str(error)
    text = (isinstance(error, FFmpegError) and error.strerror) or str(error)
    return f"{text.splitlines()[0]} ({type(error).__name__})"
