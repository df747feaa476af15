"""SparseKV-Shapes: a film's pictures. Integers only, so that every machine paints the same to the bit."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from jaxtyping import Bool, Int32, UInt8

from kvtp.benchmark._world import COLOURS, PLACES, SHAPES, Event, Film, Settings

UNITS = 64  # offsets and drifts are told in parts of the side


def write_film(path: Path, film: Film, settings: Settings) -> None:
    """H.264, one key picture per clip, the same bytes every time.

    Beware: x264's macroblock tree, part of every rate control but constant QP, is not: one film in six differed, with
    one thread one in thirty. Conversion to 4:2:0 is done here, in integers, to depend on no processor's kernels.
    """
    options = {"preset": "veryfast", "qp": "20"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=settings.fps, options=options)
        stream.width = stream.height = settings.side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = settings.fps
        stream.codec_context.thread_count = 1
        for picture in paint(film, settings):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_yuv420(picture), format="yuv420p")))
        container.mux(stream.encode(None))


def _yuv420(picture: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "planes side"]:
    """BT.601, studio range, in integers; chroma of 2×2 pixels averaged. Planes one below the other."""
    red, green, blue = np.moveaxis(picture.astype(np.int32), -1, 0)
    luma = ((66 * red + 129 * green + 25 * blue + 128) >> 8) + 16
    chroma = [
        ((-38 * red - 74 * green + 112 * blue + 128) >> 8) + 128,
        ((112 * red - 94 * green - 18 * blue + 128) >> 8) + 128,
    ]
    side = len(picture)
    means = [(c[::2, ::2] + c[1::2, ::2] + c[::2, 1::2] + c[1::2, 1::2] + 2) >> 2 for c in chroma]
    return np.concatenate([luma, *(mean.reshape(-1, side) for mean in means)]).astype(np.uint8)


def paint(film: Film, settings: Settings) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
    """Every picture of the film."""
    rng = np.random.Generator(np.random.PCG64(film.background))
    waves = rng.integers(1, 6, (3, 3)), rng.integers(0, 256, 3), rng.integers(70, 130, 3)
    greys = [_grey(rng) for _ in range(settings.clips * settings.grey)]
    events = {clip: event for event in film.events for clip in event.clips}
    for clip in range(settings.clips):
        passing = greys[clip * settings.grey : (clip + 1) * settings.grey]
        for tick in range(settings.fps):
            now = clip * settings.fps + tick
            picture = _background(settings.side, now * 64 // settings.fps, *waves)
            for shape, tone, size, start, drift in passing:
                picture[_area(shape, size, _moved(start, drift, tick, settings), settings.side)] = tone
            if clip in events:
                _show(picture, events[clip], tick, settings)
            yield picture.astype(np.uint8)


def outline(event: Event, tick: int, settings: Settings) -> Bool[np.ndarray, "side side"]:
    """The pixels of an event's object, `tick` pictures after a clip of it began."""
    quarter = UNITS // 4
    place = PLACES.index(event.place)
    centre = (
        quarter + 2 * quarter * (place // 2) + event.offset[0],
        quarter + 2 * quarter * (place % 2) + event.offset[1],
    )
    return _area(event.shape, 11, _moved(centre, event.drift, tick, settings), settings.side)


def _show(picture: Int32[np.ndarray, "side side 3"], event: Event, tick: int, settings: Settings) -> None:
    picture[outline(event, tick, settings)] = COLOURS[event.colour]


def _grey(rng: np.random.Generator) -> tuple[str, int, int, tuple[int, int], tuple[int, int]]:
    start, drift = rng.integers(4, 60, 2).tolist(), rng.integers(-12, 13, 2).tolist()
    return str(rng.choice(SHAPES)), int(rng.integers(110, 170)), int(rng.integers(3, 6)), tuple(start), tuple(drift)


def _moved(start: tuple[int, int], drift: tuple[int, int], tick: int, settings: Settings) -> tuple[int, int]:
    """Centre [pixels] after `tick` pictures."""
    row, column = (
        (begin * settings.fps + step * tick) * settings.side // (UNITS * settings.fps)
        for begin, step in zip(start, drift, strict=True)
    )
    return row, column


def _background(
    side: int, now: int, steps: np.ndarray, phases: np.ndarray, mean: np.ndarray
) -> Int32[np.ndarray, "side side 3"]:
    """Slowly drifting triangle waves around a muted tone; one slope per colour."""
    row, column = np.mgrid[:side, :side].astype(np.int32) * 256 // side
    channels = []
    for (down, across, speed), phase, tone in zip(steps.tolist(), phases.tolist(), mean.tolist(), strict=True):
        wave = (row * down + column * across + phase + now * speed // 4) % 256
        channels.append(tone - 24 + np.abs(wave - 128) * 48 // 128)
    return np.stack(channels, -1)


def _area(shape: str, size: int, centre: tuple[int, int], side: int) -> Bool[np.ndarray, "side side"]:
    """The pixels of a shape of radius `size`/64 of the side."""
    row, column = np.mgrid[:side, :side].astype(np.int32)
    return _inside(shape, row - centre[0], column - centre[1], side * size // UNITS)


def _inside(
    shape: str, down: Int32[np.ndarray, "side side"], across: Int32[np.ndarray, "side side"], radius: int
) -> Bool[np.ndarray, "side side"]:
    square = np.maximum(np.abs(down), np.abs(across))
    round_ = down * down + across * across
    match shape:
        case "circle":
            return round_ <= radius * radius
        case "ring":
            return (round_ <= radius * radius) & (4 * round_ >= radius * radius)
        case "square":
            return 8 * square <= 7 * radius
        case "diamond":
            return np.abs(down) + np.abs(across) <= radius
        case "cross":
            return (np.minimum(np.abs(down), np.abs(across)) * 3 <= radius) & (square <= radius)
        case "triangle":
            return (down <= radius) & (2 * np.abs(across) <= down + radius)
    raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
