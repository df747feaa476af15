"""LLM-VTP's selection against numbers of the released successor, and against loops in plain Python."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_budget, toy_tokens, unchecked

from kvtp.types import Selection, VisualTokens

POOL: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
}
ROUND = {"ceil": math.ceil, "floor": math.floor}
OPTIONS = {
    "scope": ("frame", "video"),
    "head_pool": tuple(POOL),
    "query_pool": ("mean", "max"),
    "attention": ("rope", "plain"),
    "rounding": tuple(ROUND),
}


def select(tokens: VisualTokens, option: str = "llm_vtp", *, alpha: float = 0.3, **changed: Any) -> Selection:
    """Under a budget of nothing: it does not bind."""
    pruner = component("pruner", option, retention_ratio=alpha, **changed)
    return pruner(tokens, toy_budget([0] * tokens.frames, tokens))


def by_loops(tokens: VisualTokens, alpha: str, how: dict[str, Any]) -> list[int]:
    """One token at a time; `alpha` as it is written, multiplied exactly."""
    cue = "question_attention" if how["attention"] == "rope" else "question_attention_plain"
    heads = getattr(tokens.cues, cue).tolist()
    scores = []
    for token in range(len(tokens)):
        rows = [POOL[how["head_pool"]]([head[row][token] for head in heads]) for row in range(len(heads[0]))]
        scores.append(POOL[how["query_pool"]](rows))
    places = tokens.frame.tolist() if how["scope"] == "frame" else [0] * len(tokens)
    kept: list[int] = []
    for place in sorted(set(places)):
        mine = [token for token in range(len(tokens)) if places[token] == place]
        count = ROUND[how["rounding"]](Fraction(alpha) * len(mine))
        kept += sorted(mine, key=lambda token: (-scores[token], token))[:count]
    return sorted(kept)


@pytest.mark.parametrize("counts", [[16, 16, 16], [16, 1, 0, 7, 10]])
@pytest.mark.parametrize("values", product(*OPTIONS.values()), ids="-".join)
def test_equals_one_token_at_a_time(counts: list[int], values: tuple[str, ...]) -> None:
    how = dict(zip(OPTIONS, values, strict=True))
    tokens = toy_tokens(counts, (4, 4), layer=10, seed=len(counts))
    for alpha in ("0.1", "0.3", "0.5", "0.9"):
        assert select(tokens, alpha=float(alpha), **how).index.tolist() == by_loops(tokens, alpha, how)


def numbers() -> tuple[VisualTokens, float, Any]:
    """Random attention, and what is kept of it by the released code and by the paper's rule (heads: maximum)."""
    given = np.load(Path(__file__).parent.parent / "fixtures" / "llmvtp_select.npz")
    attention = torch.from_numpy(given["att"][0])
    heads = len(attention)
    tokens = toy_tokens(
        [int(given["Nv"])] * int(given["T"]),
        (2, 5),
        layer=10,
        cls_attention_heads=torch.zeros(heads, attention.shape[2]),
        question_attention=attention,
        question_attention_plain=attention,
        last_attention=attention[:, -1],
    )
    return tokens, float(given["alpha"]), given


def test_numbers_of_the_released_code() -> None:
    tokens, alpha, given = numbers()
    assert select(tokens, "llm_vtp_prunevid", alpha=alpha).index.tolist() == given["kept_official_floor_max"].tolist()
    assert select(tokens, alpha=alpha).index.tolist() == given["kept_paper_ceil_mean"].tolist()


@pytest.mark.parametrize(
    ("option", "kept", "changed"),
    [
        # the released code's set is the same for the mean over heads
        ("llm_vtp_prunevid", "kept_official_floor_max", {"head_pool": "min"}),
        ("llm_vtp_prunevid", "kept_official_floor_max", {"query_pool": "mean"}),
        ("llm_vtp_prunevid", "kept_official_floor_max", {"rounding": "ceil"}),
        ("llm_vtp_prunevid", "kept_official_floor_max", {"scope": "video"}),
        ("llm_vtp", "kept_paper_ceil_mean", {"head_pool": "mean"}),
        ("llm_vtp", "kept_paper_ceil_mean", {"head_pool": "min"}),
        ("llm_vtp", "kept_paper_ceil_mean", {"query_pool": "max"}),
        ("llm_vtp", "kept_paper_ceil_mean", {"rounding": "floor"}),
        ("llm_vtp", "kept_paper_ceil_mean", {"scope": "video"}),
    ],
)
def test_numbers_tell_the_options_apart(option: str, kept: str, changed: dict[str, str]) -> None:
    tokens, alpha, given = numbers()
    assert select(tokens, option, alpha=alpha, **changed).index.tolist() != given[kept].tolist()


