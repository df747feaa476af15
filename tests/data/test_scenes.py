"""The truth that a batch of pictures and descriptions comes with."""

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException

from kvtp.benchmark._paint import _show
from kvtp.benchmark._world import PLACES, Event, Settings
from kvtp.data.scenes import GRID, board

OFFSETS = [(-3, -3), (-3, 3), (3, -3), (3, 3), (0, 0)]


@pytest.mark.parametrize("place", PLACES)
def test_cells_lie_on_the_object_and_off_it_wherever_it_moves(place: str) -> None:
    """By painting: an object may come by two pixels into a neighbouring place, not more."""
    settings = Settings(clips=4, events=2, stay=1, grey=0, fps=8, side=128)
    cell = settings.side // GRID
    on_cells = 0
    for offset in OFFSETS:
        for drift in OFFSETS:
            event = Event(clips=(0,), colour="red", shape="square", place=place, offset=offset, drift=drift)
            on, off = board(event)
            for tick in (0, settings.fps - 1):
                picture = np.zeros((settings.side, settings.side, 3), np.int32)
                _show(picture, event, tick, settings)
                painted = picture.any(-1).reshape(GRID, cell, GRID, cell).transpose(0, 2, 1, 3)
                share = painted.reshape(GRID * GRID, -1).mean(1)
                assert (share[off] <= 2 / cell).all()
                assert share[on].min() > 0.2
                on_cells = len(on)
    assert on_cells == 4
    assert board(None) == ([], list(range(64)))


def test_labels_are_true_of_the_pictures(data) -> None:
    """By looking: the brightest saturated colour of a picture tells whether an object is there, and where."""
    scenes = data("scenes", videos=2, background=3, cells=6).batch(0)
    count = len(scenes.pixels)
    assert scenes.shows.shape == (count, count)
    assert scenes.cells.shape == (count, 6)
    assert scenes.shows.diagonal().all(), "every picture's own description is true of it"
    nothing = torch.tensor([text.startswith("nothing") for text in scenes.texts])
    for pixels, shown, cells, cell_shows in zip(
        scenes.pixels, scenes.shows, scenes.cells, scenes.cell_shows, strict=True
    ):
        vivid = (pixels.amax(-1).int() - pixels.amin(-1).int() > 110) | (pixels.amin(-1) > 235)
        seen = vivid.float().mean() > 0.01
        assert bool(shown[nothing].any()) == (not seen)
        assert not (shown[nothing].any() and shown[~nothing].any())
        side = pixels.shape[0] // GRID
        for cell, told in zip(cells.tolist(), cell_shows, strict=True):
            part = vivid[cell // GRID * side :, cell % GRID * side :][:side, :side]
            if told[~nothing].any():
                assert torch.equal(told, shown), "a cell on the object has the picture's texts"
                assert seen
            else:
                assert told[nothing].all()
                assert part.float().mean() < 0.2


def test_a_batch_is_a_function_of_its_number(data) -> None:
    first, again = data("scenes", videos=2), data("scenes", videos=2)
    again.batch(3)
    one, other = first.batch(5), again.batch(5)
    assert one.texts == other.texts
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.cells, other.cells)
    assert not torch.equal(one.pixels, first.batch(6).pixels)


def test_held_out_pictures_are_of_the_val_split_and_each_choice_has_one_truth(data) -> None:
    scenes = data("scenes", videos=2, held_out_batches=1)
    batch = scenes.held_out_batch(0)
    assert {film.name[:3] for film in scenes.val.films} == {"val"}
    empty = batch.shows.sum(1) == 0
    for start, end in batch.choices.values():
        assert (batch.shows[~empty, start:end].sum(1) == 1).all()
    assert set(batch.choices) == {"colour", "shape", "place"}


def test_a_split_of_its_own_and_no_more_films_than_there_are(data) -> None:
    with pytest.raises(InstantiationException, match=r"data.videos must be a whole number in .1, 2., got 3"):
        data("scenes", videos=3)
    with pytest.raises(InstantiationException, match=r"data.benchmark.split must be train, got 'val'"):
        data("scenes", videos=2, benchmark={"split": "val"})
