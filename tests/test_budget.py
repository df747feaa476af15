"""What every budget promises, found by listing conf/budget."""

import pytest
import torch
from toys import component, options, toy_tokens

SHAPES = {
    "square": ([16] * 6, (4, 4)),
    "not square": ([10] * 3, (2, 5)),
    "no grid": ([7] * 4, (1, 7)),
    "one frame": ([16], (4, 4)),
    "one token": ([1], (1, 1)),
    "uneven": ([16, 0, 1, 9, 16], (4, 4)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("option", options("budget"))
def test_within_the_frame(option: str, shape: str) -> None:
    tokens = toy_tokens(*SHAPES[shape])
    relevance = torch.randn(tokens.frames, generator=torch.Generator().manual_seed(1))
    accepted = []
    for ratio in (0.05, 0.3, 1.0):
        try:
            budget = component("budget", option, retention_ratio=ratio)(relevance, tokens)
        except ValueError as error:
            if "retention_ratio must be in" not in str(error):  # a ratio at which the budget is not defined
                raise
            continue
        accepted.append(ratio)
        assert (budget.per_frame >= 0).all()
        assert (budget.per_frame <= tokens.per_frame).all()
        assert budget.per_frame.shape == (tokens.frames,)
        assert budget.total == budget.per_frame.sum()
    assert accepted, "a budget has to be defined at some ratio"


@pytest.mark.parametrize("option", options("budget"))
def test_same_input_same_budget(option: str) -> None:
    tokens = toy_tokens([16] * 6, (4, 4))
    relevance = torch.tensor([0.1, 0.9, 0.9, -2.0, 0.0, 0.3])
    first, second = (component("budget", option, retention_ratio=0.5)(relevance, tokens) for _ in range(2))
    assert torch.equal(first.per_frame, second.per_frame)
    assert first.retention_ratio == second.retention_ratio
