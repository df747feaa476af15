"""Soft selection against hand-computed numbers and against the iterative definition of water-filling."""

import math
import sys

import pytest
import torch
from hydra.errors import InstantiationException
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import component, toy_tokens, unchecked

from kvtp.budget.softmax import Softmax
from kvtp.types import Budget

CASES = [(2, 1), (4, 16), (10, 9), (32, 49), (7, 196)]


def softmax(relevance: list[float], per_frame: int = 100, ratio: float = 0.2, **changed: object) -> Budget:
    tokens = toy_tokens([per_frame] * len(relevance), (1, per_frame), width=1)
    return component("budget", "softmax", retention_ratio=ratio, **changed)(torch.tensor(relevance), tokens)


def poured(rate: list[float]) -> list[float]:
    """Water-filling as it is told: what exceeds 1 goes to those below 1 in proportion, again and again."""
    while (excess := sum(max(r - 1, 0) for r in rate)) > 1e-12:
        below = sum(r for r in rate if r < 1)
        rate = [min(r, 1) if r >= 1 else r * (1 + excess / below) for r in rate]
    return rate


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(2, [0.052692, 0.052692, 0.641923, 0.052692]), (1, [0.005284, 0.005284, 0.784149, 0.005284])],
)
def test_equation_1(temperature: float, expected: list[float]) -> None:
    budget = softmax([0.0, 0.0, 5.0, 0.0], temperature=temperature)
    assert budget.rate.tolist() == pytest.approx(expected, abs=1e-6)
    assert budget.total == 80


def test_one_clip_of_128_frames_as_released() -> None:
    scores = [5.0] * 8 + [0.0] * 120
    budget = softmax(scores, 169, overflow="discard", rounding="floor")
    assert budget.rate[[0, 127]].tolist() == pytest.approx([1.434158, 0.117723], abs=1e-6)
    assert budget.per_frame[[0, 127]].tolist() == [169, 19]
    assert budget.total == 3632
    exact = softmax(scores, 169, overflow="discard")
    assert exact.total == math.floor(8 * 169 + 120 * 169 * 0.11772279 + 0.5)


def test_released_counts_of_169_tokens() -> None:
    """Scores that give the rates of KVTP's third example, one frame each."""
    rates = [0.005, 0.006, 0.1, 0.2, 0.5, 0.999, 1, 1.4]
    mean = sum(rates) / len(rates)
    released = {"temperature": 1, "overflow": "discard", "rounding": "floor"}
    budget = softmax([math.log(rate) for rate in rates], 169, mean, **released)
    assert budget.per_frame.tolist() == [0, 1, 16, 33, 84, 168, 169, 169]


def test_rates_of_a_question_in_two_parts() -> None:
    """KVTP's eleventh example: [3, 1, 2, 3] is the better of [0, 1, 2, 3] and [3, 0, 0, 0] for each frame."""
    budget = softmax([3.0, 1, 2, 3], 169, temperature=2, overflow="discard")
    assert budget.rate.tolist() == pytest.approx([0.268961, 0.098945, 0.163133, 0.268961], abs=1e-6)


def test_one_clip_of_128_frames_water_filled() -> None:
    scores = [5.0] * 8 + [0.0] * 120
    budget = softmax(scores, 169, rounding="floor")
    assert budget.rate[[0, 127]].tolist() == pytest.approx([1, 0.1466667], abs=1e-7)
    assert budget.rate.sum().item() == pytest.approx(25.6)
    assert budget.total == 4232
    assert softmax(scores, 169).total == 4326


def test_water_filling_by_hand() -> None:
    scores = [math.log(1.6), math.log(0.2), math.log(0.1), math.log(0.1)]  # softmax·T·0.5 = 1.6, .2, .1, .1
    assert softmax(scores, ratio=0.5, temperature=1).rate.tolist() == pytest.approx([1, 0.5, 0.25, 0.25])


