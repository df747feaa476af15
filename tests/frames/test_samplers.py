"""The two samplers on real files."""

import os
import subprocess
import sys
import time

import clips
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kvtp.errors import LoadError
from kvtp.frames.fps import Fps
from kvtp.frames.uniform import Uniform
from kvtp.types import VideoRef


@pytest.fixture(scope="module")
def uniform():
    return Uniform(count=8, reader=None, timeout=60, workers=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """10 s, 25 per second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    clips.make_clip(path, fps=25, seconds=10, bframes=2)
    return str(path)


def numbers(frames):
    return [clips.read_index(picture) for picture in frames.pixels.numpy()]


def test_uniform_takes_both_ends(uniform, clip):
    frames = uniform(clip)
    assert numbers(frames) == frames.indices.tolist() == [i * 249 // 7 for i in range(8)]
    assert frames.timestamps.tolist() == pytest.approx([i / 25 for i in frames.indices.tolist()])
    assert frames.duration == 10
    assert frames.reader == "decord"


def test_fps_takes_one_per_second(clip):
    frames = Fps(fps=1, max_frames=128, reader="pyav", timeout=60, workers=1)(clip)
    assert numbers(frames) == list(range(0, 250, 25))
    assert frames.timestamps.tolist() == pytest.approx(range(10))
    assert frames.reader == "pyav"


def test_segments_of_a_film(uniform, clip):
    """2 s to 3 s are the pictures 50 … 74: a picture at the end belongs to the next segment."""
    inside = uniform(VideoRef(clip, start=2, end=3))
    assert numbers(inside) == inside.indices.tolist() == [50 + i * 24 // 7 for i in range(8)]
    assert inside.duration == 10
    assert numbers(uniform(VideoRef(clip, start=9.9))) == [248, 249]
    assert numbers(uniform(VideoRef(clip, end=0.12))) == [0, 1, 2]
    assert numbers(uniform(VideoRef(clip, start=9.5, end=99)))[-1] == 249


@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        (3, 2, "start must be before its end, got 3 s to 2 s"),
        (2, 2, "start must be before its end"),
        (50, 60, "start must be within the film, got 50 s; its last picture is at 9.96 s"),
        (1.001, 1.002, "no picture lies between 1.001 s and 1.002 s; widen the segment"),
    ],
)
def test_empty_segments_are_refused(start, end, rule, uniform, clip):
    with pytest.raises(LoadError, match=rule) as refusal:
        uniform(VideoRef(clip, start, end))
    assert clip in str(refusal.value)


def test_null_reader_goes_to_pyav_where_decord_would_be_wrong(uniform, tmp_path):
    clips.make_clip(tmp_path / "clip.avi", fps=25, seconds=4, gop=10, bframes=2)
    frames = uniform(str(tmp_path / "clip.avi"))
    assert frames.reader == "pyav"
    assert numbers(frames) == frames.indices.tolist()
    with pytest.raises(LoadError, match=r"decord miscounts in avi files; set frames\.reader to pyav"):
        Uniform(count=8, reader="decord", timeout=60, workers=1)(str(tmp_path / "clip.avi"))


def test_prefetch_decodes_meanwhile(tmp_path):
    """What was fetched ahead no longer needs its file."""
    sampler = Uniform(count=4, reader="pyav", timeout=60, workers=2)
    paths = [str(tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    for path, start in zip(paths, (0, 1, 2), strict=True):
        clips.make_clip(path, start=start)
    expected = [sampler(path).pixels for path in paths]
    assert sampler.ahead == 2
    sampler.prefetch(paths[0])
    (dropped,) = sampler._isolation._waiting.values()
    for path in paths:  # two at most wait: the first is dropped
        sampler.prefetch(path)
        sampler.prefetch(path)
    waiting = list(sampler._isolation._waiting.values())
    assert len(waiting) == 2
    assert dropped not in waiting
    for job in waiting:
        job.future.exception(timeout=60)
    for path in paths:
        os.unlink(path)
    assert sampler(paths[2]).pixels.equal(expected[2])
    assert sampler(paths[1]).pixels.equal(expected[1])
    with pytest.raises(LoadError, match="No such file"):
        sampler(paths[0])
    deadline = time.monotonic() + 20
    while not dropped.pixels.closed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(job.pixels.closed for job in (dropped, *waiting))


def test_pixels_are_writable_and_outlive_the_sampler(clip):
    frames = Uniform(count=3, reader="pyav", timeout=60, workers=1)(clip)
    frames.pixels[0] = 7
    assert int(frames.pixels[0].min()) == int(frames.pixels[0].max()) == 7
    assert clips.read_index(frames.pixels[2].numpy()) == 249


@pytest.mark.parametrize("name", ["uniform", "fps", "segments"])
def test_yaml_builds_the_sampler(name, project_root, clip):
    sampler = instantiate(OmegaConf.load(project_root / f"conf/frames/{name}.yaml"), _convert_="all")
    picks = {
        "uniform": np.linspace(0, 249, 32, dtype=int).tolist(),
        "fps": list(range(0, 250, 25)),
        "segments": [int(249 / 64 + round(249 / 32 * part)) for part in range(32)],
    }
    assert numbers(sampler(clip)) == picks[name]


WRONG = {
    "Uniform": [
        ({"reader": "decrod"}, "frames.reader must be one of decord, pyav, torchcodec, got 'decrod'; nearest: decord"),
        ({"count": 0}, "frames.count must be a whole number in [1, inf], got 0"),
        ({"count": 2.5}, "frames.count must be a whole number in [1, inf], got 2.5"),
        ({"timeout": 0}, "frames.timeout must be in [0.001, inf], got 0"),
        ({"workers": 1.5}, "frames.workers must be a whole number in [1, inf], got 1.5"),
    ],
    "Segments": [({"count": 0}, "frames.count must be a whole number in [1, inf], got 0")],
    "Fps": [
        ({"fps": "1"}, "frames.fps must be in [1e-06, inf], got '1'"),
        ({"max_frames": 2.5}, "frames.max_frames must be a whole number in [1, inf], got 2.5"),
    ],
}
CHECK = """
from kvtp.frames.fps import Fps
from kvtp.frames.segments import Segments
from kvtp.frames.uniform import Uniform
RIGHT = {"Uniform": {"count": 8}, "Segments": {"count": 8}, "Fps": {"fps": 1, "max_frames": 8}}
for sampler in (Uniform, Segments, Fps):
    for wrong, _ in WRONG[sampler.__name__]:
        try:
            sampler(**(RIGHT[sampler.__name__] | {"reader": None, "timeout": 60, "workers": 1} | wrong))
        except ValueError as error:
            print(error)
"""


def test_wrong_values_name_the_rule(project_root):
    """In an interpreter of its own: here the annotations are checked first."""
    told = subprocess.run(
        [sys.executable, "-c", f"WRONG = {WRONG!r}\n{CHECK}"],
        cwd=project_root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == [rule for cases in WRONG.values() for _, rule in cases]