@pytest.mark.parametrize(
    ("alpha", "noisy"), [("0.1", False), ("0.28", True), ("0.55", True), ("0.29", True), ("0.7", True)]
)
def test_whole_shares_stay_whole(alpha: str, noisy: bool) -> None:
    """0.28·25 is 7 exactly and 7.000000000000001 in floating point, of which the ceiling is 8; 0.29·100 falls short."""
    pruners = [
        (component("pruner", "llm_vtp", retention_ratio=float(alpha), scope=scope, rounding=rounding), ROUND[rounding])
        for scope in ("frame", "video")
        for rounding in ROUND
    ]
    missed = False
    for count in range(1, 201):
        tokens = toy_tokens([count], (1, count), layer=10)
        exact, noise = Fraction(alpha) * count, float(alpha) * count
        missed |= any(rule(noise) != rule(exact) for rule in ROUND.values())
        for pruner, rule in pruners:
            assert len(pruner(tokens, toy_budget([0], tokens))) == rule(exact), count
    assert missed == noisy


@pytest.mark.parametrize("frames", [1, 16, 64])
@pytest.mark.parametrize(("size", "alpha", "each"), [(144, 0.1, 15), (144, 0.2, 29), (145, 0.2, 29), (196, 0.1, 20)])
def test_counts_of_the_paper(frames: int, size: int, alpha: float, each: int) -> None:
    """PLLaVA's 144 tokens a frame: 15 at 0.1 and 29 at 0.2 (Eq. 5)."""
    tokens = toy_tokens([size] * frames, (1, size), layer=10)
    kept = tokens.keep(select(tokens, alpha=alpha))
    assert kept.per_frame.tolist() == [each] * frames


def test_ties_go_to_the_earlier_token() -> None:
    flat = {"question_attention": torch.full((4, 5, 40), 0.01)}
    tokens = toy_tokens([10] * 4, (2, 5), layer=10, **flat)
    assert select(tokens, alpha=0.3).index.tolist() == [10 * frame + place for frame in range(4) for place in range(3)]
    assert select(tokens, alpha=0.3, scope="video").index.tolist() == list(range(12))


def test_heads_are_pooled_before_rows() -> None:
    """Max over heads, then mean over rows: two heads that ask in different rows add up. The other order takes the
    better of two halves."""
    asked = torch.zeros(4, 5, 2)
    asked[0, 0, 0] = asked[1, 1, 0] = 0.6
    asked[2, 2, 1] = 1.0
    tokens = toy_tokens([2], (1, 2), layer=10, question_attention=asked)
    assert select(tokens, alpha=0.5).index.tolist() == [0]


@pytest.mark.parametrize("scope", ["frame", "video"])
@pytest.mark.parametrize("counts", [[16, 16, 16], [16, 1, 0, 7, 10]])
def test_complement_is_the_rest(counts: list[int], scope: str) -> None:
    """A share kept by one, the rest of it by the other: together every token, once."""
    tokens = toy_tokens(counts, (4, 4), layer=10)
    for alpha, rest in ((0.1, 0.9), (0.3, 0.7), (0.5, 0.5), (0.7, 0.3), (0.9, 0.1), (0.28, 0.72)):
        for rounding in ROUND:
            kept = select(tokens, alpha=alpha, scope=scope, rounding=rounding).index.tolist()
            pruned = select(tokens, "llm_vtp_pruned", alpha=rest, scope=scope, rounding=rounding).index.tolist()
            assert sorted(kept + pruned) == list(range(len(tokens)))
            assert pruned == sorted(pruned)


