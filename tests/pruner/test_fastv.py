"""FastV against a sort in plain Python."""

import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_budget, toy_tokens, unchecked

from kvtp.types import VisualTokens


def kept(tokens: VisualTokens, ratio: float) -> list[int]:
    pruner = component("pruner", "fastv", retention_ratio=ratio)
    return pruner(tokens, toy_budget([0] * tokens.frames, tokens)).index.tolist()


def of_one_frame(*heads: list[float]) -> VisualTokens:
    attention = torch.tensor(heads).repeat(4 // len(heads), 1)
    return toy_tokens([attention.shape[1]], (1, attention.shape[1]), layer=2, last_attention=attention)


@pytest.mark.parametrize("counts", [[16, 16, 16], [16, 3, 0, 7], [1]])
@pytest.mark.parametrize("ratio", [0.1, 0.35, 0.5, 0.8, 1.0])
def test_equals_a_sort(counts: list[int], ratio: float) -> None:
    """Over the whole video; `round` is Python's."""
    tokens = toy_tokens(counts, (4, 4), layer=2, seed=len(counts))
    scores = [sum(column) / 4 for column in zip(*tokens.cues.last_attention.tolist(), strict=True)]
    best = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    assert kept(tokens, ratio) == sorted(best[: round(ratio * len(scores))])


def test_heads_are_averaged() -> None:
    """A token that half of the heads like much more against one that all like alike: the mean decides."""
    assert kept(of_one_frame([0.5, 0.3, 0.0], [0.0, 0.3, 0.1]), 1 / 3) == [1]
    assert kept(of_one_frame([0.7, 0.3, 0.0], [0.0, 0.3, 0.1]), 1 / 3) == [0]


def test_ties_go_to_the_earlier_token() -> None:
    assert kept(of_one_frame([0.2] * 100), 0.37) == list(range(37))
    assert kept(of_one_frame([0.1, 0.3, 0.1, 0.3, 0.1, 0.3]), 2 / 6) == [1, 3]
    assert kept(of_one_frame([0.1, 0.3, 0.1, 0.3, 0.1, 0.3]), 4 / 6) == [0, 1, 3, 5]


def test_what_it_says_of_itself() -> None:
    """Released variant with a cache: prefill only, positions go on, caches of the first layers stay whole."""
    pruner = component("pruner", "fastv", layer=5)
    assert (pruner.layers, pruner.scope, pruner.positions, pruner.compress_cache) == ((5,), "video", "keep", False)
    assert pruner.cues == {"last_attention"}
    assert component("pruner", "fastv").layers == (2,)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"layer": 0}, r"layer must be a whole number in \[1, inf\], got 0"),
        ({"layer": 2.5}, r"layer must be a whole number in \[1, inf\], got 2.5"),
        ({"retention_ratio": 0}, r"retention_ratio must be in \(0, 1\], got 0"),
        ({"retention_ratio": 1.5}, r"retention_ratio must be in \(0, 1\], got 1.5"),
    ],
)
def test_what_cannot_be(changed: dict[str, float], complaint: str) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=complaint):
        component("pruner", "fastv", **changed)
