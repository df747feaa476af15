"""Look-M's cache against the released code's numbers and against its definition, head by head, with the whole map."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from torch.utils._python_dispatch import TorchDispatchMode
from toys import component, toy_budget, toy_tokens, unchecked

FIXTURE = np.load(Path(__file__).parent.parent / "fixtures" / "lookm.npz")
SUMS = {"q": -520.0610065767814, "k": -1323.6269330015411, "v": -204.79320883262972}  # of the inputs, in float64
MERGES = ("pivot", "average", "weighted", "none")


def policy(important: float, recent: float, merge: str = "pivot"):
    return component("pruner", "look_m", important_ratio=important, recent_ratio=recent, merge=merge).cache


def states(heads: int, shared: int, rows: int, width: int, seed: int, spread: float = 1.5) -> list[torch.Tensor]:
    """Queries, keys, values. With 2 heads of 128, seed 0 and 626 rows: those of the fixture."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(heads, spread), (shared, spread), (shared, 1.0)]
    return [scale * torch.randn(count, rows, width, generator=random) for count, scale in shapes]


def span(rows: int, *visual: tuple[int, int]) -> torch.Tensor:
    mask = torch.zeros(rows, dtype=torch.bool)
    for first, stop in visual:
        mask[first:stop] = True
    return mask


def by_loops(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, visual: torch.Tensor, h: int, w: int, merge: str
) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """The definition: the whole map, text first, one evicted row after the other."""
    heads, rows, width = queries.shape
    group = heads // len(keys)
    q, k, v = (tensor.double().numpy() for tensor in (queries, keys, values))
    all_kept, all_keys, all_values = [], [], []
    for g in range(len(k)):
        received = np.zeros(rows)
        for head in range(g * group, (g + 1) * group):
            for i in range(rows):
                weights = np.exp(q[head, i] @ k[g, : i + 1].T / np.sqrt(width))
                received[: i + 1] += weights / weights.sum()
        text = [j for j in range(rows - w) if not visual[j]]
        pictures = sorted((j for j in range(rows - w) if visual[j]), key=lambda j: -received[j])
        kept = sorted(text + pictures[: max(0, h - len(text))] + list(range(rows - w, rows)))
        k_new, v_new, went = k[g, kept].copy(), v[g, kept].copy(), [0] * len(kept)
        for e in sorted(set(range(rows)) - set(kept)):
            likeness = [k[g, e] @ k[g, i] / np.linalg.norm(k[g, e]) / np.linalg.norm(k[g, i]) for i in kept]
            pivot = int(np.argmax(likeness))
            went[pivot] += merge != "none"
            for new, old in ((k_new, k[g]), (v_new, v[g])):
                new[pivot] += {
                    "pivot": (old[e] + old[kept[pivot]]) / 2,
                    "average": old[e],
                    "weighted": likeness[pivot] * old[e],
                    "none": 0,
                }[merge]
        divisor = 1 + np.array(went)[:, None]
        all_kept.append(kept)
        all_keys.append(k_new / divisor)
        all_values.append(v_new / divisor)
    return all_kept, np.array(all_keys), np.array(all_values)


def test_the_released_code() -> None:
    """2 heads, 20 + 576 + 30 rows, in fp32."""
    queries, keys, values = states(2, 2, 626, 128, seed=0)
    for name, tensor in (("q", queries), ("k", keys), ("v", values)):
        assert np.array_equal(tensor[0, 0, :8], FIXTURE[f"{name}_first"]), "the generator no longer draws these inputs"
        assert float(tensor.double().sum()) == pytest.approx(SUMS[name], abs=1e-6), "nor the rest of them"
    before, pictures = int(FIXTURE["pre"]), int(FIXTURE["n_img"])
    visual = span(626, (before, before + pictures))
    ratios = float(FIXTURE["hh"]), float(FIXTURE["recent"])
    new_keys, new_values = policy(*ratios).after_prefill(0, queries, keys, values, visual)
    assert np.abs(new_keys.numpy() - FIXTURE["k_out"][0]).max() < 1e-5
    assert np.abs(new_values.numpy() - FIXTURE["v_out"][0]).max() < 1e-5

    same_keys, _ = policy(*ratios, "none").after_prefill(0, queries, keys, values, visual)
    for head in range(2):
        assert torch.equal(same_keys[head], keys[head, torch.from_numpy(FIXTURE["keep"][head])])


def test_more_text_than_the_budget_as_released() -> None:
    """120 + 576 + 120 rows: 81 + 81 asked for, 240 kept; none of them visual."""
    queries, keys, values = states(2, 2, 816, 128, seed=1)
    cache = policy(0.1, 0.1, "none")
    kept, _ = cache.after_prefill(0, queries, keys, values, span(816, (120, 696)))
    assert torch.equal(kept, torch.cat([keys[:, :120], keys[:, 696:]], 1))
    assert cache.told() == {"cache_rows_over_budget": 78.0, "cache_share": 240 / 816}


