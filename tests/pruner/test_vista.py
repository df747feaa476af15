"""Vista-LLM against the figures of its released functions, and against its equations, one token at a time."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_budget, toy_tokens, unchecked

from kvtp.types import Selection, VisualTokens

GOLDEN = json.loads((Path(__file__).parent.parent / "fixtures" / "vista_golden.json").read_text())
NEWLINE = [-9.0] * 4  # in the released outputs; newlines are the host's here
RAGGED = [16, 16, 5, 1, 0, 16]
GRANTED = [7, 16, 3, 1, 0, 0]


def select(tokens: VisualTokens, granted: list[int], **changed: Any) -> Selection:
    return component("pruner", "vista", **changed)(tokens, toy_budget(granted, tokens))


def parts(tokens: VisualTokens, granted: list[int], **changed: Any) -> list[list[int]]:
    """Foveal rows, anchors."""
    told = component("pruner", "vista", **changed).parts(tokens, toy_budget(granted, tokens))
    assert list(told) == ["foveal", "anchors"]
    return [rows.tolist() for rows in told.values()]


def numbers(nested: list[Any]) -> torch.Tensor:
    return torch.tensor(nested, dtype=torch.float32)


def one_frame(features: list[list[float]], best: list[int], grid: tuple[int, int] | None = None) -> VisualTokens:
    """Where the scout likes these best."""
    count = len(features)
    scores = torch.zeros(count).scatter(0, torch.tensor(best, dtype=torch.long), 1.0)
    return toy_tokens([count], grid or (1, count), features=torch.tensor(features), scout=scores)


# ---- the released functions


@pytest.mark.parametrize("granted", [3, 8])
@pytest.mark.parametrize("case", [0, 1])
def test_anchors_are_the_released_ones(case: int, granted: int) -> None:
    golden = GOLDEN["dpc"][case]
    tokens = one_frame(golden["points"], [])
    anchors = parts(tokens, [granted], rho=0, neighbours=golden["K"])[1]
    assert anchors == sorted(golden[f"top{granted}"])


@pytest.mark.parametrize(
    ("case", "share"), [(0, 1), (1, 1), (2, 2 / 3), (4, 0)], ids=["α=.5", "α=.25", "an anchor", "no scout"]
)
def test_aggregation_is_the_released_one(case: int, share: float) -> None:
    golden = GOLDEN["aggregate"][case]
    tokens = one_frame(golden["tokens"], golden["scout_idx"])
    selection = select(tokens, [golden["budget"]], rho=share, alpha=golden["alpha"])
    assert selection.index.tolist() == golden["kept_idx"]
    assert torch.allclose(selection.features, torch.tensor(golden["kept_feat"]), atol=1e-6)


def test_a_repeated_token_is_merged_into_once() -> None:
    """Released: both copies use up the budget, the first takes its cluster. Patches 3 and 6 of a grid of 3 × 3 lie over
    token 3 of one of 2 × 3."""
    golden = GOLDEN["aggregate"][3]
    patches = torch.zeros(1, 9)
    patches[0, [3, 6]] = 1
    tokens = toy_tokens([6], (2, 3), features=torch.tensor(golden["tokens"]), scout_patches=patches)
    changed = {"mapping": "official", "rho": 2 / 3}
    selection = select(tokens, [golden["budget"]], **changed)
    assert selection.index.tolist() == golden["kept_idx"] == [3, 3, 4]
    assert torch.allclose(selection.features, torch.tensor(golden["kept_feat"]), atol=1e-6)
    assert parts(tokens, [3], **changed) == [[3, 3], [4]]


def test_what_nothing_joins_stays_as_it_was() -> None:
    selection = select(one_frame([[0, 0.0], [0, 1], [100, 100]], [0, 2]), [2], rho=1)
    assert selection.features.tolist() == [[0, 0.5], [100, 100]]


@pytest.mark.parametrize("mapping", ["grid", "official"])
@pytest.mark.parametrize("case", ["e2e_grid", "e2e_one_token", "e2e_frame"])
def test_whole_videos_as_released(case: str, mapping: str) -> None:
    golden, inputs = GOLDEN[case], GOLDEN["e2e_grid"]
    features, scores = numbers(inputs["features"]).flatten(0, 1), numbers(inputs["scores"])
    tokens = toy_tokens([16] * 4, (4, 4), features=features, scout=scores.flatten(), scout_patches=scores)
    selection = select(tokens, golden["budgets"], rho=golden["rho"], mapping=mapping)
    expected = [row for row in golden["out"] if row != NEWLINE]
    assert torch.allclose(selection.features, torch.tensor(expected), atol=6e-6)


def test_a_whole_video_scouted_on_another_grid_as_released() -> None:
    golden = GOLDEN["e2e_scout5x5_one_token"]
    features = numbers(golden["features"]).flatten(0, 1)
    tokens = toy_tokens([16] * 4, (4, 4), features=features, scout_patches=numbers(golden["scores"]))
    selection = select(tokens, golden["budgets"], rho=golden["rho"], mapping="official")
    expected = [row for row in golden["out"] if row != NEWLINE]
    assert torch.allclose(selection.features, torch.tensor(expected), atol=6e-6)
    assert len(set(selection.index.tolist())) < len(selection)


@pytest.mark.parametrize(
    ("side", "rows"),
    [
        (14, [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13]),
        (13, [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11, 12]),
    ],
)
def test_the_token_under_a_patch(side: int, rows: list[int]) -> None:
    """Of 16 × 16, one patch per frame is liked: its token is the foveal one."""
    tokens = toy_tokens([side**2] * 256, (side, side), width=1, scout_patches=torch.eye(256))
    foveal = parts(tokens, [1] * 256, rho=1, compensation="random", mapping="official")[0]
    cells = [row - frame * side**2 for frame, row in enumerate(foveal)]
    assert cells == [row * side + column for row in rows for column in rows]
    if side == 14:  # so often tokens stand under one, two and four patches
        assert Counter(Counter(cells).values()) == {1: 144, 2: 48, 4: 4}


# ---- the equations


def plain(tokens: VisualTokens, granted: list[int], **chosen: Any) -> tuple[list[int], list[int], list[torch.Tensor]]:
    """Foveal rows, anchors, and what stands in the kept rows, in double precision."""
    x = tokens.features.double()
    rho, alpha, neighbours = chosen.get("rho", 0.85), chosen.get("alpha", 0.5), chosen.get("neighbours", 7)
    official = chosen.get("mapping") == "official"
    rows, columns = tokens.grid
    all_foveal, all_anchors, features = [], [], []
    for t, count in enumerate(granted):
        frame = [int(row) for row in torch.nonzero(tokens.frame == t)]
        cell = {int(tokens.row[i] * columns + tokens.column[i]): i for i in frame}
        if official:
            score = tokens.cues.scout_patches[t].tolist()
            side = round(math.sqrt(len(score)))
            ranked = []
            for patch in sorted(range(len(score)), key=lambda p, score=score: -score[p]):
                row = int((patch // side + 0.5) / side * rows)
                column = int((patch % side + 0.5) / side * columns)
                ranked += [cell[row * columns + column]] if row * columns + column in cell else []
        else:
            ranked = sorted(frame, key=lambda i: -float(tokens.cues.scout[i]))
        foveal = ranked[: int(rho * count)]
        candidates = [i for i in frame if i not in foveal]

        def apart(i: int, j: int) -> float:
            return math.dist(x[i], x[j]) / math.sqrt(x.shape[1])

        density = {}
        for i in candidates:
            squares = sorted(apart(i, j) ** 2 for j in candidates if j != i)[:neighbours]
            density[i] = math.exp(-sum(squares) / max(len(squares), 1))
        peak = {}
        for i in candidates:
            denser = [apart(i, j) for j in candidates if density[j] > density[i]]
            peak[i] = density[i] * (min(denser) if denser else max(apart(i, j) for j in candidates))
        anchors = sorted(candidates, key=lambda i, peak=peak: -peak[i])[: max(0, count - len(foveal))]
        kept = sorted(foveal + anchors)
        members: dict[int, list[int]] = {i: [] for i in kept}
        for j in frame if kept else []:
            if j not in members:
                members[min(members, key=lambda i, j=j: apart(i, j))].append(j)
        for nth, i in enumerate(kept):
            joined = members[i] if i not in kept[:nth] else []
            mean = sum(x[j] for j in joined) / max(len(joined), 1)
            features.append((1 - alpha) * x[i] + alpha * mean if joined else x[i])
        all_foveal += sorted(foveal)
        all_anchors += sorted(anchors)
    return all_foveal, all_anchors, features


@pytest.mark.parametrize("mapping", ["grid", "official"])
@pytest.mark.parametrize("neighbours", [1, 2, 7, 50])
@pytest.mark.parametrize("rho", [0, 0.4, 0.85, 1])
def test_equals_one_token_at_a_time(rho: float, neighbours: int, mapping: str) -> None:
    patches = torch.randn(6, 25, generator=torch.Generator().manual_seed(neighbours)).softmax(1)
    tokens = toy_tokens(RAGGED, (4, 4), seed=10 * neighbours, scout_patches=patches)
    chosen = {"rho": rho, "neighbours": neighbours, "mapping": mapping, "alpha": 0.3}
    foveal, anchors, features = plain(tokens, GRANTED, **chosen)
    assert parts(tokens, GRANTED, **chosen) == [foveal, anchors]
    selection = select(tokens, GRANTED, **chosen)
    assert selection.index.tolist() == sorted(foveal + anchors)
    assert torch.allclose(selection.features.double(), torch.stack(features), atol=1e-5)
    hard = select(tokens, GRANTED, **chosen, aggregate=False)
    assert torch.equal(hard.index, selection.index)
    assert hard.features is None


@pytest.mark.parametrize("mapping", ["grid", "official"])
def test_gaps_in_frames(mapping: str) -> None:
    """Tokens anywhere on the grid, not its first cells; patches over no token are not ranked."""
    random.seed(3)
    whole = toy_tokens([16] * 5, (4, 4), scout_patches=torch.rand(5, 36, generator=torch.Generator().manual_seed(1)))
    left = torch.tensor(sorted(random.sample(range(80), 41)))
    tokens = whole.keep(Selection(left))
    granted = [int(count) - t % 3 for t, count in enumerate(tokens.per_frame)]
    foveal, anchors, features = plain(tokens, granted, mapping=mapping)
    selection = select(tokens, granted, mapping=mapping)
    assert selection.index.tolist() == sorted(foveal + anchors)
    assert len(selection) == sum(granted)
    assert torch.allclose(selection.features.double(), torch.stack(features), atol=1e-5)


def test_a_scout_of_few_patches_leaves_more_to_anchors() -> None:
    tokens = toy_tokens([16], (4, 4), scout_patches=torch.tensor([[0.1, 0.4, 0.2, 0.3]]))
    foveal, anchors = parts(tokens, [14], mapping="official", rho=1)
    assert foveal == [5, 7, 13, 15]
    assert len(set(foveal + anchors)) == 14


@pytest.mark.parametrize(
    ("granted", "rho", "foveal"),
    [(49, 0.85, 41), (39, 0.85, 33), (29, 0.85, 24), (20, 0.85, 17), (196, 0.85, 166), (100, 0.29, 29), (1, 0.99, 0)],
)
def test_foveal_share(granted: int, rho: float, foveal: int) -> None:
    """Eq. 7. In floating point 0.29 · 100 is less than 29."""
    tokens = toy_tokens([196], (14, 14), width=3)
    chosen, anchors = parts(tokens, [granted], rho=rho)
    assert (len(chosen), len(anchors)) == (foveal, granted - foveal)
    best = sorted(range(196), key=lambda i: -float(tokens.cues.scout[i]))[:foveal]
    assert chosen == sorted(best)


def test_equal_scores_the_earlier_first() -> None:
    tokens = toy_tokens([9, 9], (3, 3), scout=torch.full((18,), 0.5))
    assert parts(tokens, [2, 3], rho=1)[0] == [0, 1, 9, 10, 11]


def test_equal_peaks_the_earlier_first() -> None:
    tokens = toy_tokens([9], (3, 3), features=torch.ones(9, 4))
    assert parts(tokens, [3], rho=0)[1] == [0, 1, 2]


def test_of_two_equally_dense_the_more_remote() -> None:
    """Each is as far as its own farthest token (Eq. 9). The released example at K = 2 backwards, in quarters, so that
    every sum is exact: tokens 4 and 7 are the densest."""
    points = [[0.25 * round(5 * x) for x in point] for point in GOLDEN["dpc"][1]["points"][::-1]]
    assert parts(one_frame(points, []), [1], rho=0, neighbours=2)[1] == [7]


def test_equally_near_the_earlier_takes_it() -> None:
    selection = select(one_frame([[0.0], [2], [1]], [0, 1]), [2], rho=1)
    assert selection.features.tolist() == [[0.5], [2]]


@pytest.mark.parametrize("mapping", ["grid", "official"])
def test_no_alpha_no_change(mapping: str) -> None:
    tokens = toy_tokens(RAGGED, (4, 4))
    selection = select(tokens, GRANTED, alpha=0, mapping=mapping)
    assert torch.equal(selection.features, tokens.features[selection.index])


def test_kept_tokens_are_mixtures_of_their_frame() -> None:
    """Every token bears, beside its features, a number of its own: what is kept tells how much of whom is in it."""
    features = torch.cat([10 * toy_tokens(RAGGED, (4, 4)).features, torch.eye(sum(RAGGED))], dim=1)
    tokens = toy_tokens(RAGGED, (4, 4), features=features)
    selection = select(tokens, GRANTED, alpha=0.7)
    share = selection.features[:, 8:]
    assert (share >= 0).all()
    assert torch.allclose(share.sum(1), torch.ones(len(share)), atol=1e-6)
    assert (tokens.frame[share.nonzero()[:, 1]] == tokens.frame[selection.index[share.nonzero()[:, 0]]]).all()
    in_someone = set(share.nonzero()[:, 1].tolist())
    assert in_someone == {i for i in range(len(tokens)) if GRANTED[int(tokens.frame[i])]}  # nothing is lost


def test_all_is_the_scouts() -> None:
    """rho = 1: whatever the features, the same rows."""
    tokens = toy_tokens([16] * 3, (4, 4))
    other = replace(tokens, features=tokens.features.flip(0))
    assert torch.equal(select(tokens, [5, 9, 2], rho=1).index, select(other, [5, 9, 2], rho=1).index)


def test_nothing_is_the_scouts() -> None:
    """rho = 0: whatever the question, the same rows."""
    tokens = toy_tokens([16] * 3, (4, 4))
    other = toy_tokens([16] * 3, (4, 4), features=tokens.features, scout=tokens.cues.scout.flip(0))
    one, two = (select(asked, [5, 9, 2], rho=0) for asked in (tokens, other))
    assert torch.equal(one.index, two.index)
    assert torch.equal(one.features, two.features)


# ---- the ablations of table 5


def test_intrinsic_attention() -> None:
    tokens = toy_tokens([16, 16], (4, 4))
    assert component("pruner", "vista", saliency="intrinsic").cues == {"received_attention"}
    swapped = toy_tokens([16, 16], (4, 4), features=tokens.features, scout=tokens.cues.received_attention)
    one, two = select(tokens, [6, 9], saliency="intrinsic"), select(swapped, [6, 9])
    assert torch.equal(one.index, two.index)
    assert torch.equal(one.features, two.features)
    assert not torch.equal(one.index, select(tokens, [6, 9]).index)


def test_representation() -> None:
    """Candidates by cosine with the mean of the frame's tokens, foveal ones included."""
    tokens = toy_tokens(RAGGED, (4, 4))
    foveal, anchors = parts(tokens, GRANTED, rho=0.5, compensation="representation")
    assert foveal == parts(tokens, GRANTED, rho=0.5)[0]
    expected = []
    for t, count in enumerate(GRANTED):
        frame = [i for i in range(len(tokens)) if tokens.frame[i] == t]
        left = [i for i in frame if i not in foveal]
        mean = tokens.features[frame].mean(0)
        left.sort(key=lambda i, mean=mean: -float(torch.cosine_similarity(tokens.features[i], mean, dim=0)))
        expected += sorted(left[: count - int(0.5 * count)])
    assert anchors == expected


