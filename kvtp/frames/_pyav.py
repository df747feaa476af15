"""Reader `pyav`: FFmpeg as PyAV ships it. The most exact of the three; it finds pictures by their time stamps."""

from collections.abc import Iterator

import av
import numpy as np
from jaxtyping import Int64, UInt8

from kvtp.errors import LoadError
from kvtp.frames._probe import Probe, video_stream
from kvtp.frames._reader import AbstractReader


class PyAV(AbstractReader):
    def read(self, probe: Probe, indices: Int64[np.ndarray, " T"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        with av.open(probe.path) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            for frame in _frames(container, stream, probe, indices.tolist()):
                yield np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream, probe: Probe, indices: list[int]
) -> Iterator[av.VideoFrame]:
    if probe.pts is None:
        found = _by_number(container, stream, indices)
    else:
        found = _by_stamp(container, stream, probe, indices, probe.pts[indices].tolist())
    for index, frame in zip(indices, found, strict=True):
        if frame is None:
            raise LoadError(f"picture {index} of {len(probe)} cannot be decoded; is the file cut off or damaged?")
        yield frame


def _by_number(
    container: av.container.InputContainer, stream: av.VideoStream, indices: list[int]
) -> Iterator[av.VideoFrame | None]:
    frames = enumerate(container.decode(stream))
    for index in indices:
        yield next((frame for number, frame in frames if number == index), None)


def _by_stamp(
    container: av.container.InputContainer, stream: av.VideoStream, probe: Probe, indices: list[int], stamps: list[int]
) -> Iterator[av.VideoFrame | None]:
    frames, reached = container.decode(stream), 0
    for index, stamp in zip(indices, stamps, strict=True):
        key = probe.key(index)
        jump = key >= 0 and probe.keys[key] > reached
        if jump:
            container.seek(int(probe.seek[key]), stream=stream)
            frames = container.decode(stream)
        frame = _at(frames, stamp)
        if frame is None and jump:  # coarse seek tables; gradual refresh, which shows nothing until its wave has passed
            container.seek(int(probe.seek[0]), stream=stream)
            frame = _at(frames := container.decode(stream), stamp)
        yield frame
        reached = index + 1


def _at(frames: Iterator[av.VideoFrame], stamp: int) -> av.VideoFrame | None:
    """The picture shown at `stamp`; None where decoding passes it by."""
    frame = next((frame for frame in frames if frame.pts is not None and frame.pts >= stamp), None)
    return frame if frame is not None and frame.pts == stamp else None
