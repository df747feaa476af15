"""How sure a number is. The unit of chance is the video: questions about one video are not independent."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap, permutation_test

from kvtp.types import Prediction

RESAMPLES = 9_999
BATCH = 1_000  # resamples held at once
SEED = 0  # the same predictions give the same intervals


@dataclass(frozen=True)
class Comparison:
    """Of two methods on the same questions, second minus first. `difference`, `low`, `high` in percentage points (95 %
    interval, videos resampled). `p`: two-sided, of flipping the sign of whole videos' differences at random. `mcnemar`:
    p of McNemar's exact test, which takes questions about one video for independent; it is what papers report. `won`,
    `lost`: questions only the second, only the first got right."""

    difference: float
    low: float
    high: float
    p: float
    mcnemar: float
    won: int
    lost: int


def interval(predictions: Sequence[Prediction]) -> tuple[float, float] | None:
    """95 % interval of the accuracy [%]: percentile bootstrap over videos. Questions without a label do not count.

    None for fewer than two videos, and where all labelled questions were refused.
    """
    labelled = [row for row in predictions if row.answer is not None]
    if len({row.cluster for row in labelled}) < 2 or all(row.outcome == "refused" for row in labelled):
        return None
    return mean_interval([(row.cluster, row.score or 0.0) for row in labelled])


@dataclass(frozen=True)
class Part:
    """Questions of one set: for every run the (video, worth) of each."""

    benchmark: str
    runs: tuple[tuple[tuple[str, float], ...], ...]


def estimate(
    parts: Sequence[Part], figure: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[float, tuple[float, float] | None]:
    """A figure over several sets and runs, with its 95 % interval: percentile bootstrap over the videos of each set,
    the same ones for all of its runs and parts. `figure` takes sums of worths and numbers of questions, each
    [runs, parts, resamples]. No interval where a set has fewer than two videos, nor where it would not be finite, as of
    ratios to 0."""
    sets: dict[str, list[str]] = {}
    for part in parts:
        known = {*sets.get(part.benchmark, ()), *(video for run in part.runs for video, _ in run)}
        sets[part.benchmark] = sorted(known)
    tables = [np.array([_per_video(run, sets[part.benchmark]) for run in part.runs]) for part in parts]  # [runs, 2, n]
    whole = np.stack([table.sum(-1) for table in tables], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(figure(whole[..., 0, None], whole[..., 1, None])[0])
    numbers = {name: len(known) for name, known in sets.items()}
    if min(numbers.values()) < 2:
        return value, None
    random, drawn = np.random.default_rng(SEED), []
    for _ in range(0, RESAMPLES, BATCH):
        times = {name: random.multinomial(n, [1 / n] * n, BATCH) for name, n in numbers.items()}
        sums = np.stack([table @ times[part.benchmark].T for part, table in zip(parts, tables, strict=True)], 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may hold no question of a part
            drawn.append(figure(sums[:, :, 0], sums[:, :, 1]))
    with np.errstate(invalid="ignore"):
        low, high = map(float, np.nanpercentile(np.concatenate(drawn), [2.5, 97.5]))
    return value, (low, high) if np.isfinite([low, high]).all() else None


def _per_video(run: Sequence[tuple[str, float]], videos: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the worths of each."""
    place = {video: nth for nth, video in enumerate(videos)}
    at = [place[video] for video, _ in run]
    worths = [worth for _, worth in run]
    return np.bincount(at, worths, len(videos)), np.bincount(at, minlength=len(videos)).astype(float)


def compare(first: Sequence[Prediction], second: Sequence[Prediction], flips: int = RESAMPLES) -> Comparison:
    """`flips`: of signs, for `p`, which is at least 2 / (flips + 1). ValueError unless both answered the same
    questions."""
    before = {row.question_id: row for row in first if row.answer is not None}
    after = {row.question_id: row for row in second if row.answer is not None}
    if before.keys() != after.keys():
        differ = sorted(before.keys() ^ after.keys())
        raise ValueError(
            f"paired tests need the same questions, {len(differ)} are in one run only, as {differ[0]!r}; "
            "let both runs end, with the same benchmark settings"
        )
    scores = [(row.cluster, (after[id].score or 0.0) - (row.score or 0.0)) for id, row in before.items()]
    changes = [change for _, change in scores]
    won, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    mcnemar = binomtest(won, won + lost).pvalue if won + lost else 1.0
    return Comparison(
        100 * float(np.mean(changes)), *mean_interval(scores), _sign_flips(scores, flips), mcnemar, won, lost
    )


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for how many there are (Holm 1979), in the order given."""
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = least
    return adjusted


def _sign_flips(scores: Sequence[tuple[str, float]], flips: int) -> float:
    sums, _ = _by_cluster(scores)
    if len(sums) < 2:
        return 1.0  # both signs of one video are equally extreme
    return float(
        permutation_test(
            (sums,),
            lambda total, axis: total.sum(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=flips,
            batch=BATCH,
            rng=np.random.default_rng(SEED),
        ).pvalue
    )


def _by_cluster(scores: Sequence[tuple[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of every cluster's scores."""
    clusters: dict[str, list[float]] = defaultdict(list)
    for cluster, score in scores:
        clusters[cluster].append(score)
    return np.array([sum(one) for one in clusters.values()]), np.array([len(one) for one in clusters.values()])


def mean_interval(scores: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """95 % interval of the mean of (cluster, score in [0, 1]), in percent; clusters resampled."""
    sums, counts = _by_cluster(scores)
    if len(sums) < 2:
        return float("nan"), float("nan")
    found = bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return 100 * float(found.low), 100 * float(found.high)
