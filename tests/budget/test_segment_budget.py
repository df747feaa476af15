"""Vista-LLM's budgets: against numbers of the released code, its rule told plainly, and water found by bisection."""

import json
import logging
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from toys import component, toy_frames, toy_question, toy_tokens, unchecked

from kvtp.budget._segments import frame_means, segments
from kvtp.types import Budget, VisualTokens

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "vista_golden.json").read_text())["budget"]


def turned(angles: list[float], size: int, question: float = 0) -> VisualTokens:
    """Frames of `size` equal tokens, each a direction in the plane [degrees]; `question`: that of the question."""
    angle = torch.tensor([*angles, question], dtype=torch.float64).deg2rad()
    looks = torch.stack([angle.cos(), angle.sin(), 0 * angle, 0 * angle], 1).float()
    tokens = looks[:-1].repeat_interleave(size, 0)
    return toy_tokens([size] * len(angles), (1, size), width=4, features=tokens, question_feature=looks[-1])


def film(seed: int, size: list[int]) -> VisualTokens:
    """Scenes of one to four frames that look more or less alike."""
    random = np.random.default_rng(seed)
    scene = np.repeat(np.arange(len(size)), random.integers(1, 5, len(size)))[: len(size)]
    look = random.normal(size=(len(size), 6))[scene] + random.uniform(0, 1) * random.normal(size=(len(size), 6))
    features = np.repeat(look, size, 0) + 0.1 * random.normal(size=(sum(size), 6))
    features = torch.from_numpy(features).float()
    return toy_tokens(size, (1, max(size)), width=6, seed=seed, features=features)


def segments_of(tokens: VisualTokens, tau: float, merge: bool = True) -> list[list[int]]:
    """First and last frame of each."""
    number = segments(normalize(frame_means(tokens).double(), dim=1), tau, merge).tolist()
    assert sorted(set(number)) == list(range(number[-1] + 1))
    assert number == sorted(number)
    first = [t for t in range(len(number)) if t == 0 or number[t] > number[t - 1]]
    return [[begin, end - 1] for begin, end in pairwise([*first, len(number)])]


def asked(tokens: VisualTokens, option: str, tau: float, ratio: float, **changed: object) -> Budget:
    """With relevance=prototype."""
    merge = option == "segment_released"
    prototype = component("relevance", "prototype", tau=tau, merge_singletons=merge)
    relevance = prototype(toy_frames(range(tokens.frames), tokens.frames), tokens, toy_question())
    return component("budget", option, retention_ratio=ratio, tau=tau, **changed)(relevance, tokens)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['segments'][-1]}-{case['r']}")
def test_released_budgets(case: dict) -> None:
    """Outputs of the released functions."""
    tokens = turned(case["frame_angles_deg"], case["tokens_per_frame"], case["query_angle_deg"])
    found = segments_of(tokens, case["tau"])
    assert found == case["segments"]
    budget = asked(tokens, "segment_released", case["tau"], case["r"], min_ratio=case["r_min"])
    expected = case["budgets"]
    if isinstance(expected, dict):
        expected = [n for n, (a, b) in zip(expected.values(), found, strict=True) for _ in range(b - a + 1)]
    assert budget.per_frame.tolist() == expected
    assert budget.total == case["sum"]


@pytest.mark.parametrize(
    ("angles", "tau", "expected"),
    [
        ([0, 90] * 8, 0.8, [[0, 15]]),
        ([0, 0, 25, 25], 0.8, [[0, 3]]),
        ([0, 0, 25, 25], 0.95, [[0, 1], [2, 3]]),
        ([0, 90], 0.8, [[0, 1]]),
        ([0, 0, 90, 20, 20], 0.8, [[0, 1], [2, 4]]),
        ([0, 0, 90, 180, 160, 160], 0.8, [[0, 1], [2, 5]]),
    ],
)
def test_singletons_join_a_neighbour(angles: list[float], tau: float, expected: list[list[int]]) -> None:
    """The first four as told of the released code."""
    assert segments_of(turned(angles, 2), tau) == expected


