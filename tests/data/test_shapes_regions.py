"""The truth that pictures with texts about their objects come with."""

import pytest
import torch
from hydra.errors import InstantiationException

from kvtp.benchmark._world import COLOURS, SHAPES
from kvtp.data.region_text import Regions

KNOWN = torch.tensor(list(COLOURS.values()))


def far(pixels: torch.Tensor) -> torch.Tensor:
    """From each of the objects' colours; the background is muted, and passing objects are grey."""
    return (pixels.int()[:, :, None] - KNOWN).square().sum(-1).sqrt()


def vivid(pixels: torch.Tensor) -> torch.Tensor:
    return far(pixels).amin(-1) < 20


def colours(pixels: torch.Tensor) -> set[str]:
    """Those that more than a few pixels have."""
    counts = (far(pixels) < 20).sum((0, 1))
    return {name for name, count in zip(COLOURS, counts.tolist(), strict=True) if count > 80}


def test_boxes_are_those_of_the_objects(data) -> None:
    """By looking: all that is vivid lies in the box, up to what compression smears, and touches its sides."""
    batch = data("shapes_regions", videos=6, beside=0.0).batch(0)
    assert len(batch.phrases) == 12
    for pixels, box in zip(batch.pixels, batch.boxes, strict=True):
        rows, columns = ((vivid(pixels).sum(axis) > 2).nonzero() for axis in (1, 0))
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(pixels)
        torch.testing.assert_close(seen, box, atol=5 / len(pixels), rtol=0)


@pytest.mark.parametrize("beside", [0.0, 1.0])
def test_texts_are_true_of_what_is_seen(data, beside: float) -> None:
    """By colour, of the texts that name nothing else; each picture's own text is true of it."""
    batch = data("shapes_regions", videos=6, beside=beside, questions=1.0).batch(1)
    assert batch.true.diagonal().all()
    asked = 0
    for nth, text in enumerate(batch.phrases):
        named = set(text.rstrip("?").split()) & set(COLOURS)
        if named and not set(text.rstrip("?").split()) & set(SHAPES):
            asked += 1
            assert [named <= colours(pixels) for pixels in batch.pixels] == batch.true[:, nth].tolist()
    assert asked


def test_a_second_object_is_beside_and_not_meant(data) -> None:
    alone, both = (data("shapes_regions", videos=6, beside=share).batch(2) for share in (0.0, 1.0))
    side = len(both.pixels[0])
    changed = 0
    for pixels, before, box in zip(both.pixels, alone.pixels, alone.boxes, strict=True):
        half = slice(0, side // 2) if box[::2].mean() < 0.5 else slice(side // 2, side)
        assert pixels[:, half].equal(before[:, half])
        changed += not pixels.equal(before)
        if not pixels.equal(before):
            assert vivid(pixels).float().mean() > 1.3 * vivid(before).float().mean()
    assert changed > 6
    assert both.boxes.equal(alone.boxes)
    assert both.true.sum() > alone.true.sum()
    assert (both.true | ~alone.true).all(), "what was true is still true"


def test_texts_are_questions_and_descriptions(data) -> None:
    asked, told = (data("shapes_regions", videos=6, questions=share).batch(0).phrases for share in (1.0, 0.0))
    assert all(text.endswith("?") for text in asked)
    assert len({text.split()[1] for text in asked}) > 2
    assert all(text.startswith(("a ", "an ")) for text in told)


def same(one: Regions, other: Regions) -> bool:
    pictures = all(mine.equal(theirs) for mine, theirs in zip(one.pixels, other.pixels, strict=True))
    return pictures and one.phrases == other.phrases and one.boxes.equal(other.boxes) and one.seed == other.seed


def test_a_batch_is_a_function_of_its_number(data) -> None:
    first, again = (data("shapes_regions", videos=2) for _ in range(2))
    again.batch(3)
    again.held_out_batch(0)
    one = first.batch(5)
    assert same(one, again.batch(5))
    assert not same(one, first.batch(6))
    assert one.seed != first.batch(6).seed
    assert same(first.held_out_batch(0), again.held_out_batch(0))


def test_all_held_out_films_are_looked_at(data) -> None:
    regions = data("shapes_regions", videos=2, held_out_videos=3, beside=0.0)
    assert {film.name[:3] for film in regions.val.films} == {"val"}
    assert regions.held_out == 2
    assert [len(regions.held_out_batch(number).phrases) for number in range(2)] == [4, 2]


def test_shares_and_splits_are_checked(data) -> None:
    with pytest.raises(InstantiationException, match=r"data.beside must be in .0, 1., got 2"):
        data("shapes_regions", videos=2, beside=2)
    with pytest.raises(InstantiationException, match=r"data.videos must be a whole number in .1, 6., got 7"):
        data("shapes_regions", videos=7)
