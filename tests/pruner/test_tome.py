"""ToMe against hand-checked lists and against one frame at a time, token by token."""

import numpy as np
import pytest
import torch
from toys import component, toy_budget, toy_tokens

X = [[1, 0], [0, 1], [1, 0.1], [0.9, 0.1], [0, 2]]
EXAMPLES = [
    (0.8, [0, 1, 2, 3, 4], X),  # 5·(1 − 0.8) is a little less than 1 in floating point: nothing goes
    (0.75, [0, 2, 4, 3], [[1, 0], [1, 0.1], [0, 2], [0.9, 0.1]]),
    (0.6, [0, 2, 4], [[1, 0], [0.9994656, 0.1052069], [0, 2]]),
    (0.4, [0, 4], [[1.0035992, 0.0528069], [0, 2]]),
    (0.2, [0], [[0.8784236, 1.7967671]]),
]


def one_frame(features: np.ndarray, keys: np.ndarray, remain: int) -> tuple[list[int], np.ndarray]:
    """The definition, as it is told: lists, one proposal after the other."""
    ids, x, k = list(range(len(features))), list(features), list(keys)
    while len(ids) > remain:
        unit = [key / np.linalg.norm(key) for key in k]
        a, b = list(range(0, len(ids), 2)), list(range(1, len(ids), 2))
        proposals = []
        for j in b:
            likeness = [unit[j] @ unit[i] for i in a]
            proposals.append((-max(likeness), j, a[int(np.argmax(likeness))]))
        accepted = sorted(proposals)[: len(ids) - remain]
        for i in a:
            group = [i] + [j for _, j, partner in accepted if partner == i]
            if len(group) > 1:
                norm = max(np.linalg.norm(x[member]) for member in group)
                mean, key = np.mean([x[m] for m in group], axis=0), np.mean([k[m] for m in group], axis=0)
                x[i], k[i] = mean / np.linalg.norm(mean) * norm, key / np.linalg.norm(key) * norm
        gone = {j for _, j, _ in accepted}
        order = a + [j for j in b if j not in gone]
        ids, x, k = ([column[i] for i in order] for column in (ids, x, k))
    return ids, np.array(x)


@pytest.mark.parametrize(("rate", "ids", "features"), EXAMPLES)
def test_example_as_released(rate: float, ids: list[int], features: list[list[float]]) -> None:
    tokens = toy_tokens([5], (1, 5), features=torch.tensor(X), tower_states=torch.tensor(X))
    selection = component("pruner", "tome", variant="official")(tokens, toy_budget([1], tokens, rate=[rate]))
    assert selection.index.tolist() == ids
    assert torch.allclose(selection.features, torch.tensor(features, dtype=torch.float32), atol=1e-6)


@pytest.mark.parametrize(("rate", "ids", "features"), EXAMPLES)
def test_example_in_raster_order(rate: float, ids: list[int], features: list[list[float]]) -> None:
    tokens = toy_tokens([5], (1, 5), features=torch.tensor(X), tower_states=torch.tensor(X))
    selection = component("pruner", "tome")(tokens, toy_budget([len(ids)], tokens, rate=[rate]))
    assert selection.index.tolist() == sorted(ids)
    expected = torch.tensor(features, dtype=torch.float32)[torch.tensor(ids).argsort()]
    assert torch.allclose(selection.features, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(0.005, 1), (0.006, 2), (0.1, 17), (0.2, 34), (0.5, 85), (0.999, 169), (1.0, 169), (1.4, 169), (1e-20, 0)],
)
def test_released_count(rate: float, kept: int) -> None:
    tokens = toy_tokens([169], (13, 13))
    selection = component("pruner", "tome", variant="official")(tokens, toy_budget([1], tokens, rate=[rate]))
    assert len(selection) == kept


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_one_frame_at_a_time(seed: int, variant: str) -> None:
    size, grid = [36, 36, 7, 36, 0, 36, 1, 36, 36, 35, 36, 2], (6, 6)
    granted = [7, 36, 2, 1, 0, 0, 1, 18, 35, 17, 19, 1]
    tokens = toy_tokens(size, grid, seed=seed)
    selection = component("pruner", "tome", variant=variant)(tokens, toy_budget(granted, tokens))
    index, features = [], []
    for t, remain in enumerate(granted):
        rows = torch.nonzero(tokens.frame == t).squeeze(1)
        if remain == 0:
            continue
        ids, merged = one_frame(tokens.features[rows].numpy(), tokens.cues.tower_states[rows].numpy(), remain)
        order = np.argsort(ids) if variant == "paper" else np.arange(len(ids))
        index += [int(rows[ids[i]]) for i in order]
        features += [merged[i] for i in order]
    assert selection.index.tolist() == index
    assert torch.allclose(selection.features, torch.tensor(np.array(features)), atol=1e-5)


def test_stride_sampling_of_released_rounds() -> None:
    """Of 169 tokens 135 go in rounds of 84, 42 and 9: rows 0, 8, 16 … survive."""
    tokens = toy_tokens([169], (13, 13))
    kept = set(component("pruner", "tome")(tokens, toy_budget([34], tokens)).index.tolist())
    assert set(range(0, 169, 8)) <= kept
    assert all(row % 4 == 0 for row in kept)


def test_identical_tokens_stay_identical() -> None:
    same = torch.tensor([[1.0, -2.0, 3.0]]).expand(16, 3).clone()
    tokens = toy_tokens([16], (4, 4), features=same, tower_states=same)
    features = component("pruner", "tome")(tokens, toy_budget([3], tokens)).features
    assert torch.allclose(features, same[:3], atol=1e-6)


def test_zero_vectors_stay_finite() -> None:
    nothing = torch.zeros(16, 3)
    tokens = toy_tokens([16], (4, 4), features=nothing, tower_states=nothing)
    assert torch.equal(component("pruner", "tome")(tokens, toy_budget([3], tokens)).features, nothing[:3])