@pytest.mark.parametrize("angles", [[0], [0, 0, 180], [0, 180], [180, 0, 0]])
def test_singletons_at_which_the_released_code_fails(angles: list[float]) -> None:
    """Or may, depending on the last bit of a cosine of −1."""
    assert segments_of(turned(angles, 2), 0.8) == [[0, len(angles) - 1]]


def standing(looks: list[list[float]]) -> VisualTokens:
    """A token a frame, whose cosines come out exactly."""
    return toy_tokens([1] * len(looks), (1, 1), width=2, features=torch.tensor(looks))


def test_at_a_tie_a_singleton_joins_what_comes_later() -> None:
    tokens = standing([[1.0, 0], [1, 0], [0, 1], [-1, 0], [-1, 0]])
    assert segments_of(tokens, 0.8) == [[0, 1], [2, 4]]


def test_segments_of_the_paper_may_be_single_frames() -> None:
    assert segments_of(turned([0, 90, 90, 0], 3), 0.8, merge=False) == [[0, 0], [1, 2], [3, 3]]


def test_the_cut_is_strict() -> None:
    tokens = standing([[2.0, 0], [3, 0], [0, 1]])
    assert segments_of(tokens, 0, merge=False) == [[0, 2]]
    assert segments_of(tokens, 1e-9, merge=False) == [[0, 1], [2, 2]]


@pytest.mark.parametrize(("size", "least"), [(196, 20), (169, 17), (299, 30), (25, 2), (35, 4), (15, 2), (5, 0)])
def test_minimum_is_rounded_half_to_even(size: int, least: int) -> None:
    """A ratio at which minima are all there is."""
    budget = component("budget", "segment_released", retention_ratio=0.01)(torch.zeros(3), turned([0, 0, 0], size))
    assert budget.per_frame.tolist() == [least] * 3


def plainly(
    looks: np.ndarray, relevance: np.ndarray, size: int, ratio: float, least: float, tau: float
) -> tuple[list[list[int]], list[int]]:
    """The released rule, frame by frame: segments, and tokens of each frame."""

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    looks = np.stack([unit(look) for look in looks])
    parts = [[0]]
    for t in range(1, len(looks)):
        if looks[t - 1] @ looks[t] < tau:
            parts.append([])
        parts[-1].append(t)
    i = 0
    while i < len(parts) and len(parts) > 1:
        if len(parts[i]) > 1:
            i += 1
            continue
        own = looks[parts[i][0]]
        left = own @ unit(looks[parts[i - 1]].mean(0)) if i > 0 else -1
        right = own @ unit(looks[parts[i + 1]].mean(0)) if i + 1 < len(parts) else -1
        if left > right:
            parts[i - 1] += parts.pop(i)
        else:
            alone = parts.pop(i)
            parts[i] = alone + parts[i]
    score = [relevance[part].mean() for part in parts]
    weight = np.exp(score) / np.exp(score).sum()
    frames = len(looks)
    base = round(size * least)
    bonus = max(0, int(frames * size * ratio - frames * base))
    extra = [0] * len(parts)
    while bonus > 0:
        open_ = [m for m, part in enumerate(parts) if extra[m] < len(part) * (size - base)]
        if not open_:
            break
        shares = {m: weight[m] / sum(weight[k] for k in open_) for m in open_}
        spent = 0
        for m in open_:
            give = min(round(bonus * shares[m]), len(parts[m]) * (size - base) - extra[m])
            extra[m] += give
            spent += give
        if spent == 0:
            m = max(open_, key=shares.__getitem__)
            extra[m] += min(bonus, len(parts[m]) * (size - base) - extra[m])
            break
        bonus -= spent
    each = [min(size, base + round(extra[m] / len(part))) for m, part in enumerate(parts) for _ in part]
    return parts, each


