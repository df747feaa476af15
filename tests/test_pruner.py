"""What every pruner promises, found by listing conf/pruner."""

from dataclasses import fields, replace

import pytest
import torch
from toys import component, options, toy_budget, toy_tokens

from kvtp.types import Budget, Cues, VisualTokens

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
# the budget does not bind them
OWN_COUNT = {"none", "text_only", "prumerge_plus", "prumerge_original"}
MERGES_EVERYTHING = {"prumerge"}  # neighbours are added to whatever is kept

ACTIVE = [option for option in options("pruner") if component("pruner", option).layers != ()]
ONCE = [
    option
    for option in ACTIVE
    if option not in OWN_COUNT and (layers := component("pruner", option).layers) != "all" and len(layers) == 1
]
BOUND = [option for option in ONCE if component("pruner", option).scope == "frame"]
ONCE_PER_VIDEO = [option for option in ONCE if option not in BOUND]
TOWER = ("tower_keys", "tower_keys_full", "tower_states", "frame_feature")  # cues in the tower's precision
RATIOS = (0.5, 0.3, 0.8)
every_shape = pytest.mark.parametrize("shape", SHAPES)


def tokens_for(option: str, shape: str) -> VisualTokens:
    """Tokens as they are at the pruner's first call."""
    return toy_tokens(*SHAPES[shape], layer=first_layer(option))


def first_layer(option: str) -> int:
    layers = component("pruner", option).layers
    return 0 if layers == "all" else layers[0]


def exact(tokens: VisualTokens, ratio: float) -> Budget:
    budget = component("budget", "uniform", retention_ratio=ratio, rounding="largest_remainder")
    return budget(torch.zeros(tokens.frames), tokens)


def defined(option: str, tokens: VisualTokens) -> list[float]:
    """The ratios at which the pruner does not refuse these tokens; there has to be one."""
    ratios = []
    for ratio in RATIOS:
        try:
            component("pruner", option, retention_ratio=ratio)(tokens, exact(tokens, ratio))
            ratios.append(ratio)
        except ValueError as error:
            if "retention_ratio must be in" not in str(error):  # a ratio at which the method is not defined
                raise
    assert ratios, "a pruner has to be defined at some ratio"
    return ratios


@every_shape
@pytest.mark.parametrize("option", ACTIVE)
def test_rows_ascend_and_are_distinct(option: str, shape: str) -> None:
    tokens = tokens_for(option, shape)
    for ratio in defined(option, tokens):
        selection = component("pruner", option, retention_ratio=ratio)(tokens, exact(tokens, ratio))
        rows = selection.index[selection.index >= 0]
        assert (rows.diff() > 0).all()
        assert (rows < len(tokens)).all()
        kept = tokens.keep(selection)
        assert len(kept) == len(selection)
        assert kept.features.isfinite().all()


@every_shape
@pytest.mark.parametrize("option", ACTIVE)
def test_same_input_same_selection(option: str, shape: str) -> None:
    tokens = tokens_for(option, shape)
    ratio = defined(option, tokens)[0]
    pruners = [component("pruner", option, retention_ratio=ratio) for _ in range(2)]
    first, second, again = (pruner(tokens, exact(tokens, ratio)) for pruner in (*pruners, pruners[0]))
    for other in (second, again):
        assert torch.equal(first.index, other.index)
        if first.features is not None:
            assert torch.equal(first.features, other.features)


@every_shape
@pytest.mark.parametrize("option", ACTIVE)
def test_input_is_left_alone(option: str, shape: str) -> None:
    tokens, untouched = tokens_for(option, shape), tokens_for(option, shape)
    defined(option, tokens)
    assert torch.equal(tokens.features, untouched.features)
    for cue in fields(Cues):
        assert torch.equal(getattr(tokens.cues, cue.name), getattr(untouched.cues, cue.name)), cue.name


@pytest.mark.parametrize("option", [option for option in ACTIVE if option not in OWN_COUNT])
def test_calls_leave_some_tokens_but_not_all(option: str) -> None:
    """After every call that the pipeline makes, whatever the scope and the layers."""
    start = tokens_for(option, "square")
    for ratio in defined(option, start):
        pruner, tokens = component("pruner", option, retention_ratio=ratio), start
        for layer in range(start.depth) if pruner.layers == "all" else pruner.layers:
            tokens = tokens.keep(pruner(replace(tokens, layer=layer), exact(start, ratio)))
        assert 0 < len(tokens) < len(start)


