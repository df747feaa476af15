"""Intervals and tests against textbook values and simulation."""

from math import comb

import numpy as np
import pytest

from kvtp.metric.statistics import Part, compare, estimate, holm, interval
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


# -- figures of several sets and runs ---------------------------------------------------------------------------------

Answers = tuple[tuple[str, float], ...]


def per_column(sums: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The mean over parts of the first run's means [%]."""
    return 100 * (sums / numbers)[0].mean(0)


def difference(sums: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    own, other = (sums / numbers).mean(1)
    return 100 * (own - other)


def answers(videos: int, seed: int, ease: float = 0.6) -> Answers:
    """One to three questions about each video."""
    rng = np.random.default_rng(seed)
    return tuple((f"v{nth}", float(rng.random() < ease)) for nth in range(videos) for _ in range(rng.integers(1, 4)))


def drawn(sets: list[list[Answers]], figure, resamples: int = 3000) -> np.ndarray:
    """A bootstrap written anew: of each set (its runs) videos are drawn one by one with all their questions, the same
    for every run; `figure` of the questions drawn, [set][run]. 2.5th and 97.5th percentile."""
    rng = np.random.default_rng(99)
    found = []
    for _ in range(resamples):
        world = []
        for runs in sets:
            videos = sorted({video for run in runs for video, _ in run})
            chosen = [videos[nth] for nth in rng.integers(0, len(videos), len(videos))]
            world.append([[worth for video in chosen for one, worth in run if one == video] for run in runs])
        found.append(figure(world))
    return np.percentile(found, [2.5, 97.5])


def test_an_estimates_value_is_the_figure_itself() -> None:
    """(2/3 + 1/4) / 2, not 3/7 of all questions."""
    parts = [
        Part("a", ((("v", 1.0), ("v", 0.0), ("w", 1.0)),)),
        Part("b", ((("v", 1.0), ("w", 0.0), ("w", 0.0), ("x", 0.0)),)),
    ]
    value, known = estimate(parts, per_column)
    assert value == pytest.approx(100 * (2 / 3 + 1 / 4) / 2)
    assert known is not None
    assert known[0] < value < known[1]


def test_an_estimate_over_one_set_is_the_interval_of_its_accuracy() -> None:
    """By SciPy's bootstrap, as everywhere else in a report."""
    scores = [float(nth % 3 > 0) for nth in range(90)]
    told = predictions(scores, each=2)
    value, known = estimate([Part("a", (tuple((one.cluster, one.score or 0.0) for one in told),))], per_column)
    assert value == pytest.approx(100 * np.mean(scores))
    assert known == pytest.approx(interval(told), abs=0.6)


def test_an_estimate_over_two_sets_draws_the_videos_of_each() -> None:
    one, other = answers(15, 1), answers(40, 2, 0.3)
    _, known = estimate([Part("a", (one,)), Part("b", (other,))], per_column)
    expected = drawn([[one], [other]], lambda world: 100 * np.mean([np.mean(world[0][0]), np.mean(world[1][0])]))
    assert known == pytest.approx(expected, abs=0.8)


def test_runs_share_the_videos_drawn() -> None:
    """The same questions, answered alike but about three videos: far surer than two sets of questions would be."""
    own = answers(30, 3)
    other = tuple((video, 1 - worth if video in ("v4", "v5", "v6") else worth) for video, worth in own)
    _, known = estimate([Part("a", (own, other))], difference)
    expected = drawn([[own, other]], lambda world: 100 * (np.mean(world[0][0]) - np.mean(world[0][1])))
    assert known == pytest.approx(expected, abs=1)
    apart = drawn([[own], [other]], lambda world: 100 * (np.mean(world[0][0]) - np.mean(world[1][0])), 500)
    assert known is not None
    assert np.ptp(known) < np.ptp(apart) / 2


def test_two_equal_runs_differ_by_nothing_for_certain() -> None:
    own = answers(20, 4)
    assert estimate([Part("a", (own, own)), Part("b", (own[:9], own[:9]))], difference) == (0.0, (0.0, 0.0))


def test_parts_of_one_set_share_the_videos_drawn() -> None:
    """Two parts that are right where the other is wrong: their mean is certain, in one set and not in two."""
    own = tuple((f"v{nth}", float(nth % 2)) for nth in range(20))
    other = tuple((video, 1 - worth) for video, worth in own)
    value, known = estimate([Part("a", (own,)), Part("a", (other,))], per_column)
    assert (value, known) == (50.0, pytest.approx((50.0, 50.0)))
    _, apart = estimate([Part("a", (own,)), Part("b", (other,))], per_column)
    assert apart is not None
    assert np.ptp(apart) > 15


def test_a_resample_without_a_question_of_a_part_does_not_count() -> None:
    """One of two videos has the part's questions: half of the resamples draw it once or twice, and all say the same."""
    parts = [Part("a", ((("v", 1.0), ("v", 0.0)),)), Part("a", ((("w", 1.0),),))]
    value, known = estimate(parts, lambda sums, numbers: (sums / numbers)[0, 0])
    assert (value, known) == (0.5, (0.5, 0.5))


def test_one_video_of_a_set_has_no_interval() -> None:
    many = answers(20, 5)
    assert estimate([Part("a", (many,)), Part("b", ((("v", 1.0), ("v", 0.0)),))], per_column)[1] is None


def test_more_videos_narrow_an_interval() -> None:
    """By the root of their number: four times as many make it half as wide."""
    widths = []
    for videos in (30, 120, 480):
        _, known = estimate([Part("a", (tuple((f"v{nth}", float(nth % 2)) for nth in range(videos)),))], per_column)
        assert known is not None
        widths.append(np.ptp(known))
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.15)


def test_a_ratio_to_nothing_has_no_interval() -> None:
    right, wrong = (("v", 1.0), ("w", 1.0)), (("v", 0.0), ("w", 0.0))
    value, known = estimate([Part("a", (right, wrong))], lambda sums, numbers: (sums[0] / sums[1])[0])
    assert (value, known) == (np.inf, None)


def test_the_same_answers_give_the_same_interval() -> None:
    parts = [Part("a", (answers(12, 6),))]
    assert estimate(parts, per_column) == estimate(parts, per_column)
