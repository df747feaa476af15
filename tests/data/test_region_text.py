"""Visual Genome's files, a few of them: pairs, boxes, and what happens to pictures that are missing or torn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from kvtp.command import CONF, CommandError
from kvtp.data.region_text import RegionText

IMAGES = 12


def draw(number: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A grey picture with two red regions of known places; sizes differ from picture to picture."""
    width, height = 40 + number, 60 - number
    pixels = np.full((height, width, 3), 128, np.uint8)
    regions = []
    for nth, (x, y, across, down) in enumerate([(5, 10, 8, 20), (25, 4, 100, 6)]):  # the second reaches too far
        pixels[y : y + down, x : x + across] = (250, 0, 0)
        told = {"x": x, "y": y, "width": across, "height": down, "image_id": number, "region_id": 10 * number + nth}
        regions.append({**told, "phrase": f"a red box number {nth} of {number} "})
    too_short = {"x": 0, "y": 0, "width": 3, "height": 3, "phrase": "red box", "image_id": number, "region_id": 7}
    empty = {**regions[0], "width": 0, "phrase": "nothing at all there"}
    return pixels, [*regions, too_short, empty]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    told = []
    for folder in ("VG_100K", "VG_100K_2"):
        (tmp_path / folder).mkdir()
    for number in range(1, IMAGES + 1):
        pixels, regions = draw(number)
        Image.fromarray(pixels).save(tmp_path / ("VG_100K", "VG_100K_2")[number % 2] / f"{number}.jpg", quality=95)
        told.append({"id": number, "regions": regions})
    told.append({"id": 99, "regions": [{**too_short(), "phrase": "two words"}]})
    (tmp_path / "region_descriptions.json").write_text(json.dumps(told))
    return tmp_path


def too_short() -> dict[str, Any]:
    return draw(1)[1][2]


def region_text(root: Path, **changed: Any) -> RegionText:
    config = OmegaConf.load(CONF / "data" / "region_text.yaml")
    small = {"root": str(root), "size": 3, "held_out_images": 2, "seed": 0, "workers": 2}
    return instantiate(OmegaConf.merge(config, small, changed), _convert_="all")


def image(phrase: str) -> int:
    return int(phrase.split()[-1])


def test_phrases_are_about_the_boxes(root: Path) -> None:
    """By looking: within the box the picture is red, around it grey."""
    data = region_text(root)
    for number in range(6):
        batch = data.batch(number)
        assert len(batch.phrases) == 3
        for pixels, phrase, box in zip(batch.pixels, batch.phrases, batch.boxes, strict=True):
            height, width = pixels.shape[:2]
            assert (height, width) == (60 - image(phrase), 40 + image(phrase)), "the picture that it is about"
            left, top, right, bottom = (box * box.new_tensor([width, height, width, height])).round().int().tolist()
            assert pixels[top:bottom, left:right].float().mean((0, 1))[0] > 220
            assert pixels[top:bottom, left:right].float().mean((0, 1))[1] < 40
            assert (left, top, bottom - top) in ((5, 10, 20), (25, 4, 6))
            assert right == (13 if left == 5 else width), "what reaches beyond the picture ends with it"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-20, -10, 50, 40), (0, 0, 0.3, 0.375)),
        ((90, 70, 50, 40), (0.9, 0.875, 1, 1)),
        ((-20, 100, 10, 10), (0, 79 / 80, 0.01, 1)),
    ],
)
def test_boxes_end_with_the_picture(tmp_path: Path, box: tuple[int, ...], expected: tuple[float, ...]) -> None:
    """Cut off, not shifted; of what lies outside a pixel at the rim is left."""
    for folder in ("VG_100K", "VG_100K_2"):
        (tmp_path / folder).mkdir()
    keys = ("x", "y", "width", "height")
    told = []
    for number in range(4):
        Image.new("RGB", (100, 80)).save(tmp_path / "VG_100K" / f"{number}.jpg")
        told.append({"id": number, "regions": [{**dict(zip(keys, box, strict=True)), "phrase": "one two three"}]})
    (tmp_path / "region_descriptions.json").write_text(json.dumps(told))
    for found in region_text(tmp_path, size=2, held_out_images=1).batch(0).boxes.tolist():
        assert found == pytest.approx(expected)


def test_phrases_have_three_words_and_a_region(root: Path) -> None:
    data = region_text(root)
    assert len(data._phrases) == 2 * IMAGES
    assert not any("nothing" in phrase or phrase != phrase.strip() for phrase in data._phrases)
    assert len(region_text(root, min_words=2)._phrases) == 3 * IMAGES