@every_shape
@pytest.mark.parametrize("option", ONCE_PER_VIDEO)
def test_the_total_of_a_video_is_met_within_a_frame(option: str, shape: str) -> None:
    tokens = tokens_for(option, shape)
    for ratio in defined(option, tokens):
        budget = exact(tokens, ratio)
        selection = component("pruner", option, retention_ratio=ratio)(tokens, budget)
        assert abs(len(selection) - budget.total) <= max(SHAPES[shape][0])


@every_shape
@pytest.mark.parametrize("option", BOUND)
def test_exactly_the_budget_is_kept(option: str, shape: str) -> None:
    pruner = component("pruner", option)
    tokens = tokens_for(option, shape)
    kept = tokens.keep(pruner(tokens, toy_budget(UNEVEN[shape], tokens)))
    assert kept.per_frame.tolist() == UNEVEN[shape]


@every_shape
@pytest.mark.parametrize("option", BOUND)
def test_nothing_granted_nothing_kept(option: str, shape: str) -> None:
    pruner = component("pruner", option)
    tokens = tokens_for(option, shape)
    assert len(pruner(tokens, toy_budget([0] * tokens.frames, tokens))) == 0


@every_shape
@pytest.mark.parametrize("option", BOUND)
def test_full_budget_keeps_every_row(option: str, shape: str) -> None:
    pruner = component("pruner", option)
    tokens = tokens_for(option, shape)
    selection = pruner(tokens, toy_budget(SHAPES[shape][0], tokens))
    assert torch.equal(selection.index, torch.arange(len(tokens)))
    if option not in MERGES_EVERYTHING:
        assert torch.allclose(tokens.keep(selection).features, tokens.features, atol=1e-6, rtol=0)


@pytest.mark.parametrize("option", [option for option in BOUND if option != "random"])
def test_frames_do_not_know_each_other(option: str) -> None:
    pruner = component("pruner", option)
    layer = first_layer(option)
    tokens = toy_tokens([16] * 20, (4, 4), layer=layer)
    counts = [(5 * t) % 17 for t in range(20)]
    whole = tokens.keep(pruner(tokens, toy_budget(counts, tokens)))
    for t in (0, 7, 8, 19):
        rows = torch.arange(16 * t, 16 * t + 16)
        single = toy_tokens([16], (4, 4), layer=layer, features=tokens.features[rows])
        single = replace(single, cues=tokens.cues.take(rows))
        alone = single.keep(pruner(single, toy_budget([counts[t]], single)))
        assert torch.equal(alone.row, whole.row[whole.frame == t])
        assert torch.equal(alone.column, whole.column[whole.frame == t])
        assert torch.allclose(alone.features, whole.features[whole.frame == t], atol=1e-6)


@pytest.mark.parametrize("option", [option for option in ACTIVE if component("pruner", option).cues])
def test_a_missing_cue_is_named(option: str) -> None:
    """After a first call that kept everything, from which on all of them read what they ask for."""
    tokens = replace(tokens_for(option, "one frame"), cues=Cues(), history=(16, 16))
    pruner = component("pruner", option)
    asked = pruner.reads(tokens)
    assert asked == pruner.cues
    with pytest.raises(ValueError, match=rf"the cue ({'|'.join(asked)}) must be given"):
        pruner(tokens, exact(tokens, 0.5))


@pytest.mark.parametrize("option", ACTIVE)
def test_half_precision_features(option: str) -> None:
    tokens = tokens_for(option, "square")
    tower = {name: getattr(tokens.cues, name).bfloat16() for name in TOWER}
    coarse = toy_tokens(*SHAPES["square"], layer=tokens.layer, features=tokens.features.bfloat16(), **tower)
    ratio = defined(option, coarse)[0]
    kept = coarse.keep(component("pruner", option, retention_ratio=ratio)(coarse, exact(coarse, ratio)))
    assert kept.features.dtype == torch.bfloat16