def test_two_pictures_as_released() -> None:
    """2 × 576 of 1197 rows: 238 kept. Sums of the released code."""
    queries, keys, values = states(2, 2, 1197, 128, seed=2)
    new_keys, new_values = policy(0.1, 0.1).after_prefill(0, queries, keys, values, span(1197, (20, 1172)))
    assert new_keys.shape == new_values.shape == (2, 238, 128)
    assert abs(float(new_keys.double().sum()) - 121.58322) < 1e-4
    assert abs(float(new_values.double().sum()) - 234.03232) < 1e-4


SITUATIONS = {
    "one span": ([(6, 50)], 0.2, 0.2),
    "newlines between": ([(6, 14), (15, 23), (24, 50)], 0.3, 0.1),
    "visual to the end": ([(3, 60)], 0.2, 0.3),
    "visual from the start": ([(0, 40)], 0.5, 0.1),
    "text fills the budget": ([(10, 50)], 10 / 60, 0.1),
    "more text than the budget": ([(20, 40)], 0.1, 0.1),
    "no window": ([(5, 55)], 0.3, 0),
    "a window alone": ([(5, 55)], 0, 0.3),
    "text alone stays": ([(5, 55)], 0, 0),
    "no text": ([(0, 60)], 0.2, 0.1),
    "no picture": ([], 0.2, 0.1),
    "one row goes": ([(5, 55)], 0.5, 0.485),
}


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_equals_the_whole_map(
    monkeypatch: pytest.MonkeyPatch, situation: str, heads: int, shared: int, merge: str
) -> None:
    monkeypatch.setattr("kvtp.pruner._pivot.CELLS", 200)  # several chunks
    visual, important, recent = SITUATIONS[situation]
    mask = span(60, *visual)
    given = states(heads, shared, 60, 8, seed=heads + shared)
    h, w = int(60 * important), int(60 * recent)
    kept, keys, values = by_loops(*given, mask, h, w, merge)
    cache = policy(important, recent, merge)
    new_keys, new_values = cache.after_prefill(0, *given, mask)
    assert torch.allclose(new_keys, torch.from_numpy(keys).float(), atol=1e-5)
    assert torch.allclose(new_values, torch.from_numpy(values).float(), atol=1e-5)
    text = int((~mask[: 60 - w]).sum())
    assert len(kept[0]) == max(h, text) + w
    assert cache.told() == {"cache_rows_over_budget": max(0, text - h), "cache_share": len(kept[0]) / 60}


def test_keys_decide_for_values() -> None:
    """The evicted row's key is row 1's: its value goes there, though it is row 0's."""
    keys = torch.tensor([[[1.0, 0], [0, 1], [0, 2], [1, 0.1]]])
    values = torch.tensor([[[4.0, 0], [0, 4], [4, 0], [9, 9]]])
    queries = torch.zeros(1, 4, 2)
    visual = torch.tensor([False, False, True, False])
    new_keys, new_values = policy(0.5, 0.25).after_prefill(0, queries, keys, values, visual)
    assert torch.allclose(new_keys, torch.tensor([[[1, 0], [0, 1.25], [1, 0.1]]]))  # (1 + (2 + 1)/2) / 2
    assert torch.allclose(new_values, torch.tensor([[[4.0, 0], [1, 3], [9, 9]]]))  # (4 + (0 + 4)/2) / 2, (0 + 4/2) / 2


def test_among_equals_the_first() -> None:
    """Keys of zeros are as near to one row as to another."""
    keys = torch.zeros(1, 6, 2)
    values = torch.arange(6.0).view(1, 6, 1).expand(1, 6, 2).contiguous()
    queries = torch.zeros(1, 6, 2)
    visual = torch.tensor([True] * 5 + [False])
    _, new = policy(0.4, 0.2, "average").after_prefill(0, queries, keys, values, visual)
    assert torch.allclose(new[0, :, 0], torch.tensor([(0 + 2 + 3 + 4) / 4, 1, 5]))


@pytest.mark.parametrize(("important", "recent"), [(0.5, 0.5), (1, 0), (0, 1)])
def test_a_cache_within_its_budget_is_left_alone(important: float, recent: float) -> None:
    queries, keys, values = states(2, 2, 10, 4, seed=3)
    cache = policy(important, recent)
    new_keys, new_values = cache.after_prefill(0, queries, keys, values, span(10, (2, 8)))
    assert new_keys is keys
    assert new_values is values
    assert cache.told() == {"cache_rows_over_budget": 0, "cache_share": 1}


def test_heads_choose_for_themselves() -> None:
    given = states(2, 2, 60, 8, seed=4)
    kept, _ = policy(0.3, 0.1, "none").after_prefill(0, *given, span(60, (5, 55)))
    rows = [{int((given[1][g] == key).all(1).nonzero()) for key in kept[g]} for g in range(2)]
    assert len(rows[0]) == len(rows[1]) == 24
    assert rows[0] != rows[1]