def test_every_picture_comes_once_in_a_pass_and_no_held_out_one(root: Path) -> None:
    """Ten pictures, three to a batch: three batches, one picture left over, another one each time."""
    data = region_text(root)
    passes = [
        [image(p) for number in range(3 * nth, 3 * nth + 3) for p in data.batch(number).phrases] for nth in range(4)
    ]
    held_out = {image(phrase) for phrase in data.held_out_batch(0).phrases}
    assert data.held_out == 1
    assert len(held_out) == 2
    for seen in passes:
        assert len(set(seen)) == 9
        assert not set(seen) & held_out
    assert len({tuple(seen) for seen in passes}) == 4
    assert len({frozenset(seen) for seen in passes}) > 1
    said = {phrase for number in range(30) for phrase in data.batch(number).phrases}
    assert len(said) == 20, "in time all phrases"


def test_a_batch_is_a_function_of_its_number(root: Path) -> None:
    one, other = region_text(root), region_text(root)
    other.batch(7)
    first, again = one.batch(4), other.batch(4)
    assert first.phrases == again.phrases
    assert first.seed == again.seed != one.batch(5).seed
    assert all(mine.equal(theirs) for mine, theirs in zip(first.pixels, again.pixels, strict=True))
    assert region_text(root, seed=1).batch(4).phrases != first.phrases


def test_the_same_phrase_is_true_of_both(root: Path) -> None:
    told = json.loads((root / "region_descriptions.json").read_text())
    for picture in told:
        for region in picture["regions"]:
            region["phrase"] = "The sky is  blue" if picture["id"] % 2 else "the sky is blue"
    (root / "region_descriptions.json").write_text(json.dumps(told))
    assert region_text(root).batch(0).true.all()


def test_only_what_is_true_by_the_files_is_taken_for_true(root: Path) -> None:
    assert region_text(root).batch(0).true.int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_crop_is_the_region(root: Path) -> None:
    batch = region_text(root, crop=True).batch(0)
    for pixels, box in zip(batch.pixels, batch.boxes, strict=True):
        assert pixels.float().mean((0, 1))[0] > 220
        assert box.tolist() == [0, 0, 1, 1]


def test_others_take_the_place_of_torn_pictures(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Batches stay full and functions of their number; each torn file is told once."""
    data, again = region_text(root), region_text(root)
    lost = {image(phrase) for phrase in data.batch(0).phrases[:2]}
    for number in lost:
        path = data._paths[number]
        path.write_bytes(path.read_bytes()[:200])
    seen = [[image(phrase) for phrase in data.batch(number).phrases] for number in range(12)]
    assert all(len(set(batch)) == 3 and not set(batch) & lost for batch in seen)
    assert [image(phrase) for phrase in again.batch(5).phrases] == seen[5]
    assert sum("is left out of the training" in record.message for record in caplog.records if record.args) >= 2
    told = [record.getMessage() for record in caplog.records]
    assert len([one for one in told if str(data._paths[min(lost)]) in one]) <= 2, "once by each of the two"


def test_held_out_batches_leave_torn_pictures_out(root: Path) -> None:
    data = region_text(root)
    for place in data.val.tolist():
        data._paths[data._ids[place]].write_bytes(b"no picture")
    assert data.held_out_batch(0).boxes.shape == (0, 4)


def test_where_too_few_can_be_read_it_ends(root: Path) -> None:
    data = region_text(root)
    for path in data._paths.values():
        path.write_bytes(b"no picture")
    with pytest.raises(CommandError, match=r"10 pictures cannot be read, .* first; unpack them again"):
        data.batch(0)


def test_missing_pictures_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = region_text(root).identity
    (root / "VG_100K" / "2.jpg").unlink()
    data = region_text(root)
    assert "1 pictures of region_descriptions.json are in neither VG_100K nor VG_100K_2" in caplog.text
    assert data.identity != before, "other pictures are other data"
    assert 2 not in data._ids


def test_missing_files_are_named(root: Path, tmp_path: Path) -> None:
    (root / "VG_100K_2").rename(root / "elsewhere")
    with pytest.raises(Exception, match=r"there is no .*VG_100K_2; data.root must hold Visual Genome's"):
        region_text(root)


def test_too_few_pictures_to_hold_any_out(root: Path) -> None:
    with pytest.raises(Exception, match=r"has 12 pictures with phrases of 3 words or more, .* \(13\)"):
        region_text(root, held_out_images=10)
