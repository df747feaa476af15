"""Against the micro-examples of KVTP's skip rule (mean rate 0.1, largest rate tabled)."""

import pytest

from kvtp.metric.sparsity import keyframe_sparsity


@pytest.mark.parametrize(("score", "largest"), [(5, 0.717079), (3, 0.368074), (2, 0.245467), (1, 0.158448), (0, 0.1)])
def test_one_clip_of_eight_scored_in_128_frames(score: float, largest: float) -> None:
    assert keyframe_sparsity([score] * 8 + [0] * 120) == pytest.approx(largest / 0.1, abs=1e-5)


def test_bounds() -> None:
    assert keyframe_sparsity([3.0] * 7) == pytest.approx(1)
    assert keyframe_sparsity([1000, 0, 0, 0]) == pytest.approx(4)
