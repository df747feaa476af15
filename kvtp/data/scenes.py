"""Moments of SparseKV-Shapes with descriptions, and the truth about which is true of which: for `module=siglip`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from kvtp.benchmark._world import PLACES, Event
from kvtp.benchmark.shapes import Shapes
from kvtp.data._describe import CHOICES, Description, describe
from kvtp.data.base import ShapesData
from kvtp.data.moments import moments
from kvtp.errors import check_range, check_whole
from kvtp.frames.base import AbstractFrames

GRID = 8  # cells across a picture; those within one of a quadrant's middle lie on an object that is shown there
FIRST_HELD_OUT = 2**40  # validation batches have numbers that training never reaches


class Scenes(NamedTuple):
    """`shows[b, n]`: text n is true of picture b; `cell_shows[b, r, n]`: of what is seen at its cell r.

    `cells` are numbered row by row on a `grid` × `grid` board. `choices`: ranges of texts of which exactly one is true
    of each picture with an object.
    """

    pixels: UInt8[Tensor, "B H W 3"]
    texts: tuple[str, ...]
    shows: Bool[Tensor, "B N"]
    cells: Int64[Tensor, "B R"]
    cell_shows: Bool[Tensor, "B R N"]
    grid: int
    choices: Mapping[str, tuple[int, int]]


class ShapesScenes(ShapesData):
    """A batch = `videos` films, of each all pictures with an object and `background` others, one description for each.

    A share `shape_only` of descriptions tells the shape alone: it is the hardest to see, and colour and place, once
    learnt, leave little to gain by it. `cells` regions of each picture, half of them on the object if there is one.
    `frames` samples the films. `held_out_batches` of `held_out_videos` of the `val` split are classified by colour,
    shape and place.
    """

    gives = Scenes

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        frames: AbstractFrames,
        videos: int,
        background: int,
        cells: int,
        shape_only: float,
        held_out_batches: int,
        seed: int,
    ) -> None:
        super().__init__(benchmark, held_out_videos, seed)
        check_whole("data.videos", videos, 1, min(len(self.train.films), len(self.val.films)))
        check_whole("data.background", background, 0)
        check_whole("data.cells", cells, 2)
        check_whole("data.held_out_batches", held_out_batches, 1)
        check_range("data.shape_only", shape_only, 0, 1)
        self.frames = frames
        self.videos, self.background, self.cells, self.shape_only = videos, background, cells, shape_only
        self.held_out_batches = held_out_batches

    def make(self, number: int) -> Scenes:
        rng = self.random(number)
        pictures, events = self._moments(self.train, rng)
        told = [describe(event, self.shape_only, rng) for event in events]
        return self._scenes(pictures, events, told, {}, rng)

    @property
    def held_out(self) -> int:
        return self.held_out_batches

    def make_held_out(self, number: int) -> Scenes:
        told = [description for group in CHOICES.values() for description in group]
        ends = np.cumsum([len(group) for group in CHOICES.values()]).tolist()
        choices = {name: (end - len(group), end) for (name, group), end in zip(CHOICES.items(), ends, strict=True)}
        rng = self.random(FIRST_HELD_OUT + number)
        pictures, events = self._moments(self.val, rng)
        return self._scenes(pictures, events, told, choices, rng)

    def _moments(self, benchmark: Shapes, rng: np.random.Generator) -> tuple[list[Tensor], list[Event | None]]:
        """Pictures, and the event that each shows."""
        pictures: list[Tensor] = []
        shown: list[Event | None] = []
        chosen = [benchmark.films[number] for number in rng.choice(len(benchmark.films), self.videos, replace=False)]
        for frames, events in moments(benchmark, chosen, self.frames):
            empty = [place for place, event in enumerate(events) if event is None]
            others = rng.choice(empty, min(self.background, len(empty)), replace=False).tolist()
            for place in sorted([place for place, event in enumerate(events) if event] + others):
                pictures.append(frames.pixels[place])
                shown.append(events[place])
        return pictures, shown

    def _scenes(
        self,
        pictures: Sequence[Tensor],
        events: Sequence[Event | None],
        told: Sequence[Description],
        choices: Mapping[str, tuple[int, int]],
        rng: np.random.Generator,
    ) -> Scenes:
        cells, seen = zip(*(self._look(event, rng) for event in events), strict=True)
        return Scenes(
            pixels=torch.stack(list(pictures)),
            texts=tuple(str(description) for description in told),
            shows=torch.tensor([[description.true_of(event) for description in told] for event in events]),
            cells=torch.tensor(cells),
            cell_shows=torch.tensor(
                [[[description.true_of(event) for description in told] for event in row] for row in seen]
            ),
            grid=GRID,
            choices=choices,
        )

    def _look(self, event: Event | None, rng: np.random.Generator) -> tuple[list[int], list[Event | None]]:
        """Cells of a picture and what is seen there; cells at an object's rim are not asked about."""
        on, off = board(event)
        near = rng.choice(on, self.cells // 2).tolist() if event else []
        far = rng.choice(off, self.cells - len(near)).tolist()
        return near + far, [event] * len(near) + [None] * len(far)


def board(event: Event | None) -> tuple[list[int], list[int]]:
    """Cells that lie on the object wherever in its place it is, and cells of the other places."""
    if event is None:
        return [], list(range(GRID * GRID))
    place = PLACES.index(event.place)
    half, on, off = GRID // 2, [], []
    for cell in range(GRID * GRID):
        row, column = cell // GRID - half * (place // 2), cell % GRID - half * (place % 2)
        if all(half // 2 - 1 <= at <= half // 2 for at in (row, column)):
            on.append(cell)
        elif not all(0 <= at < half for at in (row, column)):
            off.append(cell)
    return on, off
