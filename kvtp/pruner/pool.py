"""Pool: each frame's grid averaged down to the granted number of cells."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import slots, starts
from kvtp.types import Budget, Selection, VisualTokens


class Pool(AbstractPruner):
    """Adaptive average pooling to any number n of cells; the row kept is the cell's centre.

    The R×C grid is cut into about √(n·R/C) bands of rows, the n cells are dealt to the bands (the first ones get the
    surplus) and each band is cut into its columns, with the bounds of `adaptive_avg_pool2d`, which it equals wherever
    the bands get equally many. A frame that no longer has its full grid is pooled as one row.
    """

    def __init__(self, positions: Positions) -> None:
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        rows, columns = tokens.grid
        alive, granted = tokens.per_frame, budget.per_frame
        full = alive == rows * columns
        height, width = torch.where(full, rows, 1), torch.where(full, columns, alive)

        fewest = _ceil_div(granted, width.clamp_min(1))  # no band can have more cells than the grid has columns
        bands = (granted * height / width.clamp_min(1)).double().sqrt().round().long()
        bands = bands.clamp(fewest, torch.minimum(granted, height))
        frame, nth = slots(granted, budget.total)
        band, column, cells = _deal(nth, granted[frame], bands[frame])

        place = torch.arange(rows * columns, device=frame.device)
        across = width.clamp_min(1)[:, None]
        top, bottom = _bounds(band, bands[frame], height[frame])
        left, right = _bounds(column, cells, width[frame])
        inside = _inside(place // across, frame, top, bottom) & _inside(place % across, frame, left, right)
        cell, member = inside.nonzero(as_tuple=True)
        first = starts(alive)[frame]
        pooled = embedding_bag(first[cell] + member, tokens.features.float(), starts(inside.sum(dim=1)), mode="mean")
        centre = (top + bottom - 1) // 2 * width[frame] + (left + right - 1) // 2
        return Selection(first + centre, pooled)


def _ceil_div(numerator: Int64[Tensor, " n"], denominator: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    return -(-numerator // denominator)


def _deal(
    nth: Int64[Tensor, " n"], total: Int64[Tensor, " n"], bands: Int64[Tensor, " n"]
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Band, place in the band and size of the band of the nth of `total` cells, the first bands one cell larger."""
    least, larger = total // bands, total % bands
    border = larger * (least + 1)
    early = nth < border
    size = least + early.long()
    offset = torch.where(early, 0, border)
    return torch.where(early, 0, larger) + (nth - offset) // size, (nth - offset) % size, size


def _bounds(
    part: Int64[Tensor, " n"], parts: Int64[Tensor, " n"], length: Int64[Tensor, " n"]
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """First and one past the last line of a part, as in `adaptive_avg_pool`: neighbours may share a line."""
    return part * length // parts, _ceil_div((part + 1) * length, parts)


def _inside(
    line: Int64[Tensor, "T N"], frame: Int64[Tensor, " n"], low: Int64[Tensor, " n"], high: Int64[Tensor, " n"]
) -> Bool[Tensor, "n N"]:
    return (line[frame] >= low[:, None]) & (line[frame] < high[:, None])
