"""What the probe says of a file, against what was written into it."""

import clips
import numpy as np
import pytest

from kvtp.frames._probe import probe


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "ts", "h264"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_count_rate_duration_and_times(suffix, bframes, tmp_path):
    count = clips.make_clip(tmp_path / f"clip.{suffix}", fps=25, seconds=3, bframes=bframes)
    film = probe(str(tmp_path / f"clip.{suffix}"))
    assert len(film) == count == 75
    assert film.average_fps == 25
    assert film.duration == 3
    np.testing.assert_allclose(film.times, np.arange(75) / 25, atol=1e-9)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_ntsc_rate(suffix, tmp_path):
    clips.make_clip(tmp_path / f"clip.{suffix}", fps=30000 / 1001, seconds=3)
    assert probe(str(tmp_path / f"clip.{suffix}")).average_fps == pytest.approx(29.97, abs=0.01)


def test_times_follow_a_variable_rate_and_begin_at_zero(tmp_path):
    """Gaps of ½, 1 and 1½ tenths of a second, as the maker says; the first picture comes 2 s late."""
    clips.make_clip(tmp_path / "clip.mp4", variable_rate=True, bframes=2, start=2.0)
    np.testing.assert_allclose(np.diff(probe(str(tmp_path / "clip.mp4")).times)[:6], [0.05, 0.1, 0.15] * 2, atol=1e-9)
    assert probe(str(tmp_path / "clip.mp4")).times[0] == 0


def test_keys_are_where_groups_begin(tmp_path):
    clips.make_clip(tmp_path / "clip.mp4", seconds=3, gop=12, bframes=2)
    film = probe(str(tmp_path / "clip.mp4"))
    assert film.keys.tolist() == [0, 12, 24]
    assert [film.key(index) for index in (0, 11, 12, 29)] == [0, 0, 1, 2]
    assert not film.open_gop


def test_cut_without_encoding(tmp_path):
    clips.make_clip(tmp_path / "whole.mp4", seconds=4)
    clips.cut_clip(tmp_path / "whole.mp4", tmp_path / "cut.mp4", start=1.7)
    film = probe(str(tmp_path / "cut.mp4"))
    assert len(film) == 23
    assert film.duration == pytest.approx(2.3)


def test_one_picture_has_the_duration_of_the_rate(tmp_path):
    clips.make_clip(tmp_path / "clip.mp4", seconds=0.1)
    film = probe(str(tmp_path / "clip.mp4"))
    assert (len(film), film.average_fps, film.duration) == (1, 10, 0.1)
