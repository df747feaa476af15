"""FrameFusion against the released code's numbers, its formulas, and patches as lists, token by token."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from toys import ToyBenchmark, ToyFilm, component, toy_budget, toy_question, toy_tokens, unchecked

from kvtp.pipeline import Pipeline
from kvtp.pruner.base import AbstractPruner
from kvtp.pruner.framefusion import allowance
from kvtp.types import Budget, Cues, Selection, VisualTokens

RELEASED = Path(__file__).resolve().parent.parent / "fixtures" / "framefusion.npz"
UNUSED = Budget(torch.tensor([1]), 0.5)


def fusion(cost: float, similarity: float = 0.6, min_merge_ratio: float = 0.1) -> AbstractPruner:
    return component(
        "pruner", "framefusion", retention_ratio=cost, similarity=similarity, min_merge_ratio=min_merge_ratio
    )


def random_attention(layer: int, alive: int) -> torch.Tensor:
    return torch.rand(4, alive, generator=torch.Generator().manual_seed(layer))


def calls(
    pruner: AbstractPruner, tokens: VisualTokens, attention: Callable[[int, int], torch.Tensor] = random_attention
) -> Iterator[tuple[VisualTokens, Selection]]:
    """What the pruner is given and answers, before layer 0 and after the attention of each layer, none of which changes
    a token. `attention(layer, alive)`: of the last row, heads × visual tokens."""
    for call in range(tokens.depth + 1):
        cues = Cues(last_attention=attention(call - 1, len(tokens))) if call else Cues()
        given = replace(tokens, layer=max(call - 1, 0), cues=cues)
        selection = pruner(given, UNUSED)
        yield given, selection
        tokens = given.keep(selection)


def scenes(per_frame: list[int], grid: tuple[int, int], seed: int, width: int = 16) -> VisualTokens:
    """Patches that drift, each at its own pace, with holes where `per_frame` is less than the grid."""
    random = torch.Generator().manual_seed(seed)
    frames, places = len(per_frame), grid[0] * grid[1]
    pace = torch.rand(places, 1, generator=random) * 1.5
    steps = torch.randn(frames, places, width, generator=random) * pace
    steps[0] /= pace
    present = torch.zeros(frames, places, dtype=torch.bool)
    for t, count in enumerate(per_frame):
        present[t, torch.randperm(places, generator=random)[:count]] = True
    tokens = toy_tokens([places] * frames, grid, width=width, features=steps.cumsum(0).flatten(0, 1))
    tokens = tokens.keep(Selection(present.flatten().nonzero().squeeze(1)))
    return replace(tokens, history=(len(tokens),))


class OneByOne:
    """The released procedure as the specification tells it: a list of sparsities, two flags, a list per patch."""

    def __init__(self, cost: float, similarity: float, min_merge_ratio: float, depth: int) -> None:
        self.cost, self.similarity, self.min_merge_ratio, self.depth = cost, similarity, min_merge_ratio, depth
        self.sparsities: list[float] = []
        self.merging, self.done = True, False

    def need(self) -> float:
        left, used = 1.0, 0.0
        for sparsity in self.sparsities:
            left *= 1 - sparsity
            used += left
        layers = self.depth - len(self.sparsities)
        return max(0.0, 1 - (self.depth * self.cost - used) / (layers * left))

    def __call__(self, tokens: VisualTokens) -> tuple[list[int], list[torch.Tensor]]:
        everything = list(range(len(tokens)))
        if self.done or len(self.sparsities) == self.depth:
            return everything, list(tokens.features)
        if not self.merging:
            self.done = True
            score = tokens.cues.last_attention.mean(0)
            best = sorted(everything, key=lambda i: -float(score[i]))[: round(len(tokens) * (1 - self.need()))]
            return sorted(best), [tokens.features[i] for i in sorted(best)]
        assert self.need() <= 1
        patches: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in everything:
            patches[int(tokens.row[i]), int(tokens.column[i])].append(i)
        patches = dict(sorted(patches.items()))
        cosine = {
            i: float(torch.cosine_similarity(tokens.features[i], tokens.features[before], dim=0))
            for patch in patches.values()
            for before, i in pairwise(patch)
        }
        gone = [i for i in cosine if cosine[i] >= self.similarity]
        if len(gone) / len(tokens) < self.need():
            self.merging = len(gone) / len(tokens) >= self.min_merge_ratio
            self.sparsities.append(len(gone) / len(tokens))
        else:
            gone = sorted(cosine, key=lambda i: -cosine[i])[: int(self.need() * len(tokens))]
            self.done = True
        groups: dict[int, list[int]] = {}
        for patch in patches.values():
            for i in patch:
                if i not in gone:
                    head = i
                    groups[head] = []
                groups[head].append(i)
        return sorted(groups), [tokens.features[groups[i]].mean(0) for i in sorted(groups)]


@pytest.mark.parametrize(("run", "cost", "similarity"), [("c30", 0.3, 0.6), ("c60", 0.6, 0.6), ("prune30", 0.3, 0.999)])
def test_released_run(run: str, cost: float, similarity: float) -> None:
    """8 frames of 4×4 tokens, layers that change nothing, 3 rows of text before the video and 2 after."""
    released = np.load(RELEASED)

    def attention(layer: int, alive: int) -> torch.Tensor:
        row = np.random.RandomState(1000 + layer).standard_normal((4, 3 + alive + 2))
        return torch.from_numpy(row).float().softmax(-1)[:, 3 : 3 + alive]

    video = torch.from_numpy(released["visual"]).flatten(0, 1)
    tokens = toy_tokens([16] * 8, (4, 4), features=video)
    given, selection = list(calls(fusion(cost, similarity), tokens, attention))[-1]
    last = given.keep(selection)
    assert last.original.tolist() == released[f"{run}_index"].tolist()
    assert torch.equal(last.position, last.original)
    assert torch.allclose(last.features, torch.from_numpy(released[f"{run}_tokens"]), atol=1e-5, rtol=0)
    sparsity = released[f"{run}_sparsity"]
    alive = np.array(last.history[: len(sparsity) + 1])
    assert np.allclose(1 - alive[1:] / alive[:-1], sparsity, atol=1e-9)


@pytest.mark.parametrize(
    ("history", "cost", "need"),
    [
        ((1000,), 0.3, 0.7),
        ((1000, 500), 0.3, 0.414815),
        ((1000, 500, 475), 0.3, 0.398785),
        ((1000, 800, 720), 0.25, 0.707265),
    ],
)
def test_required_sparsity(history: tuple[int, ...], cost: float, need: float) -> None:
    assert 1 - allowance(history, cost, 28) / history[-1] == pytest.approx(need, abs=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 6, 28])
@pytest.mark.parametrize(
    ("cost", "similarity", "min_merge_ratio"),
    [(0.3, 0.6, 0.1), (0.3, 0.95, 0.1), (0.6, 0.6, 0.1), (0.25, 0.8, 0.0), (0.2, 0.9, 0.3), (0.3, 0.8, 1.0)],
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_one_token_at_a_time(
    seed: int, cost: float, similarity: float, min_merge_ratio: float, depth: int
) -> None:
    per_frame = [[12] * 9, [12, 5, 0, 12, 9, 1, 11, 12], [3, 4, 12, 12, 7, 6, 8, 2, 12, 12]][seed]
    tokens = replace(scenes(per_frame, (3, 4), seed=seed), depth=depth)
    expected = OneByOne(cost, similarity, min_merge_ratio, depth)
    try:
        for given, selection in calls(fusion(cost, similarity, min_merge_ratio), tokens):
            index, features = expected(given)
            assert selection.index.tolist() == index
            kept = given.features[selection.index] if selection.features is None else selection.features
            assert torch.allclose(kept, torch.stack(features), atol=1e-5)
    except ValueError as error:
        assert "retention_ratio must be in" in str(error)  # noqa: PT017
        assert expected.need() > 1  # more than everything would have to go


@pytest.mark.parametrize("similarity", [0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("cost", [0.25, 0.2, 0.15, 0.1])
def test_mean_over_layers_is_the_cost(cost: float, similarity: float) -> None:
    tokens = scenes([64] * 16, (8, 8), seed=1)
    alive = [len(selection) for _, selection in calls(fusion(cost, similarity), tokens)]
    assert len(alive) == 29
    assert abs(sum(alive[:28]) / 28 - cost * len(tokens)) < 1  # what enters layer i is what call i left


@pytest.mark.parametrize(("similarity", "visual"), [(0.6, (128,) * 4), (1, (256, 85, 85, 85))])
@pytest.mark.parametrize("newline", ["none", "grid"])
def test_in_a_model(tiny, newline: str, similarity: float, visual: tuple[int, ...]) -> None:
    """Four layers, four frames of noise, which a tower that knows nothing finds all alike: all merge before the first
    layer; or none does, and (2·256 − 256) / 3 stay from the attention of the first layer on."""
    stages = {"scout": "none", "relevance": "uniform", "budget": "uniform"}
    line = Pipeline(
        benchmark=ToyBenchmark(toy_question()),
        frames=ToyFilm(4),
        backbone=tiny(max_new_tokens=1, newline=newline),
        pruner=fusion(0.5, similarity),
        **{group: component(group, option, retention_ratio=0.5) for group, option in stages.items()},
    )
    assert line(line.benchmark[0]).tokens_per_layer["visual"] == visual


def test_after_the_pruning_everything_stays_as_it_is() -> None:
    tokens = scenes([16] * 8, (4, 4), seed=2)
    answers = list(calls(fusion(0.3, similarity=0.9), tokens))
    cut = [i for i, (given, selection) in enumerate(answers) if len(selection) < len(given)]
    assert cut
    assert max(cut) < 20
    for given, selection in answers[max(cut) + 1 :]:
        assert selection.everything
        assert selection.features is None
        assert torch.equal(selection.index, torch.arange(len(given)))


@pytest.mark.parametrize(
    ("history", "phase", "left"),
    [
        ((40,), "merge", 20),
        ((40, 22), "merge", 20),  # 58 are left for three layers
        ((40, 20), "done", 20),
        ((40, 37), "prune", 14),  # less than a tenth had merged
        ((40, 37, 14), "done", 14),
        ((40, 30, 20), "merge", 15),
        ((40, 30, 17), "done", 17),  # ⌊30 − 50/3⌋ had gone
        ((40, 30, 20, 15), "done", 15),
        ((40, 30, 25, 23), "prune", 2),
        ((40, 30, 25, 22), "merge", 10),  # to 3, were there not ten patches
        ((40, 30, 25, 22, 15), "done", 15),  # no layer follows
    ],
)
def test_what_earlier_calls_did_follows_from_their_counts(history: tuple[int, ...], phase: str, left: int) -> None:
    """40 tokens that are all the same, half of them (80) over 4 layers."""
    start = toy_tokens([10] * 4, (2, 5), features=torch.ones(40, 8))
    tokens = start.keep(Selection(torch.arange(history[-1])))
    selection = fusion(0.5)(replace(tokens, depth=4, history=history), UNUSED)
    assert len(selection) == left
    assert (selection.features is not None) is (phase == "merge")
    assert (len(selection) == len(tokens)) is (phase == "done")
    assert selection.everything is (phase == "done")


def test_merge_that_meets_the_cost_by_itself_is_the_end() -> None:
    """Ten frames of one patch in pairs: five tokens join, and 10·(1 − 0.45) = 5.5 have to go."""
    pairs = torch.eye(5).repeat_interleave(2, dim=0)
    tokens = toy_tokens([1] * 10, (1, 1), width=5, features=pairs)
    answers = list(calls(fusion(0.45), tokens))
    assert answers[0][1].index.tolist() == [0, 2, 4, 6, 8]
    assert all(len(selection) == 5 for _, selection in answers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_long_chains_are_averaged_by_their_true_length(dtype: torch.dtype) -> None:
    """301 frames, cosine 1 whatever their length; bf16 cannot count beyond 256."""
    length = 1 + torch.arange(301) % 7
    features = (length[:, None] * torch.full((1, 4), 0.5)).to(dtype)
    tokens = toy_tokens([1] * 301, (1, 1), width=4, features=features)
    selection = fusion(0.003)(replace(tokens, cues=Cues()), UNUSED)
    assert selection.index.tolist() == [0]
    assert torch.allclose(selection.features, 0.5 * length.float().mean().expand(1, 4), atol=1e-6)


def test_chain_weighs_by_tokens_alive_not_by_what_they_were_made_of() -> None:
    """What was merged before counts once: two merges of frames 0–1 and then 2 give ((a + b)/2 + c)/2."""
    a, b, c = torch.tensor([[1.0, 0.0], [3.0, 0.0], [8.0, 0.0]])
    merged = toy_tokens([1, 0, 1, 1], (1, 1), width=2, features=torch.stack([(a + b) / 2, c, torch.tensor([0.0, 1])]))
    selection = fusion(0.2)(replace(merged, history=(10, 3)), UNUSED)
    assert selection.index.tolist() == [0, 2]
    assert torch.equal(selection.features, torch.stack([((a + b) / 2 + c) / 2, torch.tensor([0.0, 1])]))


@pytest.mark.parametrize(("similarity", "left"), [(0, [0, 3]), (1e-6, [0, 1, 2, 3])])
def test_what_is_exactly_as_similar_as_asked_for_merges(similarity: float, left: list[int]) -> None:
    """Four frames of one patch, each orthogonal to the others; ⌊4 − 0.3·4⌋ have to go."""
    tokens = replace(toy_tokens([1] * 4, (1, 1), width=4, features=torch.eye(4)), cues=Cues())
    assert fusion(0.3, similarity)(tokens, UNUSED).index.tolist() == left


@pytest.mark.parametrize("per_frame", [[6] * 5, [2, 6, 0, 3, 6, 1]])
def test_first_of_a_patch_never_merges(per_frame: list[int]) -> None:
    tokens = scenes(per_frame, (2, 3), seed=4)
    selection = fusion(0.01, similarity=-1)(replace(tokens, cues=Cues()), UNUSED)
    patch = (tokens.row * 3 + tokens.column).tolist()
    assert selection.index.tolist() == sorted(patch.index(place) for place in set(patch))


def test_among_equals_the_earlier_stay() -> None:
    tokens = toy_tokens([10], (2, 5))  # one frame: nothing merges
    cut = list(calls(fusion(0.5), tokens, lambda _, alive: torch.ones(4, alive)))[1][1]
    assert cut.index.tolist() == [0, 1, 2, 3, 4]  # round((28·0.5·10 − 10) / 27)


def test_among_equally_similar_ones_the_earlier_patch_merges_and_in_it_the_earlier_frame() -> None:
    tokens = replace(toy_tokens([10] * 4, (2, 5), features=torch.ones(40, 8)), depth=4)
    left = tokens.keep(fusion(0.5)(tokens, UNUSED))
    expected = [(t, p) for t in range(4) for p in range(10) if t == 0 or p > 6 or (t, p) == (3, 6)]
    assert list(zip(left.frame.tolist(), (left.row * 5 + left.column).tolist(), strict=True)) == expected


def test_input_is_left_alone() -> None:
    tokens = scenes([16] * 8, (4, 4), seed=5)
    for given, selection in calls(fusion(0.2), replace(tokens, features=tokens.features.clone())):
        before = given.features.clone()
        again = fusion(0.2)(given, UNUSED)
        assert torch.equal(again.index, selection.index)
        assert torch.equal(given.features, before)


def test_cost_that_is_already_spent() -> None:
    tokens = replace(scenes([10] * 10, (2, 5), seed=6), history=(101,))
    tokens = replace(tokens.keep(Selection(torch.arange(98))), history=(101, 98))
    with pytest.raises(ValueError, match=r"retention_ratio must be in \[0\.0347, 1\] for this video, got 0\.03"):
        fusion(0.03)(tokens, UNUSED)


def test_attention_is_asked_for_only_to_prune() -> None:
    tokens = replace(toy_tokens([10], (2, 5)), cues=Cues())
    assert len(fusion(0.5)(tokens, UNUSED)) == 10
    with pytest.raises(ValueError, match="the cue last_attention must be given"):
        fusion(0.5)(replace(tokens, history=(10, 10)), UNUSED)


@pytest.mark.parametrize("unknown", [{"depth": 0}, {"history": ()}])
def test_unknown_depth_or_history(unknown: dict[str, object]) -> None:
    tokens = replace(toy_tokens([4, 4], (2, 2)), **unknown)
    with pytest.raises(ValueError, match="depth must be at least 1 and history begin with"):
        fusion(0.5)(tokens, toy_budget([2, 2], tokens))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"cost": 0}, r"retention_ratio must be in \(0, 1\], got 0"),
        ({"similarity": 1.5}, r"similarity must be in \[-1, 1\], got 1.5"),
        ({"min_merge_ratio": -0.1}, r"min_merge_ratio must be in \[0, 1\], got -0.1"),
    ],
)
def test_what_cannot_be(changed: dict[str, float], complaint: str) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=complaint):
        component("pruner", "framefusion", **changed)