def test_layers_are_averaged_and_a_new_question_begins_with_the_first() -> None:
    cache = policy(0.2, 0.1)
    assert cache.told() == {}
    sizes: Sequence[tuple[int, tuple[int, int]]] = [(60, (5, 55)), (50, (20, 40)), (40, (0, 40))]
    for layer, (rows, visual) in enumerate(sizes):
        cache.after_prefill(layer, *states(2, 2, rows, 4, seed=layer), span(rows, visual))
        cache.reset()  # replies change nothing
    over, share = [0, 25 - 10, 0], [18 / 60, 30 / 50, 12 / 40]  # of 50: 20 + 5 rows of text before the last 5
    expected = {"cache_rows_over_budget": sum(over) / 3, "cache_share": sum(share) / 3}
    assert cache.told() == pytest.approx(expected)
    cache.after_prefill(0, *states(2, 2, 50, 4, seed=0), span(50, (0, 50)))
    assert cache.told() == {"cache_rows_over_budget": 0, "cache_share": 15 / 50}


class Waits(TorchDispatchMode):
    """Counts numbers read from tensors: on an accelerator the host waits for each."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_text_is_counted_once_a_question() -> None:
    """Whatever the layers; anew where another question begins, or where the rows are others."""
    cache, mask = policy(0.2, 0.1, "none"), span(60, (5, 55))
    given = states(2, 2, 60, 8, seed=8)
    with Waits() as waits:
        for layer in range(4):
            cache.after_prefill(layer, *given, mask)
        assert waits.count == 1
    kept, _ = cache.after_prefill(0, *given, span(60, (30, 40)))
    assert kept.shape[1] == 44 + 6  # rows of text before the last 6, and these
    kept, _ = cache.after_prefill(1, *states(2, 2, 40, 8, seed=9), span(40, (0, 40)))
    assert kept.shape[1] == 8 + 4


@pytest.mark.parametrize("merge", MERGES)
def test_half_precision_is_merged_in_full(merge: str) -> None:
    given = [tensor.bfloat16() for tensor in states(4, 2, 60, 8, seed=5)]
    mask = span(60, (5, 55))
    exact = policy(0.2, 0.1, merge).after_prefill(0, *(tensor.float() for tensor in given), mask)
    coarse = policy(0.2, 0.1, merge).after_prefill(0, *given, mask)
    for one, other in zip(coarse, exact, strict=True):
        assert torch.equal(one, other.bfloat16())


def test_attention_is_not_changed_while_writing() -> None:
    cache = policy(0.2, 0.1)
    assert cache.reads_queries
    assert cache.watches == frozenset()
    assert cache.before_decode(0, None) is None


def test_the_sequence_is_left_alone() -> None:
    pruner = component("pruner", "look_m")
    tokens = toy_tokens([4] * 3, (2, 2))
    assert pruner.layers == ()
    selection = pruner(tokens, toy_budget([1, 1, 1], tokens))
    assert selection.everything
    assert selection.index.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("changed", "shares"),
    [
        ({}, (0.15, 0.15)),
        ({"important_ratio": 0.05}, (0.05, 0.15)),
        ({"recent_ratio": 0.0}, (0.15, 0.0)),
        ({"important_ratio": 0.1, "recent_ratio": 0.2}, (0.1, 0.2)),
    ],
)
def test_shares_default_to_half_of_the_ratio(changed: dict[str, float], shares: tuple[float, float]) -> None:
    """30 % of 1000 rows."""
    cache = component("pruner", "look_m", retention_ratio=0.3, merge="none", **changed).cache
    keys, _ = cache.after_prefill(0, *states(1, 1, 1000, 4, seed=6), span(1000, (0, 1000)))
    assert keys.shape[1] == round(1000 * sum(shares))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"important_ratio": -0.1}, "important_ratio must be in"),
        ({"important_ratio": 1.5}, "important_ratio must be in"),
        ({"recent_ratio": -0.1}, "recent_ratio must be in"),
        ({"recent_ratio": 2}, "recent_ratio must be in"),
        ({"recent_ratio": "half"}, "recent_ratio must be in"),
        ({"important_ratio": 0.6, "recent_ratio": 0.5}, "must be at most 1"),
        ({"important_ratio": 0.9}, "must be at most 1"),
        ({"retention_ratio": 0}, "retention_ratio must be in"),
        ({"retention_ratio": 1.2}, "retention_ratio must be in"),
        ({"merge": "sum"}, "merge must be one of"),
    ],
)
def test_options_are_checked(changed: dict[str, object], rule: str) -> None:
    ratio = changed.pop("retention_ratio", 0.3)
    with unchecked(), pytest.raises(InstantiationException, match=rule):
        component("pruner", "look_m", retention_ratio=ratio, **changed)


def test_queries_are_needed() -> None:
    _, keys, values = states(1, 1, 10, 4, seed=7)
    with pytest.raises(ValueError, match="queries must be given"):
        policy(0.2, 0.2).after_prefill(0, None, keys, values, span(10, (2, 8)))
