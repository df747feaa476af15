"""DyCoke against the released code's numbers, against a token at a time, and against a simulation of the decoding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_budget, toy_tokens, unchecked

from kvtp.types import Budget, VisualTokens

FIXTURE = np.load(Path(__file__).parent.parent / "fixtures" / "dycoke.npz")


def kept(tokens: VisualTokens, ratio: float = 0.5, **changed: object) -> list[int]:
    pruner = component("pruner", "dycoke", retention_ratio=ratio, **changed)
    selection = pruner(tokens, Budget(tokens.per_frame, ratio))
    assert selection.features is None
    return selection.index.tolist()


def references(frames: int) -> dict[int, int]:
    """Window by window: which frame each compared frame is compared with."""
    found = {}
    for first in range(0, frames, 4):
        window = range(first, min(first + 4, frames))
        last_and_full = len(window) == 4 and window[-1] == frames - 1
        for place, frame in enumerate(window):
            if place % 2 == 1:
                found[frame] = frame - 1
            elif place == 2 and not last_and_full:
                found[frame] = first
    return found


def one_token_at_a_time(tokens: VisualTokens, count: dict[int, int]) -> list[int]:
    """`count`: tokens that each compared frame keeps."""
    places = list(zip(tokens.frame.tolist(), tokens.row.tolist(), tokens.column.tolist(), strict=True))
    compared = references(tokens.frames)
    rows = []
    for frame in range(tokens.frames):
        own = [row for row, place in enumerate(places) if place[0] == frame]
        if frame not in compared:
            rows += own
            continue
        likeness = {}
        for row in own:
            cell = (compared[frame], *places[row][1:])
            likeness[row] = -np.inf
            if cell in places:
                one, two = tokens.features[row].double(), tokens.features[places.index(cell)].double()
                likeness[row] = float(one @ two / one.norm() / two.norm())
        rows += sorted(own, key=likeness.__getitem__)[: count[frame]]
    return sorted(rows)


@pytest.mark.parametrize(("k", "name"), [(0.7, "k7"), (1.0, "k10")])
def test_the_released_code(k: float, name: str) -> None:
    """8 frames of 4×4. Theirs come in order of similarity, ours in raster order."""
    video = torch.from_numpy(FIXTURE["video"]).reshape(128, 32)
    tokens = toy_tokens([16] * 8, (4, 4), features=video)
    rows = kept(tokens, merge_ratio=k)
    source = FIXTURE[f"{name}_source"]
    assert rows == sorted(source)
    assert np.array_equal(video[rows].numpy(), FIXTURE[f"{name}_tokens"][source.argsort()])


@pytest.mark.parametrize(("k", "count"), [(0.3, 9771), (0.5, 7938), (0.7, 6058), (0.9, 4225), (1.0, 3332)])
def test_released_counts(k: float, count: int) -> None:
    """64 frames of 196."""
    assert len(kept(toy_tokens([196] * 64, (14, 14), width=2), merge_ratio=k)) == count


def test_rounds_as_released() -> None:
    """(1 − 0.9)·10 is a little less than 1 in double precision."""
    assert int((1 - 0.9) * 10) == 0
    assert kept(toy_tokens([10] * 2, (2, 5)), merge_ratio=0.9) == list(range(10))


@pytest.mark.parametrize("frames", [*range(6, 40, 2), 64, 128])
def test_frames_compared_as_released(frames: int) -> None:
    """The released loops, for the even numbers from six on that they serve."""
    whole = {frame for frame in range(frames) if frame % 2 == 0} - {i + 2 for i in range(0, frames - 4, 4)}
    assert set(range(frames)) - set(references(frames)) == whole
    tokens = toy_tokens([3] * frames, (1, 3))
    survivors = tokens.frame[kept(tokens, merge_ratio=1.0)]
    assert survivors.unique().tolist() == sorted(whole)
    assert len(survivors) == 3 * len(whole)


@pytest.mark.parametrize("k", [0.0, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("frames", range(1, 14))
def test_equals_one_token_at_a_time(frames: int, k: float) -> None:
    tokens = toy_tokens([16] * frames, (4, 4), seed=frames)
    assert kept(tokens, merge_ratio=k) == one_token_at_a_time(tokens, dict.fromkeys(range(frames), int((1 - k) * 16)))


@pytest.mark.parametrize("k", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("sizes", [[5, 16, 0, 7, 16, 1, 16], [16, 3, 16, 16], [0, 9, 4], [0, 0, 0, 8], [2, 16]])
def test_uneven_frames_lose_their_share(sizes: list[int], k: float) -> None:
    tokens = toy_tokens(sizes, (4, 4), seed=len(sizes))
    expected = {frame: int((1 - k) * size) for frame, size in enumerate(sizes)}
    assert kept(tokens, merge_ratio=k) == one_token_at_a_time(tokens, expected)


@pytest.mark.parametrize("ratio", [0.3, 0.45, 0.5, 0.62, 0.8, 0.97])
@pytest.mark.parametrize(
    "sizes",
    [[16] * 8, [16] * 9, [16] * 3, [16] * 2, [9] * 32, [5, 16, 0, 7, 3, 1, 16, 16], [3, 16, 16, 2, 1, 16, 4, 16, 0]],
)
def test_the_ratio_is_used_up(sizes: list[int], ratio: float) -> None:
    """The largest number per compared frame that fits, found by trying all."""
    tokens = toy_tokens(sizes, (4, 4), seed=len(sizes))
    compared = references(len(sizes))
    whole = sum(size for frame, size in enumerate(sizes) if frame not in compared)
    fitting = [q for q in range(17) if whole + sum(min(q, sizes[frame]) for frame in compared) <= ratio * sum(sizes)]
    if fitting:
        assert kept(tokens, ratio) == one_token_at_a_time(tokens, dict.fromkeys(compared, fitting[-1]))
    else:
        with pytest.raises(ValueError, match="retention_ratio must be in"):
            kept(tokens, ratio)


@pytest.mark.parametrize(
    ("frames", "floor", "told"), [(64, 17 / 64, "0.2657"), (32, 9 / 32, "0.2813"), (8, 3 / 8, "0.375"), (4, 0.5, "0.5")]
)
def test_floor(frames: int, floor: float, told: str) -> None:
    """(T/2 − n)/T with n = ⌈(T − 4)/4⌉: there whole frames stay alone."""
    assert floor == (frames // 2 - -(-(frames - 4) // 4)) / frames
    tokens = toy_tokens([16] * frames, (4, 4))
    assert len(kept(tokens, floor)) == round(floor * frames) * 16
    assert len(kept(tokens, float(told))) == round(floor * frames) * 16
    with pytest.raises(ValueError, match=rf"retention_ratio must be in \[{told}, 1\]"):
        kept(tokens, floor - 0.001)
    assert len(kept(tokens, floor - 0.001, merge_ratio=0.5)) > round(floor * frames) * 16


def test_float_noise_costs_no_token() -> None:
    """0.57 · 100 is a little less than 57 in floating point: 50 of the whole frame and 7."""
    assert 0.57 * 100 < 57
    assert len(kept(toy_tokens([50] * 2, (5, 10)), 0.57)) == 57


@pytest.mark.parametrize("sizes", [[16], [16, 0]])
def test_nothing_to_compare_nothing_goes(sizes: list[int]) -> None:
    tokens = toy_tokens(sizes, (4, 4))
    for changed in ({}, {"merge_ratio": 1.0}):
        assert kept(tokens, 0.1, **changed) == list(range(16))


def test_what_has_no_counterpart_is_new() -> None:
    """Cells 2 and 3 are empty in the first frame; of the others the second is the less alike."""
    features = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 0], [1, 0]])
    tokens = toy_tokens([2, 4], (2, 2), features=features)
    assert kept(tokens, merge_ratio=0.75) == [0, 1, 4]
    assert kept(tokens, merge_ratio=0.5) == [0, 1, 4, 5]
    assert kept(tokens, merge_ratio=0.25) == [0, 1, 3, 4, 5]


def test_counterparts_are_found_by_cell() -> None:
    """The second frame misses its first cell: its tokens are not compared with their left neighbours."""
    tokens = toy_tokens([4, 3], (2, 2), features=torch.eye(4)[[0, 1, 2, 3, 1, 0, 3]])
    row, column = torch.tensor([[0, 0, 1, 1, 0, 1, 1], [0, 1, 0, 1, 1, 0, 1]])
    assert kept(replace(tokens, row=row, column=column), merge_ratio=0.6) == [0, 1, 2, 3, 5]


def test_among_equals_the_earlier() -> None:
    same = torch.tensor([[1.0, -2.0]]).expand(32, 2).clone()
    for features in (same, torch.zeros(32, 2)):
        tokens = toy_tokens([16, 16], (4, 4), features=features)
        assert kept(tokens, merge_ratio=0.75) == [*range(16), 16, 17, 18, 19]


def test_references_are_the_frames_as_they_came() -> None:
    """Frame 3 is compared with the whole of frame 2, of which only the first token stays."""
    pattern = torch.tensor([[1.0, 0], [0, 1]])
    features = torch.cat([pattern, pattern, pattern, pattern.flip(1)[:1], pattern[1:], pattern])
    tokens = toy_tokens([2] * 5, (1, 2), features=features)
    assert kept(tokens, merge_ratio=0.5) == [0, 1, 2, 4, 6, 8, 9]


def test_rows_of_prompts_follow_each_other() -> None:
    assert component("pruner", "dycoke").positions == "renumber"
    assert component("pruner", "dycoke", positions="keep").positions == "keep"
    assert component("pruner", "dycoke").scope == "video"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"merge_ratio": -0.1}, "merge_ratio must be in"),
        ({"merge_ratio": 1.1}, "merge_ratio must be in"),
        ({"decode_layer": 0}, "decode_layer must be a whole number"),
        ({"decode_layer": 2.5}, "decode_layer must be a whole number"),
        ({"decode_ratio": -0.1}, "decode_ratio must be in"),
        ({"decode_ratio": 1.1}, "decode_ratio must be in"),
        ({"retention_ratio": 0}, "retention_ratio must be in"),
        ({"positions": "new"}, "positions must be one of"),
    ],
)
def test_options_are_checked(changed: dict[str, object], rule: str) -> None:
    ratio = changed.pop("retention_ratio", 0.3)
    with unchecked(), pytest.raises(InstantiationException, match=rule):
        component("pruner", "dycoke", retention_ratio=ratio, **changed)


# --- while the reply is written ---------------------------------------------------------------------------------------


def cache(layer: int = 3, ratio: float = 0.8):
    return component("pruner", "dycoke", decode_layer=layer, decode_ratio=ratio).cache


def prefilled(policy, visual: torch.Tensor, depth: int = 6):
    """The policy after a prompt's prefill."""
    for layer in range(depth):
        keys, values = torch.zeros(1, len(visual), 4), torch.ones(1, len(visual), 4)
        same_keys, same_values = policy.after_prefill(layer, None, keys, values, visual)
        assert same_keys is keys
        assert same_values is values
    return policy


