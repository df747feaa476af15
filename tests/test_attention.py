"""Attention told again against the whole map, written out."""

import pytest
import torch

from kvtp import attention
from kvtp.attention import attention_rows, column_sums, rotate, unrotate

SHAPES = [(4, 4, 30), (6, 2, 41), (3, 1, 7), (2, 2, 1)]  # query heads, kv heads, rows


def drawn(heads, groups, rows, width=8):
    random = torch.Generator().manual_seed(rows)
    return torch.randn(heads, rows, width, generator=random), torch.randn(groups, rows, width, generator=random)


def whole_map(queries, keys, scale, causal=True):
    """[H, S, S], keys repeated for the heads that share them."""
    scores = scale * queries @ keys.repeat_interleave(len(queries) // len(keys), 0).mT
    if causal:
        scores += torch.full(scores.shape[1:], float("-inf")).triu(1)
    return scores.softmax(-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("causal", [True, False])
def test_rows_equal_those_of_the_map(shape, causal):
    queries, keys = drawn(*shape)
    row = torch.arange(shape[2] // 2, shape[2])
    columns = torch.arange(0, shape[2], 3)
    told = attention_rows(queries[:, row], keys, row if causal else None, 0.3, columns)
    torch.testing.assert_close(told, whole_map(queries, keys, 0.3, causal)[:, row][..., columns])


def test_rows_of_half_precision_are_told_in_single():
    queries, keys = (each.bfloat16() for each in drawn(4, 2, 20))
    told = attention_rows(queries, keys, torch.arange(20), 0.3, slice(None))
    assert told.dtype == torch.float32
    torch.testing.assert_close(told, whole_map(queries.float(), keys.float(), 0.3))


@pytest.mark.parametrize("cells", [1, 64, 2**22])
@pytest.mark.parametrize("shape", SHAPES)
def test_column_sums_equal_those_of_the_map(shape, cells, monkeypatch):
    """Whatever the size of the chunks."""
    monkeypatch.setattr(attention, "CELLS", cells)
    queries, keys = drawn(*shape)
    told = column_sums(queries, keys, 0.3)
    torch.testing.assert_close(told, whole_map(queries, keys, 0.3).sum(1))
    assert told.sum().item() == pytest.approx(shape[0] * shape[2], rel=1e-5), "each row hands out one unit"


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_rotations_turn_pairs_and_are_undone(factor):
    """Pairs (i, i + d/2) as complex numbers times factor·exp(i·angle)."""
    states, angles = drawn(3, 1, 5)[0], torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    cos, sin = (factor * torch.cat([each, each], -1) for each in (angles.cos(), angles.sin()))
    turned = torch.complex(states[..., :4], states[..., 4:]) * torch.polar(torch.full_like(angles, factor), angles)
    told = rotate(states, cos, sin)
    torch.testing.assert_close(told, torch.cat([turned.real, turned.imag], -1))
    torch.testing.assert_close(unrotate(told, cos, sin), states)
