"""What every pruner promises, found by listing conf/pruner."""

from dataclasses import replace

import pytest
import torch
from toys import component, options, toy_budget, toy_tokens

from kvtp.pruner.base import AbstractPruner
from kvtp.types import Budget, Cues, Selection, VisualTokens

SHAPES = {
    "square": ([16] * 4, (4, 4)),
    "not square": ([10] * 3, (2, 5)),
    "no grid": ([7] * 4, (1, 7)),
    "one frame": ([16], (4, 4)),
    "one token": ([1], (1, 1)),
    "a frame of one token": ([16, 1, 16], (4, 4)),
}
UNEVEN = {
    "square": [5, 0, 16, 1],
    "not square": [3, 10, 4],
    "no grid": [2, 7, 0, 1],
    "one frame": [11],
    "one token": [1],
    "a frame of one token": [0, 1, 7],
}
OWN_COUNT = {"none", "text_only"}  # the budget does not bind them
MERGES_EVERYTHING = {"prumerge"}  # neighbours are added to whatever is kept

ACTIVE = [option for option in options("pruner") if component("pruner", option).layers != ()]
BOUND = [
    option
    for option in ACTIVE
    if option not in OWN_COUNT and (pruner := component("pruner", option)).scope == "frame" and pruner.layers == (0,)
]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def tokens_for(pruner: AbstractPruner, shape: str) -> VisualTokens:
    """Tokens as they are at the pruner's first call."""
    return toy_tokens(*SHAPES[shape], layer=0 if pruner.layers == "all" else pruner.layers[0])


def half(tokens: VisualTokens) -> Budget:
    budget = component("budget", "uniform", retention_ratio=0.5, rounding="largest_remainder")
    return budget(torch.zeros(tokens.frames), tokens)


def call(pruner: AbstractPruner, tokens: VisualTokens, budget: Budget) -> Selection:
    try:
        return pruner(tokens, budget)
    except ValueError as error:
        if "must be in" not in str(error):  # a ratio at which the method is not defined names its range
            raise
        pytest.skip(f"refused: {error}")


@every_shape
@pytest.mark.parametrize("option", ACTIVE)
def test_rows_ascend_and_are_distinct(option: str, shape: str) -> None:
    pruner = component("pruner", option, retention_ratio=0.5)
    tokens = tokens_for(pruner, shape)
    selection = call(pruner, tokens, half(tokens))
    rows = selection.index[selection.index >= 0]
    assert (rows.diff() > 0).all()
    assert (rows < len(tokens)).all()
    kept = tokens.keep(selection)
    assert len(kept) == len(selection)
    assert kept.features.isfinite().all()


@every_shape
@pytest.mark.parametrize("option", ACTIVE)
def test_same_input_same_selection(option: str, shape: str) -> None:
    pruners = [component("pruner", option, retention_ratio=0.5) for _ in range(2)]
    tokens = tokens_for(pruners[0], shape)
    first, second = (call(pruner, tokens, half(tokens)) for pruner in pruners)
    again = call(pruners[0], tokens, half(tokens))
    for other in (second, again):
        assert torch.equal(first.index, other.index)
        if first.features is not None:
            assert torch.equal(first.features, other.features)


@every_shape
@pytest.mark.parametrize("option", ACTIVE)
def test_input_is_left_alone(option: str, shape: str) -> None:
    pruner = component("pruner", option, retention_ratio=0.5)
    tokens, untouched = tokens_for(pruner, shape), tokens_for(pruner, shape)
    call(pruner, tokens, half(tokens))
    assert torch.equal(tokens.features, untouched.features)
    assert torch.equal(tokens.cues.tower_states, untouched.cues.tower_states)
    assert torch.equal(tokens.cues.probe_attention, untouched.cues.probe_attention)


@every_shape
@pytest.mark.parametrize("option", BOUND)
def test_exactly_the_budget_is_kept(option: str, shape: str) -> None:
    pruner = component("pruner", option)
    tokens = tokens_for(pruner, shape)
    kept = tokens.keep(pruner(tokens, toy_budget(UNEVEN[shape], tokens)))
    assert kept.per_frame.tolist() == UNEVEN[shape]


@every_shape
@pytest.mark.parametrize("option", BOUND)
def test_nothing_granted_nothing_kept(option: str, shape: str) -> None:
    pruner = component("pruner", option)
    tokens = tokens_for(pruner, shape)
    assert len(pruner(tokens, toy_budget([0] * tokens.frames, tokens))) == 0


@every_shape
@pytest.mark.parametrize("option", BOUND)
def test_full_budget_keeps_every_row(option: str, shape: str) -> None:
    pruner = component("pruner", option)
    tokens = tokens_for(pruner, shape)
    selection = pruner(tokens, toy_budget(SHAPES[shape][0], tokens))
    assert torch.equal(selection.index, torch.arange(len(tokens)))
    if option not in MERGES_EVERYTHING:
        assert torch.allclose(tokens.keep(selection).features, tokens.features, atol=1e-6, rtol=0)


@pytest.mark.parametrize("option", [option for option in BOUND if option != "random"])
def test_frames_do_not_know_each_other(option: str) -> None:
    pruner = component("pruner", option)
    tokens = toy_tokens([16] * 20, (4, 4))
    counts = [(5 * t) % 17 for t in range(20)]
    whole = tokens.keep(pruner(tokens, toy_budget(counts, tokens)))
    for t in (0, 7, 8, 19):
        rows = torch.arange(16 * t, 16 * t + 16)
        single = toy_tokens([16], (4, 4), features=tokens.features[rows])
        single = replace(single, cues=tokens.cues.take(rows))
        alone = single.keep(pruner(single, toy_budget([counts[t]], single)))
        assert torch.equal(alone.row, whole.row[whole.frame == t])
        assert torch.equal(alone.column, whole.column[whole.frame == t])
        assert torch.allclose(alone.features, whole.features[whole.frame == t], atol=1e-6)


@pytest.mark.parametrize("option", [option for option in BOUND if component("pruner", option).cues])
def test_a_missing_cue_is_named(option: str) -> None:
    tokens = replace(toy_tokens([16], (4, 4)), cues=Cues())
    with pytest.raises(ValueError, match=r"the cue \w+ must be given"):
        component("pruner", option)(tokens, half(tokens))


@pytest.mark.parametrize("option", ACTIVE)
def test_half_precision_features(option: str) -> None:
    pruner = component("pruner", option, retention_ratio=0.5)
    tokens = tokens_for(pruner, "square")
    coarse = toy_tokens(*SHAPES["square"], layer=tokens.layer, features=tokens.features.bfloat16())
    kept = coarse.keep(call(pruner, coarse, half(coarse)))
    assert kept.features.dtype == torch.bfloat16
