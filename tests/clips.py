"""Makers of real little video files, whole and broken. Every picture carries its own number as a barcode."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 16


def make_clip(
    path: Path,
    width: int = 128,
    height: int = 96,
    fps: float = 10,
    seconds: float = 2,
    gop: int = 12,
    bframes: int = 0,
    variable_rate: bool = False,
    faststart: bool = False,
    rotation: int = 0,
    audio: bool = False,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    colours: str | None = None,
    start: float = 0,
) -> int:
    """Writes `seconds * fps` pictures and returns how many. The container follows the suffix.

    `variable_rate`: gaps of ½, 1 and 1½ of the mean; `rotation` [degrees, counter-clockwise] for the display matrix;
    `colours`: a matrix to tag the stream with, as `ITU709`; `start` [s] delays the first picture.
    """
    count = max(1, round(seconds * fps))
    rate = Fraction(fps).limit_denominator(1001)
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"preset": "veryfast"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        stream.codec_context.time_base = 1 / (2 * rate)
        if colours:
            stream.codec_context.colorspace = av.video.reformatter.Colorspace[colours]
        if rotation:
            stream.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=16000) if audio else None
        for index in range(count):
            picture = av.VideoFrame.from_ndarray(draw(index, width, height), format="rgb24")
            gap = (0, 1, 3)[index % 3] - 2 * (index % 3) if variable_rate else 0
            picture.pts = round(start * 2 * rate) + 2 * index + gap
            picture.time_base = 1 / (2 * rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound:
            _hum(container, sound, seconds)
    return count


def make_sound(path: Path, seconds: float = 1) -> None:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as container:
        _hum(container, container.add_stream("aac", rate=16000), seconds)


def cut_clip(source: Path, path: Path, start: float) -> None:
    """Copies packets so that the film begins `start` [s] later: an edit list hides the pictures decoded before it."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(whole.streams.video[0])
        shift = round(start / whole.streams.video[0].time_base)
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)


def truncate(path: Path, share: float = 0.5) -> Path:
    """Keeps the first `share` of the file's bytes."""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def spoil(path: Path, offset: int, length: int) -> Path:
    """Overwrites bytes with noise."""
    noise = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes()
    data = path.read_bytes()
    path.write_bytes(data[:offset] + noise + data[offset + length :])
    return path


def draw(index: int, width: int, height: int) -> np.ndarray:
    """Picture number `index`, uint8 [height, width, 3]: barcode above, moving colours below."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((x + 5 * index) / 17), np.cos((y - 3 * index) / 11), np.sin((x + y + 7 * index) / 23)]
    picture = (127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)
    bits = index >> np.arange(BITS) & 1
    picture[: height // 4] = (255 * bits[np.arange(width) * BITS // width])[None, :, None]
    return picture


def read_index(picture: np.ndarray) -> int:
    """The number in the barcode of a picture [H, W, 3]."""
    height, width, _ = picture.shape
    centres = (2 * np.arange(BITS) + 1) * width // (2 * BITS)
    return int(((picture[height // 8, centres].mean(-1) > 127) << np.arange(BITS)).sum())


def _hum(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, round(16000 * seconds), 1024):
        wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(start, start + 1024, dtype=np.float32) / 16000)
        sound = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 16000, start
        container.mux(stream.encode(sound))
    container.mux(stream.encode(None))