@pytest.mark.parametrize("seed", range(20))
def test_water_filling_equals_pouring(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(12, generator=random) * 3
    ratio = float(torch.rand(1, generator=random))
    rate = scores.double().softmax(0) * 12 * ratio
    assert softmax(scores.tolist(), ratio=ratio, temperature=1).rate.tolist() == pytest.approx(poured(rate.tolist()))


def extreme(kind: int, frames: int, random: torch.Generator) -> torch.Tensor:
    normal = torch.randn(frames, generator=random)
    huge = torch.tensor([-1e30, 1e30, 0.0, 1e-30, -3e38, 3e38])
    picked = torch.randint(0, len(huge), (frames,), generator=random)
    return (normal, normal * 1e3, normal.round(), huge[picked], normal * 1e-6, torch.zeros(frames))[kind]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_total_is_exact(case: int) -> None:
    """2000 score vectors per shape, with ties, underflow and the largest numbers there are."""
    frames, per_frame = CASES[case]
    random = torch.Generator().manual_seed(case)
    tokens = toy_tokens([per_frame] * frames, (1, per_frame), width=1)
    temperatures = (0, 1e-6, 0.5, 2, 1e6)
    ratios = (0.01, 0.1, 0.2, 0.5, 0.87, 1.0)
    budgets = {
        (t, r): component("budget", "softmax", retention_ratio=r, temperature=t) for t in temperatures for r in ratios
    }
    for number in range(2000):
        temperature, ratio = temperatures[number % 5], ratios[number % 6]
        budget = budgets[temperature, ratio](extreme(number // 5 % 6, frames, random), tokens)
        assert budget.total == math.floor(ratio * frames * per_frame + 0.5)
        assert int(budget.per_frame.min()) >= 0
        assert int(budget.per_frame.max()) <= per_frame


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-6])
def test_cold_keeps_the_best_frames_whole(temperature: float) -> None:
    budget = softmax([0.3, -1.0, 0.9, 0.2, 0.8], 10, ratio=0.5, temperature=temperature)
    assert budget.per_frame.tolist() == [5, 0, 10, 0, 10]
    tied = softmax([0.9, 0.1, 0.9, 0.9, 0.0], 10, ratio=0.3, temperature=temperature)
    assert tied.per_frame.tolist() == [5, 0, 5, 5, 0]


def test_temperature_has_no_jump_at_zero() -> None:
    scores = [0.3, -1.0, 0.9, 0.2, 0.9]
    cold, colder = (softmax(scores, 10, ratio=0.5, temperature=t).rate for t in (1e-4, 0))
    assert torch.allclose(cold, colder)


def test_hot_is_uniform() -> None:
    assert softmax([5.0, -3.0, 0.0], 10, ratio=0.3, temperature=1e12).per_frame.tolist() == [3, 3, 3]


def test_equal_scores_give_the_ratio_itself() -> None:
    for overflow in ("water_fill", "discard"):
        for frames in range(1, 60):
            rate = softmax([7.0] * frames, 3, ratio=0.1, overflow=overflow).rate
            assert rate.tolist() == [0.1] * frames


def test_shift_and_permutation() -> None:
    scores = [0.5, 3.0, -1.0, 2.0]
    rate = softmax(scores).rate
    assert torch.allclose(softmax([s + 40 for s in scores]).rate, rate)
    assert torch.allclose(softmax(scores[::-1]).rate, rate.flip(0))


@pytest.mark.parametrize("overflow", ["water_fill", "discard"])
@pytest.mark.parametrize("temperature", [0, 1e-6, 0.5, 1e6])
def test_min_tokens(overflow: str, temperature: float) -> None:
    random = torch.Generator().manual_seed(3)
    tokens = toy_tokens([16, 16, 0, 2, 16, 16], (4, 4))
    least = torch.tensor([3, 3, 0, 2, 3, 3])
    free = component("budget", "softmax", temperature=temperature, overflow=overflow)
    bound = component("budget", "softmax", temperature=temperature, overflow=overflow, min_tokens=3)
    for kind in range(6):
        scores = extreme(kind, 6, random)
        budget = bound(scores, tokens)
        assert (budget.per_frame >= least).all()
        assert (budget.per_frame <= tokens.per_frame).all()
        if overflow == "water_fill":
            assert budget.total == round(0.3 * 66)
        else:  # what is discarded is discarded with and without a minimum, unless the minima alone are more
            assert budget.total == max(free(scores, tokens).total, int(least.sum()))


def test_total_is_exact_with_min_tokens_and_uneven_frames() -> None:
    """Minima hold, and the total is that of the request, wherever the minima fit into it; they do in every case."""
    random = torch.Generator().manual_seed(11)
    for number in range(1000):
        frames = int(torch.randint(1, 9, (1,), generator=random))
        size = torch.randint(0, 17, (frames,), generator=random)
        size[0] += 1  # not a video without tokens
        least = size.clamp_max(number % 4)
        ratio = max((0.01, 0.1, 0.2, 0.5, 0.87, 1.0)[number % 6], int(least.sum()) / int(size.sum()))
        temperature = (0, 1e-6, 0.5, 2, 1e6)[number % 5]
        budget = Softmax(ratio, temperature, "water_fill", "largest_remainder", number % 4, None)(
            extreme(number // 5 % 6, frames, random), toy_tokens(size.tolist(), (1, 17), width=1)
        )
        assert budget.total == math.floor(ratio * int(size.sum()) + 0.5)
        assert (budget.per_frame >= least).all()
        assert (budget.per_frame <= size).all()


@pytest.mark.parametrize(
    ("size", "min_tokens", "ratio", "scores", "granted"),
    [
        ([16, 5], 2, 0.2, [0.0, 0.0], [2, 2]),
        ([2, 16, 16], 2, 0.3, [2.0, 3.0, 2.0], [2, 6, 2]),
        ([16, 6, 10], 1, 0.1, [1.0, 0.0, 0.0], [1, 1, 1]),
        ([4, 14, 4], 3, 0.5, [2.0, 0.0, 0.0], [4, 4, 3]),
    ],
)
def test_frames_at_their_minimum_stay_there(
    size: list[int], min_tokens: int, ratio: float, scores: list[float], granted: list[int]
) -> None:
    """Where the minimum in single precision, or taken to its logarithm and back, is no longer the minimum."""
    budget = component("budget", "softmax", retention_ratio=ratio, temperature=0.5, min_tokens=min_tokens)
    assert budget(torch.tensor(scores), toy_tokens(size, (4, 4))).per_frame.tolist() == granted


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that an operation returned."""

    numel = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        self.numel = max(self.numel, *(t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)), 0)
        return result


@pytest.mark.parametrize("min_tokens", [0, 1])
def test_memory_grows_with_the_frames_only(min_tokens: int) -> None:
    tokens = toy_tokens([2] * 600, (1, 2), width=1)
    budget = component("budget", "softmax", retention_ratio=0.7, min_tokens=min_tokens)
    with Largest() as largest:
        budget(torch.randn(600, generator=torch.Generator().manual_seed(0)), tokens)
    assert 600 <= largest.numel <= 2 * 600


def test_min_tokens_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"min_tokens must be in \[0, 2\] .* got 3"):
        softmax([0.0, 1.0, 2.0], 10, ratio=0.2, min_tokens=3)


def test_frames_of_different_size_fill_exactly() -> None:
    tokens = toy_tokens([16, 1, 0, 9], (4, 4))
    budget = component("budget", "softmax", retention_ratio=0.5)(torch.tensor([0.0, 9.0, 99.0, 0.0]), tokens)
    assert budget.total == 13
    assert int(budget.per_frame[1]) == 1
    assert budget.rate[[0, 3]].tolist() == pytest.approx([12 / 25, 12 / 25])


def test_clips_are_averaged() -> None:
    assert torch.allclose(
        softmax([1.0, 3.0, 0.0, 0.0, 5.0], clip=2).rate,
        softmax([2.0, 2.0, 0.0, 0.0, 5.0]).rate,
    )


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_scores_have_to_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="relevance must be finite"):
        softmax([0.0, bad, 1.0])


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": -1},
        {"temperature": "abc"},
        {"overflow": "drop"},
        {"rounding": "ceil"},
        {"min_tokens": -1},
        {"min_tokens": 1.5},
        {"clip": 0},
        {"clip": 2.5},
    ],
)
def test_options_are_checked(changed: dict[str, object]) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=f"{next(iter(changed))} must be"):
        component("budget", "softmax", **changed)


def test_smallest_ratio() -> None:
    assert softmax([1.0, 2.0], ratio=sys.float_info.min).total == 0