@pytest.mark.parametrize("seed", range(100))
def test_released_rule(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames, size = int(random.integers(2, 40)), int(random.integers(1, 200))
    ratio, least = random.choice([0.1, 0.15, 0.2, 0.25, 0.5, 0.9, 1]), random.choice([0, 0.05, 0.1, 0.3])
    tau, spread = random.choice([0.3, 0.8, 0.95]), random.choice([0.2, 1, 5])
    tokens = film(seed, [size] * frames)
    relevance = spread * random.normal(size=frames)
    looks = tokens.features.double().numpy().reshape(frames, size, -1).mean(1)
    parts, granted = plainly(looks, relevance, size, ratio, least, tau)
    assert segments_of(tokens, tau) == [[part[0], part[-1]] for part in parts]
    budget = component(
        "budget", "segment_released", retention_ratio=float(ratio), tau=float(tau), min_ratio=float(least)
    )(torch.from_numpy(relevance), tokens)
    assert budget.per_frame.tolist() == granted


videos = st.integers(0, 10**6)
ratios = st.sampled_from([0.02, 0.1, 0.15, 0.25, 0.5, 0.87, 1.0])
taus = st.sampled_from([-0.5, 0.3, 0.8, 0.95])


@settings(deadline=None, max_examples=80)
@given(videos, st.integers(1, 30), st.integers(1, 60), ratios, st.sampled_from([0, 0.1, 0.25]), taus)
def test_invariants_of_the_released_rule(
    seed: int, frames: int, size: int, ratio: float, least: float, tau: float
) -> None:
    tokens = film(seed, [size] * frames)
    parts = segments_of(tokens, tau)
    assert parts[-1][1] == frames - 1
    assert frames == 1 or all(last > first for first, last in parts)
    budget = asked(tokens, "segment_released", tau, ratio, min_ratio=least)
    granted, base = budget.per_frame.tolist(), round(size * least)
    assert all(base <= n <= size for n in granted)
    assert all(len(set(granted[first : last + 1])) == 1 for first, last in parts)
    if ratio * frames * size <= frames * base:
        assert granted == [base] * frames
    else:
        assert abs(sum(granted) - ratio * frames * size) <= frames / 2 + len(parts) / 2 + 1
    if ratio == 1:
        assert granted == [size] * frames


@settings(deadline=None, max_examples=40)
@given(videos, st.integers(1, 20), st.integers(1, 30), ratios, taus, st.sampled_from(["segment", "segment_released"]))
def test_scale_does_not_matter(seed: int, frames: int, size: int, ratio: float, tau: float, option: str) -> None:
    tokens = film(seed, [size] * frames)
    larger = toy_tokens(
        [size] * frames,
        tokens.grid,
        width=6,
        features=8 * tokens.features,
        question_feature=0.25 * tokens.cues.question_feature,
    )
    assert asked(larger, option, tau, ratio).per_frame.equal(asked(tokens, option, tau, ratio).per_frame)


def exactly(parts: list[list[int]], relevance: np.ndarray, size: np.ndarray, ratio: float, least: float) -> np.ndarray:
    """Equation 5 where no segment takes more than it has, frame by frame before rounding: the water by bisection."""
    base = np.array([round(n * least) for n in size.tolist()])
    total = ratio * size.sum()
    if total <= base.sum():
        return base * total / base.sum()
    room = [(size - base)[a : b + 1].sum() for a, b in parts]
    score = np.array([relevance[a : b + 1].mean() for a, b in parts])
    weight = np.exp(score - score.max())
    low, high = 0.0, 1.0
    while np.minimum(room, high * weight).sum() < total - base.sum() and high < 1e300:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        short = np.minimum(room, middle * weight).sum() < total - base.sum()
        low, high = (middle, high) if short else (low, middle)
    given = np.minimum(room, high * weight)
    quota = base.astype(float)
    for (a, b), extra, free in zip(parts, given, room, strict=True):
        quota[a : b + 1] += extra * (size - base)[a : b + 1] / max(free, 1)
    return quota


@settings(deadline=None, max_examples=80)
@given(
    videos,
    st.lists(st.integers(0, 40), min_size=1, max_size=25).filter(any),
    ratios,
    st.sampled_from([0, 0.1, 0.4, 1]),
    taus,
    st.booleans(),
)
def test_exact_sum(seed: int, size: list[int], ratio: float, least: float, tau: float, merge: bool) -> None:
    """Frames of any size. Whole tokens lie within one of what bisection finds, and are ⌊r·K + ½⌋ in all."""
    tokens = film(seed, size)
    relevance = 2 * np.random.default_rng(seed).normal(size=len(size))
    changed = {"tau": tau, "min_ratio": least, "merge_singletons": merge}
    budget = component("budget", "segment", retention_ratio=ratio, **changed)(torch.from_numpy(relevance), tokens)
    quota = exactly(segments_of(tokens, tau, merge), relevance, np.array(size), ratio, least)
    granted = budget.per_frame.numpy()
    assert granted.sum() == math.floor(ratio * sum(size) + 0.5 + 1e-9)
    assert (granted <= size).all()
    assert (granted >= np.floor(quota - 1e-9)).all()
    assert (granted <= np.ceil(quota - 1e-9)).all()
    np.testing.assert_allclose(budget.rate * torch.tensor(size), quota, rtol=1e-9, atol=1e-9)
    if ratio == 1:
        assert granted.tolist() == size


@pytest.mark.parametrize("temperature", [0, 1e-6, 1, 1e6, math.inf])
def test_exact_sum_at_any_temperature(temperature: float) -> None:
    random = np.random.default_rng(5)
    for seed in range(40):
        size = [int(random.integers(1, 30))] * int(random.integers(1, 20))
        ratio = float(random.uniform(0.01, 1))
        budget = component("budget", "segment", retention_ratio=ratio, temperature=temperature)
        relevance = torch.from_numpy(random.normal(size=len(size)) * 10.0 ** random.integers(-3, 30))
        granted = budget(relevance, film(seed, size))
        assert granted.total == math.floor(ratio * sum(size) + 0.5)
        assert int(granted.per_frame.min()) >= 0
        assert int(granted.per_frame.max()) <= size[0]


def test_equation_5_by_hand() -> None:
    """20 tokens a frame, 2 at least; weights 0.75 and 0.25; 40 − 8 tokens to give."""
    relevance = torch.tensor([math.log(3)] * 2 + [0.0] * 2)
    tokens = turned([0, 0, 90, 90], 20)
    budget = component("budget", "segment", retention_ratio=0.5)(relevance, tokens)
    assert budget.per_frame.tolist() == [14, 14, 6, 6]
    assert budget.rate.tolist() == pytest.approx([0.7, 0.7, 0.3, 0.3])
    cold = component("budget", "segment", retention_ratio=0.75, temperature=0)(relevance, tokens)
    assert cold.per_frame.tolist() == [20, 20, 10, 10]
    hot = component("budget", "segment", retention_ratio=0.5, temperature=math.inf)(relevance, tokens)
    assert hot.per_frame.tolist() == [10] * 4


def test_relevance_is_averaged_over_a_segment() -> None:
    tokens = turned([0, 0, 90, 90], 50)
    for option in ("segment", "segment_released"):
        one, other = (
            component("budget", option, retention_ratio=0.4)(torch.tensor(scores), tokens).per_frame
            for scores in ([3.0, 1.0, 0.0, 1.0], [2.0, 2.0, 0.5, 0.5])
        )
        assert one.equal(other)
        assert int(one[0]) > int(one[3])


@pytest.mark.parametrize("option", ["segment", "segment_released"])
def test_frames_without_tokens_are_in_the_segment_before(option: str) -> None:
    looks = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    size = [0, 3, 0, 5, 4, 0, 4, 0]
    tokens = toy_tokens(size, (1, 5), width=2, features=looks.repeat_interleave(torch.tensor([3, 5, 4, 4]), 0))
    assert segments(normalize(frame_means(tokens).double(), dim=1), 0.8, False).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    budget = component("budget", option, retention_ratio=0.5, min_ratio=0)(torch.tensor([2.0] * 4 + [0.0] * 4), tokens)
    weight = math.exp(2) / (1 + math.exp(2))
    if option == "segment":
        parts = [8 * weight, 8 - 8 * weight]
        expected = [n / 8 * part for n, part in zip(size, [parts[0]] * 4 + [parts[1]] * 4, strict=True)]
        assert (budget.rate * torch.tensor(size)).tolist() == pytest.approx(expected)
        assert budget.total == 8
    else:  # 7 tokens to the first segment, of 3 and 5; 1 to the second, of 4 and 4: its halves are rounded to even
        assert budget.per_frame.tolist() == [0, 3, 0, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("option", ["segment", "segment_released"])
def test_one_frame(option: str) -> None:
    budget = component("budget", option, retention_ratio=0.3)(torch.tensor([5.0]), turned([40], 20))
    assert budget.per_frame.tolist() == [6]
    assert budget.rate.tolist() == pytest.approx([0.3])


def test_frames_look_like_the_mean_of_their_tokens() -> None:
    tokens = film(3, [4, 0, 1, 3])
    frames = tokens.features.double().split([4, 0, 1, 3])
    expected = [f.mean(0).tolist() if len(f) else [0] * 6 for f in frames]
    torch.testing.assert_close(frame_means(tokens), torch.tensor(expected))
    half = toy_tokens([4, 0, 1, 3], tokens.grid, width=6, features=tokens.features.bfloat16())
    assert frame_means(half).dtype == torch.float32
    torch.testing.assert_close(frame_means(half), frame_means(tokens), atol=0.01, rtol=0.01)


@pytest.mark.parametrize("option", ["segment", "segment_released"])
@pytest.mark.parametrize("size", [1, 3, 5, 20, 196])
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.3])
def test_static_budgets_are_told_once(option: str, size: int, ratio: float, caplog: pytest.LogCaptureFixture) -> None:
    """And with half the ratio as minimum there is something left to give, whatever the size."""
    tokens = turned([0, 0, 90, 90], size)
    budget = component("budget", option, retention_ratio=ratio, min_ratio=1.0)
    with caplog.at_level(logging.WARNING):
        first = budget(torch.tensor([9.0, 9.0, 0.0, 0.0]), tokens)
        second = budget(torch.tensor([0.0, 0.0, 9.0, 9.0]), tokens)
    assert first.per_frame.equal(second.per_frame)
    assert len(caplog.records) == 1
    assert f"min_ratio={ratio / 2:g} would leave" in caplog.text
    caplog.clear()
    component("budget", option, retention_ratio=ratio, min_ratio=ratio / 2)(torch.zeros(4), tokens)
    assert not caplog.records


def test_at_a_tenth_the_released_minimum_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    component("budget", "segment", retention_ratio=0.1)(torch.zeros(64), turned([0] * 64, 196))
    assert "1280 tokens" in caplog.text
    caplog.clear()
    component("budget", "segment", retention_ratio=0.15)(torch.zeros(64), turned([0] * 64, 196))
    assert not caplog.records


def test_tokens_that_no_model_looked_at() -> None:
    tokens = toy_tokens([4] * 2, (2, 2), width=0)
    with pytest.raises(ValueError, match="choose a budget and a relevance without segments"):
        component("budget", "segment")(torch.zeros(2), tokens)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_scores_have_to_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="relevance must be finite"):
        component("budget", "segment")(torch.tensor([0.0, bad]), turned([0, 0], 3))


@pytest.mark.parametrize(
    "changed",
    [
        {"tau": 1.5},
        {"tau": None},
        {"min_ratio": -0.1},
        {"min_ratio": 1.1},
        {"temperature": -1},
        {"rounding": "floor"},
        {"retention_ratio": 0},
    ],
)
def test_options_are_checked(changed: dict[str, object]) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=f"{next(iter(changed))} must be"):
        component("budget", "segment", **changed)