@pytest.mark.parametrize("rounding", ROUND)
def test_complement_keeps_alpha(rounding: str) -> None:
    """0.1 of 100 tokens are 10, though 1 − 0.9 is 0.09999999999999998; of 16 tokens ⌈1.6⌉ or ⌊1.6⌋ go at 0.9."""
    for count in (100, 16):
        tokens = toy_tokens([count], (1, count), layer=10)
        for alpha in ("0.1", "0.3", "0.7", "0.9", "1"):
            gone = ROUND[rounding]((1 - Fraction(alpha)) * count)
            pruned = select(tokens, "llm_vtp_pruned", alpha=float(alpha), rounding=rounding)
            assert len(pruned) == count - gone


@pytest.mark.parametrize("counts", [[16, 16, 16], [16, 1, 0, 7, 10]])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_merge_equals_a_loop(counts: list[int], alpha: float) -> None:
    """x_i' = (x_i + Σ (x_e + x_i)/2) / (1 + |E_i|), E_i = the dropped tokens whose hidden state is nearest to i's."""
    tokens = toy_tokens(counts, (4, 4), layer=10, seed=3)
    selection = select(tokens, alpha=alpha, merge=True)
    kept = select(tokens, alpha=alpha).index.tolist()
    assert selection.index.tolist() == kept
    states = tokens.features.double()
    unit = states / states.norm(dim=1, keepdim=True)
    evicted: dict[int, list[int]] = {row: [] for row in kept}
    for row in set(range(len(tokens))) - set(kept):
        evicted[max(kept, key=lambda i, row=row: float(unit[i] @ unit[row]))].append(row)
    assert max(map(len, evicted.values())) >= (2 if alpha < 0.9 else 1)
    for place, (i, others) in enumerate(evicted.items()):
        merged = states[i] + sum((states[e] + states[i]) / 2 for e in others)
        torch.testing.assert_close(selection.features[place].double(), merged / (1 + len(others)), atol=1e-5, rtol=0)


def test_merge_of_nothing() -> None:
    tokens = toy_tokens([8, 8], (2, 4), layer=10)
    whole = select(tokens, alpha=1.0, merge=True)
    assert torch.equal(whole.index, torch.arange(16))
    assert torch.equal(tokens.keep(whole).features, tokens.features)
    assert len(select(tokens, alpha=0.1, merge=True, rounding="floor")) == 0


def test_merge_never_holds_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few dropped tokens at a time give what one chunk gives."""
    tokens = toy_tokens([16] * 8, (4, 4), layer=10)
    at_once = select(tokens, alpha=0.25, merge=True)
    monkeypatch.setattr("kvtp.pruner._pivot.CELLS", 100)
    torch.testing.assert_close(select(tokens, alpha=0.25, merge=True).features, at_once.features, atol=1e-6, rtol=0)


def test_what_it_says_of_itself() -> None:
    """Rates per frame never bind, whatever it ranks; earlier caches are compressed (Eq. 7–8)."""
    for scope in ("frame", "video"):
        pruner = component("pruner", "llm_vtp", scope=scope, layer=5)
        assert (pruner.layers, pruner.scope, pruner.positions, pruner.compress_cache) == ((5,), "video", "keep", True)
    asks = {
        option: set(component("pruner", option).cues) for option in ("llm_vtp", "llm_vtp_pruned", "llm_vtp_prunevid")
    }
    assert asks == {
        "llm_vtp": {"question_attention"},
        "llm_vtp_pruned": {"question_attention"},
        "llm_vtp_prunevid": {"question_attention_plain"},
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"layer": 0}, r"layer must be a whole number in \[1, inf\], got 0"),
        ({"alpha": 0}, r"retention_ratio must be in \(0, 1\], got 0"),
        ({"scope": "frames"}, "scope must be one of frame, video, got 'frames'; nearest: frame"),
        ({"head_pool": "sum"}, "head_pool must be one of max, mean, min, got 'sum'"),
        ({"query_pool": "min"}, "query_pool must be one of mean, max, got 'min'"),
        ({"attention": "none"}, "attention must be one of rope, plain, got 'none'"),
        ({"rounding": "round"}, "rounding must be one of ceil, floor, got 'round'"),
        ({"merge": "pivot"}, "merge must be one of True, False, got 'pivot'"),
        ({"complement": "yes"}, "complement must be one of True, False, got 'yes'"),
        ({"complement": True, "merge": True}, "complement must be false with merge, got true; table 10"),
    ],
)
def test_what_cannot_be(changed: dict[str, Any], complaint: str) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=complaint):
        component("pruner", "llm_vtp", **changed)
