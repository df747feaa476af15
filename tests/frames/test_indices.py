"""Which pictures are taken, against hand-computed numbers and the definitions written as loops."""

import numpy as np
import pytest

from kvtp.frames._indices import Middles, Paced, Spread


def test_one_per_second_of_a_minute():
    picks = Paced(fps=1, max_frames=128)(1800, 30.0)
    assert len(picks) == 60
    assert picks[-1] == 1770


def test_ntsc_rate_is_rounded_to_a_stride():
    assert len(Paced(fps=1, max_frames=128)(2000, 29.97)) == 67


def test_too_many_candidates_become_evenly_spread():
    picks = Paced(fps=1, max_frames=128)(5400, 30.0)
    assert len(picks) == 128
    assert picks[:4].tolist() == [0, 42, 85, 127]
    assert picks[-1] == 5399
    assert [f"{second:.2f}" for second in (picks / 30)[[0, 1, 2, -1]]] == ["0.00", "1.40", "2.83", "179.97"]


@pytest.mark.parametrize(("total", "average_fps", "fps"), [(100, 25.0, 2), (100, 24.0, 5), (50, 10.0, 30), (1, 0.0, 1)])
def test_paced_counts_in_strides(total, average_fps, fps):
    stride = max(1, round(average_fps / fps))
    assert Paced(fps, 1000)(total, average_fps).tolist() == [i for i in range(total) if i % stride == 0]


@pytest.mark.parametrize(("total", "count"), [(1800, 32), (33, 32), (7, 3), (9, 1)])
def test_spread_truncates_exact_positions(total, count):
    """Integer arithmetic: ⌊i (N − 1) / (count − 1)⌋, both ends included."""
    exact = [i * (total - 1) // (count - 1) for i in range(count)] if count > 1 else [0]
    assert Spread(count)(total, 30.0).tolist() == exact


@pytest.mark.parametrize("total", [1, 5, 8])
def test_spread_of_few_takes_each_once(total):
    picks = Spread(8)(total, 30.0)
    assert picks.tolist() == list(range(total))
    assert picks.dtype == np.int64


@pytest.mark.parametrize(("total", "count"), [(1800, 16), (301, 8), (17, 16)])
def test_middles_of_segments(total, count):
    """The rule as its authors write it, a picture at a time."""
    segment = float(total - 1) / count
    expected = [int(segment / 2 + np.round(segment * number)) for number in range(count)]
    assert Middles(count)(total, 30.0).tolist() == expected


@pytest.mark.parametrize("total", [1, 5, 15])
def test_middles_of_few_repeat_none(total):
    picks = Middles(16)(total, 30.0)
    assert len(set(picks.tolist())) == len(picks)
    assert picks.min() >= 0
    assert picks.max() < total
