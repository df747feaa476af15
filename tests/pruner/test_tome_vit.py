"""ToMe in the tower against numbers of the released functions, and against its definition, row by row."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import component

from kvtp.errors import Refused
from kvtp.pruner.tome_vit import BipartiteMerging

FIXTURES = Path(__file__).parent.parent / "fixtures"


def merging(*removed: int) -> BipartiteMerging:
    return BipartiteMerging(0.5, True, removed)


@pytest.mark.parametrize(("name", "protected"), [("tome_cls0", 0), ("tome_cls1", 1), ("tome_81", 0)])
def test_equals_released_numbers(name: str, protected: int) -> None:
    with np.load(FIXTURES / f"{name}.npz") as told:
        known = {key: torch.from_numpy(told[key]) for key in told.files}
    states, keys = known["x"], known["metric"]
    policy = merging(int(known["r"]))
    merged, size, source = policy(states, keys, torch.ones(states.shape[:2]), 0, protected)
    torch.testing.assert_close(merged, known["out"], atol=1e-5, rtol=0)
    assert torch.equal(size, known["size"][..., 0])
    went = known["source"]  # [pictures, rows left, rows before]: 1 where a row went
    assert (went.gather(2, source[..., None]) == 1).all(), "each took the place of a row of its group"


def one_picture(
    states: np.ndarray, keys: np.ndarray, size: np.ndarray, gone: int, protected: int
) -> tuple[list[np.ndarray], list[float], list[int]]:
    """The definition: proposals in a list, groups in lists."""
    unit = [key / np.linalg.norm(key) for key in keys]
    a, b = list(range(0, len(keys), 2)), list(range(1, len(keys), 2))
    proposals = []
    for i in (row for row in a if row >= protected):
        likeness = {j: float(unit[i] @ unit[j]) for j in b if j >= protected}
        partner = max(likeness, key=likeness.__getitem__)
        proposals.append((likeness[partner], i, partner))
    proposals.sort(key=lambda proposal: -proposal[0])
    stays = [i for _, i, _ in proposals[gone:]] + [row for row in a if row < protected]
    groups = [[i] for i in (sorted(stays) if protected else stays)]
    groups += [[j, *(i for _, i, partner in proposals[:gone] if partner == j)] for j in b]
    weight = [float(sum(size[row] for row in group)) for group in groups]
    means = [sum(size[row] * states[row] for row in group) / total for group, total in zip(groups, weight, strict=True)]
    return means, weight, [group[0] for group in groups]


@pytest.mark.parametrize("protected", [0, 1, 2])
@pytest.mark.parametrize(("rows", "gone"), [(11, 3), (12, 5), (37, 18), (8, 1), (6, 2)])
def test_equals_one_picture_at_a_time(rows: int, gone: int, protected: int) -> None:
    """Rows that merged before weigh more."""
    random = torch.Generator().manual_seed(rows)
    states, keys = (torch.randn(4, rows, width, generator=random) for width in (6, 5))
    size = torch.randint(1, 5, (4, rows), generator=random).float()
    untouched = states.clone(), keys.clone(), size.clone()
    merged, weight, source = merging(0, gone)(states, keys, size, 1, protected)
    assert merged.shape == (4, rows - gone, 6)
    for picture in range(4):
        expected = one_picture(*(each[picture].numpy() for each in (states, keys, size)), gone, protected)
        torch.testing.assert_close(merged[picture], torch.from_numpy(np.array(expected[0])), atol=1e-5, rtol=0)
        assert weight[picture].tolist() == expected[1]
        assert source[picture].tolist() == expected[2]
    assert weight.sum(1).tolist() == size.sum(1).tolist(), "nothing is lost"
    assert all(map(torch.equal, untouched, (states, keys, size)))


@pytest.mark.parametrize("protected", [0, 1])
def test_half_precision_is_merged_in_full(protected: int) -> None:
    """What bf16 states and keys merge to is what their values do in fp32, but for the last rounding (8 bits)."""
    random = torch.Generator().manual_seed(protected)
    states, keys = (torch.randn(4, 37, width, generator=random).bfloat16() for width in (6, 5))
    size = torch.randint(1, 5, (4, 37), generator=random).float()
    merged, weight, source = merging(18)(states, keys, size, 0, protected)
    exact, exact_weight, exact_source = merging(18)(states.float(), keys.float(), size, 0, protected)
    assert merged.dtype == torch.bfloat16
    assert weight.dtype == torch.float32
    assert torch.equal(source, exact_source)
    assert torch.equal(weight, exact_weight)
    torch.testing.assert_close(merged.float(), exact, atol=0, rtol=2**-8)


def test_equal_proposals_go_in_order() -> None:
    keys = torch.ones(1, 8, 3)
    states = torch.arange(8.0)[None, :, None]
    merged, size, source = merging(2)(states, keys, torch.ones(1, 8), 0)
    assert source.tolist() == [[4, 6, 1, 3, 5, 7]]
    assert size.tolist() == [[1, 1, 3, 1, 1, 1]]
    assert merged.flatten().tolist() == [4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize(("blocks", "gone", "left"), [(27, 22, 135), (27, 21, 162)])
def test_schedules_of_siglip(blocks: int, gone: int, left: int) -> None:
    """729 patches; the figures of the specification."""
    assert BipartiteMerging(left / 729, True).fit(729, blocks).removed == (gone,) * blocks


@pytest.mark.parametrize("blocks", [1, 2, 5, 23])
@pytest.mark.parametrize("patches", [4, 36, 575, 576])
def test_schedule_is_even_and_exact(patches: int, blocks: int) -> None:
    for ratio in (0.03, 0.1, 0.25, 0.5, 0.501, 0.9, 0.999):
        fewest = patches
        for _ in range(blocks):
            fewest -= fewest // 2
        if int(ratio * patches + 1e-9) < fewest:
            with pytest.raises(Refused, match=rf"retention_ratio must be in \[{fewest / patches:.4g}, 1\]"):
                BipartiteMerging(ratio, True).fit(patches, blocks)
            continue
        policy = BipartiteMerging(ratio, True).fit(patches, blocks)
        assert len(policy.removed) == blocks
        assert patches - sum(policy.removed) == int(ratio * patches + 1e-9)
        left, free = patches, []
        for gone in policy.removed:
            assert 0 <= gone <= left // 2
            if gone < left // 2:
                free.append(gone)
            left -= gone
        assert max(free, default=0) - min(free, default=0) <= 1
        assert sorted(free, reverse=True) == free
        assert max(policy.removed) - min(free, default=max(policy.removed)) <= 1
        assert policy.blocks == tuple(block for block, gone in enumerate(policy.removed) if gone)


def test_from_yaml() -> None:
    pruner = component("pruner", "tome_vit", retention_ratio=0.25)
    assert pruner.layers == ()
    assert pruner.tower.proportional
    assert pruner.tower.fit(36, 3).removed == (9, 9, 9)
    assert component("pruner", "tome_vit", retention_ratio=1).tower is None
    with pytest.raises(Exception, match=r"retention_ratio must be in \(0, 1\], got 0"):
        component("pruner", "tome_vit", retention_ratio=0)
