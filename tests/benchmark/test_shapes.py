"""SparseKV-Shapes: the same everywhere, true to its labels, and not to be answered without looking."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from toys import CONF, toy_frames

from kvtp.benchmark._paint import paint, write_film
from kvtp.benchmark._world import COLOURS, KINDS, Settings, film, questions
from kvtp.benchmark.shapes import Shapes, _name

SMALL = Settings(clips=8, events=3, stay=1, grey=2, fps=4, side=64)
USUAL = Settings(clips=16, events=4, stay=1, grey=2, fps=8, side=128)


def shapes(root: Path, **changed) -> Shapes:
    usual = OmegaConf.load(CONF / "benchmark" / "shapes.yaml")
    small = {"clips": 8, "events": 3, "fps": 4, "side": 64, "videos": 4, "workers": 1}
    return instantiate(OmegaConf.merge(usual, small, {"root": str(root)}, changed), _convert_="all")


def words(settings: Settings, seed: int, split: str, videos: int) -> list[dict]:
    return [row for number in range(videos) for row in questions(settings, seed, split, number)]


def test_what_is_asked_is_the_same_on_every_machine() -> None:
    """A digest taken once; numpy promises PCG64's bits, and the drawing of integers, permutations and choices from
    them has not changed since 1.18. If it ever does, shipped checkpoints and published numbers have to be remade."""
    told = json.dumps(words(USUAL, 0, "test", 50), sort_keys=True).encode()
    assert hashlib.sha256(told).hexdigest()[:16] == "028060cb000df6ae"


def test_what_is_painted_is_the_same_on_every_machine() -> None:
    """Integers only: the digest holds wherever numpy runs."""
    digest = hashlib.sha256()
    for picture in paint(film(SMALL, 0, "test", 1), SMALL):
        digest.update(picture.tobytes())
    assert digest.hexdigest()[:16] == "b0ca3d15aa60d499"


def test_splits_share_no_video_and_seeds_no_film() -> None:
    films = [film(USUAL, seed, split, number) for seed in (0, 1) for split in ("train", "val") for number in range(200)]
    assert len({(one.events, one.background) for one in films}) == len(films)


def test_events_never_touch_nor_share_a_look() -> None:
    for number in range(300):
        events = film(USUAL, 0, "train", number).events
        clips = [clip for event in events for clip in event.clips]
        assert len(clips) == 4
        assert min(b - a for a, b in pairwise(clips)) >= 2
        assert 0 <= clips[0] <= clips[-1] < 16
        assert len({event.colour for event in events}) == len({event.shape for event in events}) == 4
    where = Counter(event.clips for number in range(2000) for event in film(USUAL, 0, "train", number).events)
    assert len(where) == 16
    assert max(where.values()) < 1.6 * min(where.values()), "every clip may be one"


def answer_of(row: dict, events) -> str:
    """From the list of events and the question's words alone."""
    text = row["question"]
    named = [event for event in events if event.shape in text or event.colour in text]
    match row["groups"]["kind"]:
        case "colour":
            return named[0].colour
        case "shape":
            return named[0].shape
        case "place":
            return next(event for event in events if event.name in text).place
        case "after":
            nth = next(nth for nth, event in enumerate(events) if event.name in text)
            return events[nth + 1].name
    return events[-1].name


def test_longer_events_leave_a_clip_between_them() -> None:
    """Three of four clips each in sixteen: the first may begin at 0 and the last end with the film."""
    settings = replace(USUAL, events=3, stay=4)
    starts, ends = set(), set()
    for number in range(300):
        clips = [event.clips for event in film(settings, 0, "train", number).events]
        assert all(mine == tuple(range(mine[0], mine[0] + 4)) for mine in clips)
        assert all(later[0] - earlier[-1] >= 2 for earlier, later in pairwise(clips))
        starts.add(clips[0][0])
        ends.add(clips[-1][-1])
    assert starts == {0, 1, 2}
    assert ends == {13, 14, 15}


@pytest.mark.parametrize(
    "settings", [USUAL, Settings(20, 2, 1, 0, 8, 128), Settings(20, 6, 1, 0, 8, 128), Settings(20, 4, 3, 0, 8, 128)]
)
def test_answers_are_true_and_the_key_clips_show_them(settings: Settings) -> None:
    for number in range(60):
        events = film(settings, 0, "test", number).events
        for row in questions(settings, 0, "test", number):
            answer = row["options"]["ABCD".index(row["answer"])]
            assert answer == answer_of(row, events)
            key = tuple(clip for clip, label in enumerate(row["relevance"]) if label == 5)
            event = next(event for event in events if event.clips == key)
            assert answer in (event.colour, event.shape, event.place, event.name)
            assert len(set(row["options"])) == 4


def test_options_rule_nothing_out_without_looking() -> None:
    """No option shares a colour or a shape with another, nor with the object that the question names."""
    for row in words(USUAL, 0, "train", 300):
        if row["groups"]["kind"] in ("after", "last"):
            names = [*row["options"], *([row["question"][:-1].split("after the ")[1]] if "after" in row["id"] else [])]
            assert len({name.split()[0] for name in names}) == len({name.split()[1] for name in names}) == len(names)