def step(policy, row: torch.Tensor, depth: int = 6) -> list[list[int] | None]:
    """What each layer may see."""
    seen = []
    for layer in range(depth):
        visible = policy.before_decode(layer, row if layer - 1 in policy.watches else None)
        seen.append(None if visible is None else visible.tolist())
    return seen


class Simulation:
    """The rule in plain Python, a step at a time."""

    def __init__(self, visual: list[bool], layer: int, ratio: float) -> None:
        self.visual, self.layer, self.ratio = visual, layer, ratio
        self.before: list[float] | None = None

    def step(self, row: list[list[float]], depth: int) -> list[list[int] | None]:
        pictures = [j for j, is_visual in enumerate(self.visual) if is_visual]
        ranked = pictures[:-1]
        mean = [sum(head[j] for head in row) / len(row) for j in ranked]
        likeness = 0.0
        if self.before is not None:
            lengths = np.linalg.norm(mean) * np.linalg.norm(self.before)
            likeness = float(np.dot(mean, self.before) / lengths) if lengths else 0.0
        self.before = mean
        if likeness >= 0.9:
            return [None] * depth
        best = sorted(range(len(ranked)), key=lambda j: -mean[j])[: int(len(ranked) * (1 - self.ratio))]
        hidden = set(ranked) - {ranked[j] for j in best}
        visible = [j for j in range(len(row[0])) if j not in hidden]
        return [None if layer < self.layer else visible for layer in range(depth)]


