"""Uniform, top-k and zero against hand-computed numbers, top-k also against the released code's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import component, toy_tokens

KEYVIDEOLLM = Path(__file__).parent.parent / "fixtures" / "keyvideollm.npz"


def test_uniform_floors_each_frame() -> None:
    tokens = toy_tokens([169], (13, 13))
    ratios = (0.006, 0.1, 0.2, 0.5, 0.999, 1.0)
    kept = [component("budget", "uniform", retention_ratio=r)(torch.zeros(1), tokens).total for r in ratios]
    assert kept == [1, 16, 33, 84, 168, 169]


def test_uniform_is_not_fooled_by_binary_fractions() -> None:
    tokens = toy_tokens([180], (1, 180))
    assert component("budget", "uniform", retention_ratio=0.35)(torch.zeros(1), tokens).total == 63


@pytest.mark.parametrize(("ratio", "total"), [(0.1, 9), (0.25, 22), (0.5, 45), (1.0, 89), (0.005, 0), (0.006, 1)])
def test_uniform_with_an_exact_total(ratio: float, total: int) -> None:
    tokens = toy_tokens([16, 16, 1, 0, 16, 16, 16, 8], (4, 4))
    budget = component("budget", "uniform", retention_ratio=ratio, rounding="largest_remainder")(torch.zeros(8), tokens)
    assert budget.total == total
    assert (budget.per_frame <= tokens.per_frame).all()
    assert (budget.per_frame - ratio * tokens.per_frame).abs().max() < 1


def test_full_keeps_everything() -> None:
    tokens = toy_tokens([16, 3, 0], (4, 4))
    budget = component("budget", "full")(torch.zeros(3), tokens)
    assert budget.retention_ratio == 1
    assert torch.equal(budget.per_frame, tokens.per_frame)


def test_topk_keeps_the_earlier_of_equals() -> None:
    scores = torch.tensor([0.1, 0.9, 0.3, 0.9, 0.2, 0.8, 0, 0, 0, 0])
    budget = component("budget", "topk", retention_ratio=0.2)(scores, toy_tokens([4] * 10, (2, 2)))
    assert budget.per_frame.tolist() == [0, 4, 0, 4, 0, 0, 0, 0, 0, 0]
    one = component("budget", "topk", retention_ratio=0.1)(scores, toy_tokens([4] * 10, (2, 2)))
    assert one.per_frame.nonzero().tolist() == [[1]]


def test_topk_keeps_at_least_one_frame() -> None:
    budget = component("budget", "topk", retention_ratio=0.01)(torch.tensor([0.0, -1, 2]), toy_tokens([4] * 3, (2, 2)))
    assert budget.per_frame.tolist() == [0, 0, 4]


def test_zero_grants_nothing_and_is_no_full_run() -> None:
    budget = component("budget", "zero")(torch.zeros(2), toy_tokens([4, 4], (2, 2)))
    assert budget.total == 0
    assert 0 < budget.retention_ratio < 1e-300


@pytest.mark.parametrize("option", ["uniform", "softmax", "topk"])
@pytest.mark.parametrize("ratio", [0.0, 1.5])
def test_ratio_is_checked(option: str, ratio: float) -> None:
    with pytest.raises(Exception, match=r"retention_ratio must be in \(0, 1\]"):
        component("budget", option, retention_ratio=ratio)


def test_topk_on_cosines_keeps_the_frames_of_the_released_code() -> None:
    """KeyVideoLLM's order of 32 frames by similarity to one text, of which it keeps 8."""
    released = np.load(KEYVIDEOLLM)
    text, frames = (torch.from_numpy(released[name]) for name in ("text", "frames"))
    cosine = torch.cosine_similarity(frames[0], text, dim=1)
    count = int(released["k"])
    budget = component("budget", "topk", retention_ratio=count / 32)(cosine, toy_tokens([4] * 32, (2, 2)))
    kept = budget.per_frame.nonzero()[:, 0].tolist()
    assert kept == sorted(released["order"][:count].tolist())
    assert set(budget.per_frame.tolist()) == {0, 4}
    assert budget.total == 4 * count == 32