def test_letters_and_answers_are_balanced() -> None:
    """χ² over 4 letters, and over the places; 0.1 % level (3 degrees of freedom: 16.27)."""
    rows = words(USUAL, 0, "train", 600)
    for counts in (
        Counter(row["answer"] for row in rows),
        Counter(row["options"]["ABCD".index(row["answer"])] for row in rows if row["groups"]["kind"] == "place"),
    ):
        expected = sum(counts.values()) / 4
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < 16.27
    assert Counter(row["groups"]["kind"] for row in rows) == dict.fromkeys(KINDS, 600)


@pytest.mark.parametrize("stay", [1, 2])
def test_an_object_is_where_and_when_it_is_said_to_be(stay: int) -> None:
    """Found again by its colour in the painted pictures; nothing else in the film comes near that colour."""
    settings = Settings(clips=8, events=3, stay=stay, grey=2, fps=4, side=64)
    for number in range(6):
        shown = film(settings, 0, "val", number)
        pictures = np.stack(list(paint(shown, settings))).astype(int)
        for event in shown.events:
            near = np.abs(pictures - COLOURS[event.colour]).sum(-1) == 0
            seen = near.any((1, 2))
            first = 4 * event.clips[0]
            assert seen.nonzero()[0].tolist() == list(range(first, first + 4 * stay))
            _, rows, columns = near.nonzero()
            vertical, horizontal = event.place.split()
            assert (rows.mean() < 32) == (vertical == "top")
            assert (columns.mean() < 32) == (horizontal == "left")
            assert near[first].sum() > 16 * 16 / 3, "spans several tokens of 8×8 of the small picture"


def test_decoding_loses_little(tmp_path: Path) -> None:
    """H.264 at 4:2:0 is lossy: what comes back is near what was painted, and equal every time."""
    shown = film(SMALL, 0, "test", 0)
    made = set()
    for _ in range(12):
        write_film(tmp_path / "one.mp4", shown, SMALL)
        made.add((tmp_path / "one.mp4").read_bytes())
    assert len(made) == 1
    with av.open(str(tmp_path / "one.mp4")) as container:
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)
    painted = np.stack(list(paint(shown, SMALL))).astype(int)
    assert back.shape == painted.shape
    assert np.abs(back - painted).mean() < 6


def test_workers_and_interruptions_change_nothing(tmp_path: Path) -> None:
    one, two = shapes(tmp_path / "one", workers=1), shapes(tmp_path / "two", workers=2)
    assert [one[n].text for n in range(len(one))] == [two[n].text for n in range(len(two))]
    assert len(one) == 4 * len(KINDS)
    films = sorted((tmp_path / "one").rglob("*.mp4"))
    assert [path.read_bytes() for path in films] == [
        path.read_bytes() for path in sorted((tmp_path / "two").rglob("*.mp4"))
    ]
    kept, lost = films[0].stat().st_mtime_ns, films[2].read_bytes()
    films[2].unlink()
    shapes(tmp_path / "one")
    assert films[2].read_bytes() == lost
    assert films[0].stat().st_mtime_ns == kept, "what is there is not made again"


def test_more_videos_keep_the_first_ones(tmp_path: Path) -> None:
    few, many = shapes(tmp_path, videos=2), shapes(tmp_path, videos=3)
    assert [many[n] for n in range(len(few))] == [few[n] for n in range(len(few))]
    assert len({one.cluster for one in (many[n] for n in range(len(many)))}) == 3


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"events": 7}, r"benchmark.events must be a whole number in \[2, 4\], got 7"),
        ({"events": 4, "stay": 2}, r"benchmark.events must be a whole number in \[2, 3\], got 4"),
        ({"stay": 4}, r"benchmark.stay must be a whole number in \[1, 3\], got 4"),
        ({"clips": 2}, r"benchmark.clips must be a whole number in \[3, 10000\], got 2"),
        ({"side": 100}, r"side must be a multiple of 16 in \[64, 1024\], got 100"),
        ({"split": "tset"}, "benchmark.split must be one of train, val, test, got 'tset'; nearest: test"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changed: dict, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        shapes(tmp_path, **changed)
    assert not list(tmp_path.iterdir())


def test_other_code_paints_another_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What films show is decided in two files; a change of either must not meet the films of before."""
    before = shapes(tmp_path, videos=1).videos_identity
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"changed" if path.name == "_world.py" else path.name.encode())
    after = _name(SMALL, 0)
    assert after.rpartition("_")[0] == before.rpartition("_")[0]
    assert after != before


def test_torn_films_are_swept(tmp_path: Path) -> None:
    shapes(tmp_path, videos=1)
    (film_made,) = tmp_path.rglob("*.mp4")
    torn = film_made.with_suffix(".77.new")
    torn.write_bytes(b"half")
    shapes(tmp_path, videos=2)
    assert not torn.exists()
    assert len(list(tmp_path.rglob("*.mp4"))) == 2


def test_the_same_questions_in_words(tmp_path: Path) -> None:
    """Without options, the right one's text is the answer, and is scored as such."""
    lettered, plain = shapes(tmp_path), shapes(tmp_path, options=False)
    assert len(plain) == len(lettered) == 20
    for one, other in zip(lettered, plain, strict=True):
        right = one.options["ABCD".index(one.answer)]
        assert replace(one, options=None, answer=right) == other
        prompt = plain.prompt(other, toy_frames([0.0], 1.0))
        assert prompt.choices == ()
        assert "A." not in prompt.text
        assert plain.parse(right.upper(), other).outcome == "correct"
        wrong = next(option for option in one.options if option != right)
        assert plain.parse(wrong, other).outcome == "wrong"
    assert not plain.other("val", 2).options
