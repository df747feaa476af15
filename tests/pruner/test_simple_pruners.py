"""Random, frame_drop, text_only and none against their definitions."""

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_budget, toy_tokens, unchecked

from kvtp.types import Budget


def drawn(question: str, seed: int = 0, count: int = 6, layer: int = 0) -> list[int]:
    tokens = toy_tokens([16] * 3, (4, 4), layer=layer)
    pruner = component("pruner", "random", seed=seed)
    pruner.question_id = question
    return pruner(tokens, toy_budget([count, 0, count], tokens)).index.tolist()


def test_random_depends_on_question_seed_and_layer_only() -> None:
    torch.manual_seed(1)
    first = drawn("a")
    torch.manual_seed(2)
    drawn("b")
    assert drawn("a") == first
    assert drawn("b") != first
    assert drawn("a", seed=1) != first
    assert drawn("a", layer=2) != first


def test_random_is_pinned() -> None:
    """Not from anywhere else: whoever changes these rows changes every result of `random`."""
    assert drawn("question", count=3) == [4, 11, 13, 32, 33, 35]


def test_random_grows() -> None:
    assert set(drawn("a", count=4)) <= set(drawn("a", count=9))


def test_random_is_uniform() -> None:
    """1000 draws of 4 from 16 without replacement: each token 250 ± 5 standard deviations of 13.7."""
    tokens = toy_tokens([16], (4, 4))
    pruner = component("pruner", "random")
    hits = torch.zeros(16)
    for number in range(1000):
        pruner.question_id = str(number)
        hits[pruner(tokens, toy_budget([4], tokens)).index] += 1
    assert (hits - 250).abs().max() < 5 * 13.7


@pytest.mark.parametrize(("frames", "ratio"), [(10, 0.3), (32, 0.1), (32, 0.2), (64, 0.33), (7, 1.0), (1, 0.2)])
def test_frame_drop_is_linspace(frames: int, ratio: float) -> None:
    tokens = toy_tokens([4] * frames, (2, 2))
    kept = tokens.keep(component("pruner", "frame_drop")(tokens, Budget(tokens.per_frame, ratio)))
    whole = np.linspace(0, frames - 1, max(1, round(ratio * frames))).astype(int)
    assert kept.per_frame.nonzero().squeeze(1).tolist() == whole.tolist()
    assert set(kept.per_frame.tolist()) <= {0, 4}


def test_frame_drop_keeps_at_least_one_frame() -> None:
    tokens = toy_tokens([4] * 5, (2, 2))
    assert component("pruner", "frame_drop")(tokens, Budget(tokens.per_frame, 0.01)).index.tolist() == [0, 1, 2, 3]


def test_frame_drop_ranks_the_whole_video() -> None:
    assert component("pruner", "frame_drop").scope == "video"


def test_text_only_keeps_nothing() -> None:
    tokens = toy_tokens([4] * 3, (2, 2))
    kept = tokens.keep(component("pruner", "text_only")(tokens, toy_budget([4, 4, 4], tokens)))
    assert len(kept) == 0
    assert kept.history == (12, 0)


def test_none_acts_nowhere() -> None:
    pruner = component("pruner", "none")
    tokens = toy_tokens([4] * 3, (2, 2))
    assert pruner.layers == ()
    assert torch.equal(tokens.keep(pruner(tokens, toy_budget([1, 1, 1], tokens))).features, tokens.features)


@pytest.mark.parametrize("option", ["random", "pool", "frame_drop", "text_only", "tome", "prumerge"])
def test_positions_are_an_option(option: str) -> None:
    assert component("pruner", option).positions == "renumber"
    assert component("pruner", option, positions="keep").positions == "keep"


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        ("tome", {"variant": "new"}),
        ("prumerge", {"variant": "new"}),
        ("prumerge", {"neighbours": -1}),
        ("prumerge", {"neighbours": 2.5}),
        ("random", {"seed": "abc"}),
        ("random", {"seed": 1.0}),
        ("random", {"seed": -1}),
    ],
)
def test_options_are_checked(option: str, changed: dict[str, object]) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=f"{next(iter(changed))} must be"):
        component("pruner", option, **changed)
