"""Pooling against torch's adaptive_avg_pool2d and against plain slices."""

import pytest
import torch
from toys import component, toy_budget, toy_tokens


@pytest.mark.parametrize(
    ("grid", "cells"),
    [
        ((4, 4), (2, 2)),
        ((4, 4), (1, 2)),
        ((14, 14), (6, 6)),
        ((13, 13), (4, 4)),
        ((4, 6), (2, 3)),
        ((3, 9), (2, 6)),
        ((1, 7), (1, 3)),
        ((7, 1), (5, 1)),
        ((5, 5), (5, 5)),
    ],
)
def test_regular_grids_are_adaptive_average_pooling(grid: tuple[int, int], cells: tuple[int, int]) -> None:
    count = grid[0] * grid[1]
    tokens = toy_tokens([count] * 2, grid)
    granted = cells[0] * cells[1]
    selection = component("pruner", "pool")(tokens, toy_budget([granted] * 2, tokens))
    maps = tokens.features.view(2, *grid, -1).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, cells).permute(0, 2, 3, 1).reshape(2 * granted, -1)
    assert torch.allclose(selection.features, pooled, atol=1e-6)


def test_two_by_two_of_four_by_four() -> None:
    tokens = toy_tokens([16], (4, 4), features=torch.arange(16.0)[:, None])
    selection = component("pruner", "pool")(tokens, toy_budget([4], tokens))
    assert selection.features.squeeze(1).tolist() == [2.5, 4.5, 10.5, 12.5]
    assert selection.index.tolist() == [0, 2, 8, 10]


@pytest.mark.parametrize("grid", [(4, 4), (2, 7), (7, 2), (1, 9), (5, 3)])
def test_any_number_of_cells(grid: tuple[int, int]) -> None:
    """Every n: the means are of rectangles, which cover the frame and contain the row that stands for them."""
    rows, columns = grid
    count = rows * columns
    one_hot = torch.eye(count).repeat(count + 1, 1)  # the feature of a cell says which tokens it averages
    tokens = toy_tokens([count] * (count + 1), grid, features=one_hot)
    selection = component("pruner", "pool")(tokens, toy_budget(list(range(count + 1)), tokens))
    assert (selection.index.diff() > 0).all()
    covered = torch.zeros(count + 1, count)
    for index, feature in zip(selection.index.tolist(), selection.features, strict=True):
        members = (feature > 0).view(grid)
        height, width = int(members.any(1).sum()), int(members.any(0).sum())
        assert int(members.sum()) == height * width
        assert torch.allclose(feature[feature > 0], torch.tensor(1 / (height * width)))
        assert feature[index % count] > 0
        covered[index // count] += feature > 0
    assert (covered[1:] > 0).all()


def test_bands_follow_the_grid() -> None:
    """Five cells of 4×4 are two bands, of three and of two columns."""
    tokens = toy_tokens([16], (4, 4), features=torch.arange(16.0)[:, None])
    selection = component("pruner", "pool")(tokens, toy_budget([5], tokens))
    upper = [[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7]]
    lower = [[8, 9, 12, 13], [10, 11, 14, 15]]
    assert selection.features.squeeze(1).tolist() == [sum(cell) / 4 for cell in upper + lower]


def test_a_frame_with_gaps_is_one_row() -> None:
    tokens = toy_tokens([16, 6], (4, 4), features=torch.arange(22.0)[:, None])
    selection = component("pruner", "pool")(tokens, toy_budget([1, 3], tokens))
    assert selection.features.squeeze(1).tolist() == [7.5, 16.5, 18.5, 20.5]
    assert selection.index.tolist() == [5, 16, 18, 20]
