"""Intervals and tests against textbook values and simulation."""

from math import comb

import numpy as np
import pytest

from kvtp.metric.statistics import compare, holm, interval
from kvtp.types import Prediction


def predictions(scores: list[float], each: int = 1) -> list[Prediction]:
    """`each` consecutive questions are about one video."""
    return [
        Prediction(
            question_id=f"q{nth}",
            method="m",
            outcome="correct" if score else "wrong",
            score=score,
            text="A",
            choice="A",
            answer="A",
            groups={},
            cluster=f"v{nth // each}",
            tokens_per_layer=None,
            timings_ms={},
        )
        for nth, score in enumerate(scores)
    ]


def test_interval_of_independent_questions_is_the_normal_one() -> None:
    """p ± 1.96 √(p(1 − p)/n) for one question per video."""
    scores = [1.0] * 140 + [0.0] * 60
    low, high = interval(predictions(scores))
    half = 196 * np.sqrt(0.7 * 0.3 / 200)
    assert low == pytest.approx(70 - half, abs=0.8)
    assert high == pytest.approx(70 + half, abs=0.8)


def test_questions_about_one_video_count_as_one() -> None:
    """Five identical answers per video tell no more than one does: the interval is that of the videos."""
    scores = [1.0] * 28 + [0.0] * 12
    once = interval(predictions(scores))
    repeated = interval(predictions([score for score in scores for _ in range(5)], each=5))
    assert repeated == pytest.approx(once, abs=1e-9)


def test_mcnemar_is_the_binomial_of_the_discordant() -> None:
    """Exact two-sided p of 3 against 12, added up by hand."""
    first = predictions([1.0] * 3 + [0.0] * 12 + [1.0] * 20)
    second = predictions([0.0] * 3 + [1.0] * 12 + [1.0] * 20)
    told = compare(first, second)
    assert (told.won, told.lost) == (12, 3)
    exact = 2 * sum(comb(15, k) for k in range(4)) / 2**15
    assert told.mcnemar == pytest.approx(exact)
    assert told.p == pytest.approx(exact, abs=0.006), "with one question per video sign flips are the same test"
    assert told.difference == pytest.approx(100 * 9 / 35)
    assert told.low < told.difference < told.high


def test_sign_flips_hold_their_level_where_mcnemar_does_not() -> None:
    """Two methods that differ by video, not on average: at 5 %, so many of 100 simulations may be significant."""
    rng = np.random.default_rng(1)
    mine = theirs = 0
    for _ in range(100):
        better = rng.choice([0.9, 0.1], 40)  # per video, how likely the second gets a question right
        first = (rng.random((40, 5)) < 1 - better[:, None]).astype(float).ravel().tolist()
        second = (rng.random((40, 5)) < better[:, None]).astype(float).ravel().tolist()
        told = compare(predictions(first, each=5), predictions(second, each=5))
        mine, theirs = mine + (told.p < 0.05), theirs + (told.mcnemar < 0.05)
    assert mine <= 12
    assert theirs > 20


def test_holm_by_hand() -> None:
    """Smallest times 3, next times 2, last times 1, never falling."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


def test_no_difference_is_certain_of_nothing() -> None:
    same = predictions([1.0, 0.0, 1.0])
    told = compare(same, same)
    assert (told.difference, told.p, told.mcnemar) == (0.0, 1.0, 1.0)


def test_other_questions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="1 are in one run only, as 'q2'"):
        compare(predictions([1.0, 0.0, 1.0]), predictions([1.0, 0.0]))


def test_one_video_has_no_interval() -> None:
    assert interval(predictions([1.0, 0.0], each=2)) is None


def test_intervals_cover_as_often_as_they_say() -> None:
    """1000 samples of five questions per video, videos of uneven difficulty around 60 %: 93 to 97 % hold 60 %."""
    rng = np.random.default_rng(2)
    hits, videos = 0, 60
    for _ in range(1000):
        ease = rng.beta(1.8, 1.2, videos)
        scores = (rng.random((videos, 5)) < ease[:, None]).astype(float).ravel().tolist()
        low, high = interval(predictions(scores, each=5))
        hits += low <= 60 <= high
    assert 930 <= hits <= 970


def test_paired_test_is_no_bolder_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """1000 pairs of equally good methods that share the videos' difficulty: at most 6 % come out below p = 0.05."""
    monkeypatch.setattr("kvtp.metric.statistics.RESAMPLES", 999)  # ten times as many take a minute and say the same
    rng = np.random.default_rng(3)
    bold = 0
    for _ in range(1000):
        ease = rng.beta(1.8, 1.2, (40, 2)).mean(1)  # differs by video
        tilt = rng.uniform(-0.2, 0.2, 40)  # which method a video favours
        answers = [
            (rng.random((40, 5)) < np.clip(ease + side * tilt, 0, 1)[:, None]).astype(float).ravel().tolist()
            for side in (-1, 1)
        ]
        first, second = (predictions(scores, each=5) for scores in answers)
        bold += compare(first, second).p < 0.05
    assert bold <= 60


def test_one_video_decides_nothing() -> None:
    """Its sign may as well be the other: p = 1, and there is no interval."""
    told = compare(predictions([0, 0, 1], each=3), predictions([1, 1, 1], each=3))
    assert told.p == 1
    assert np.isnan(told.low)
    assert np.isnan(told.high)
    assert (told.won, told.lost) == (2, 0)