LAYOUTS = {
    "one span": [False] * 5 + [True] * 30 + [False] * 6,
    "newlines": [False] * 3 + ([True] * 5 + [False]) * 6 + [False] * 4,
    "visual to the end": [True] * 26,
    "two": [False, True, True, False],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("layer", "ratio"), [(3, 0.8), (1, 0.5), (5, 0.7), (2, 1.0)])
def test_equals_a_simulation(layout: str, layer: int, ratio: float) -> None:
    """Two questions of three replies each; some steps attend as the step before did."""
    random = torch.Generator().manual_seed(0)
    policy = cache(layer, ratio)
    for question in range(2):
        visual = LAYOUTS[layout] + [True, False] * question
        prefilled(policy, torch.tensor(visual))
        everything, restricted = 0, 0
        for reply in range(3):
            policy.reset()
            simulation = Simulation(visual, layer, ratio)
            scores = torch.zeros(4, len(visual))
            for written in range(1, 9):
                change = (2.0, 0.05)[(written // 2 + reply) % 2]
                scores = torch.cat([scores, torch.zeros(4, 1)], 1)
                scores = scores + change * torch.randn(scores.shape, generator=random)
                row = scores.softmax(1)
                seen = step(policy, row)
                assert seen == simulation.step(row.tolist(), 6)
                everything += seen[-1] is None
                restricted += seen[-1] is not None
            assert policy.told() == {"steps_seeing_all": everything / (everything + restricted)}
        assert everything > 0
        assert restricted > 0


def test_what_a_step_sees() -> None:
    """Rows 1 … 6 are visual: the last always, of the five others int(0.4 · 5) = 2. Row 8 is the token's own."""
    policy = prefilled(cache(3, 0.6), torch.tensor([False] + [True] * 6 + [False]))
    heads = torch.tensor([[0, 0.1, 0.3, 0, 0, 0.1, 0.5, 0, 0], [0, 0.1, 0.1, 0, 0.2, 0, 0.6, 0, 0]])
    assert (
        step(policy, heads) == [None] * 3 + [[0, 1, 2, 6, 7, 8]] * 3
    )  # as much as row 4 is attended to row 1, the earlier
    assert step(policy, heads) == [None] * 6  # as before
    assert step(policy, heads.flip(1)) == [None] * 3 + [[0, 2, 4, 6, 7, 8]] * 3


@pytest.mark.parametrize("visual", [[False] * 4, [False, True, False]])
def test_nothing_to_hide(visual: list[bool]) -> None:
    policy = prefilled(cache(3, 0.8), torch.tensor(visual))
    for written in (1, 2):
        assert step(policy, torch.rand(2, len(visual) + written)) == [None] * 6
    assert policy.told() == {"steps_seeing_all": 1.0}


def test_hiding_nothing() -> None:
    policy = prefilled(cache(3, 0.0), torch.tensor([True] * 6))
    assert step(policy, torch.rand(2, 7)) == [None] * 6
    assert policy.told() == {"steps_seeing_all": 1.0}


def test_each_reply_begins_without_a_step_before() -> None:
    policy = prefilled(cache(), torch.tensor([True] * 20 + [False]))
    row = torch.rand(2, 22).softmax(1)
    assert policy.told() == {}
    first, second = step(policy, row), step(policy, row)
    assert first[-1] is not None
    assert second[-1] is None
    policy.reset()
    assert step(policy, row) == first
    assert policy.told() == {"steps_seeing_all": 1 / 3}
    prefilled(policy, torch.tensor([True] * 20 + [False]))
    assert policy.told() == {}
    assert step(policy, row) == first
    assert policy.told() == {"steps_seeing_all": 0.0}


def test_attention_is_asked_for_in_one_layer_and_queries_in_none() -> None:
    policy = cache(5)
    assert policy.watches == {4}
    assert not policy.reads_queries
    with pytest.raises(ValueError, match="layer 5 must be told the attention of layer 4"):
        prefilled(policy, torch.tensor([True] * 4)).before_decode(5, None)


def test_one_stage_alone() -> None:
    assert component("pruner", "dycoke_stage1").cache is None
    tokens = toy_tokens([16] * 8, (4, 4))
    budget = toy_budget([8] * 8, tokens)
    alone, both = (component("pruner", option, retention_ratio=0.5) for option in ("dycoke_stage1", "dycoke"))
    assert torch.equal(alone(tokens, budget).index, both(tokens, budget).index)