def test_random_compensation_draws_as_the_random_pruner() -> None:
    """With its seed and question, from the tokens that the scout left."""
    tokens = toy_tokens([16] * 4, (4, 4))
    granted = [5, 9, 2, 16]

    def drawn(question: str, seed: int, rho: float = 0.0) -> list[list[int]]:
        pruner = component("pruner", "vista", compensation="random", rho=rho, seed=seed)
        pruner.question_id = question
        return [rows.tolist() for rows in pruner.parts(tokens, toy_budget(granted, tokens)).values()]

    reference = component("pruner", "random", seed=3)
    reference.question_id = "q"
    assert drawn("q", 3) == [[], reference(tokens, toy_budget(granted, tokens)).index.tolist()]
    assert drawn("q", 3) != drawn("q", 4) != drawn("other", 4)
    foveal, anchors = drawn("q", 3, rho=0.5)
    assert not set(foveal) & set(anchors)
    assert len(anchors) == sum(count - count // 2 for count in granted)


def test_random_compensation_prefers_nobody() -> None:
    tokens = toy_tokens([8], (2, 4))
    pruner, often = component("pruner", "vista", compensation="random", rho=0.5), Counter()
    for question in range(600):
        pruner.question_id = str(question)
        told = pruner.parts(tokens, toy_budget([4], tokens))
        often.update(told["anchors"].tolist())
    assert set(often) == set(range(8)) - set(told["foveal"].tolist())
    assert all(abs(count / 600 - 1 / 3) < 0.1 for count in often.values())  # two of six; five standard deviations


# ---- what it is told, and what it refuses


def test_cues() -> None:
    assert component("pruner", "vista").cues == {"scout"}
    assert component("pruner", "vista", mapping="official").cues == {"scout_patches"}


def test_half_precision_is_merged_in_full() -> None:
    tokens = toy_tokens([16] * 2, (4, 4))
    coarse = replace(tokens, features=tokens.features.bfloat16())
    full = replace(tokens, features=coarse.features.float())
    one, two = select(coarse, [4, 6]), select(full, [4, 6])
    assert torch.equal(one.index, two.index)
    assert torch.equal(one.features, two.features)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rho": 1.1}, r"rho must be in \[0, 1\], got 1.1"),
        ({"alpha": -0.1}, r"alpha must be in \[0, 1\], got -0.1"),
        ({"neighbours": 0}, r"neighbours must be a whole number in \[1, inf\], got 0"),
        ({"compensation": "knn"}, "compensation must be one of dpc, random, representation, got 'knn'"),
        ({"saliency": "scouts"}, "saliency must be one of scout, intrinsic, got 'scouts'; nearest: scout"),
        ({"aggregate": None}, "aggregate must be one of True, False, got None"),
        ({"mapping": "patch"}, "mapping must be one of grid, official, got 'patch'"),
        ({"seed": -1}, r"seed must be a whole number in \[0, inf\], got -1"),
        ({"positions": "old"}, "positions must be one of keep, renumber, got 'old'"),
        ({"saliency": "intrinsic", "mapping": "official"}, "mapping must be grid with saliency=intrinsic"),
    ],
)
def test_wrong_keys(changed: dict[str, Any], message: str) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=message):
        component("pruner", "vista", **changed)


def test_a_scouts_grid_has_to_be_square() -> None:
    tokens = toy_tokens([16], (4, 4), scout_patches=torch.rand(1, 12))
    with pytest.raises(ValueError, match="must be a square grid, got 12 patches a frame; use mapping=grid"):
        select(tokens, [3], mapping="official")
