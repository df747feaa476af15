"""Descriptions are true of what they say and of nothing else."""

import numpy as np
import pytest

from kvtp.backbone._new import new_tokenizer
from kvtp.benchmark._world import COLOURS, PLACES, SHAPES, Event, Settings, film
from kvtp.data._describe import CHOICES, NOTHING, Description, corpus, describe, narrate


def event(colour: str, shape: str, place: str) -> Event:
    return Event(clips=(0,), colour=colour, shape=shape, place=place, offset=(0, 0), drift=(0, 0))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Description(), NOTHING),
        (Description(colour="red"), "a red object"),
        (Description(shape="ring"), "a ring"),
        (Description(place="top left"), "an object at the top left"),
        (Description("blue", "cross", "bottom right"), "a blue cross at the bottom right"),
    ],
)
def test_what_is_told_is_said(told: Description, words: str) -> None:
    assert str(told) == words


def test_true_where_every_word_said_names_the_object() -> None:
    """By reading the sentence: each colour, shape and place in it must be the object's."""
    rng = np.random.default_rng(0)
    events = [event(c, s, p) for c in COLOURS for s in SHAPES for p in PLACES]
    for _ in range(300):
        shown, other = (events[place] for place in rng.integers(len(events), size=2))
        told = describe(shown, 0.3, rng)
        said = [word for word in (*COLOURS, *SHAPES, *PLACES) if word in str(told)]
        assert said
        assert told.true_of(shown)
        assert told.true_of(other) == ({other.colour, other.shape, other.place} >= set(said))
        assert not told.true_of(None)
        assert not Description().true_of(shown)
    assert describe(None, 0.3, rng).true_of(None)


def test_how_often_what_is_told() -> None:
    rng = np.random.default_rng(0)
    counts: dict[tuple[bool, ...], int] = {}
    for _ in range(7000):
        told = describe(event("red", "ring", "top left"), 0.3, rng)
        key = (told.colour is not None, told.shape is not None, told.place is not None)
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 7
    for key, count in counts.items():
        assert abs(count - (700 + 2100 * (key == (False, True, False)))) < 190  # five standard deviations


def test_narration_lists_the_events_in_order() -> None:
    events = film(Settings(clips=16, events=4, stay=1, grey=2, fps=8, side=128), 0, "train", 0).events
    parts = narrate(events).split(", ")
    assert parts == [f"{one.colour} {one.shape} {one.place}" for one in sorted(events, key=lambda one: one.clips)]


def test_every_word_of_the_world_is_one_token() -> None:
    words = new_tokenizer(corpus(), 800)
    for word in (*COLOURS, *SHAPES, "top", "left", "bottom", "right"):
        assert len(words.tokenize(f" {word}")) == 1
    for letter in "ABCD":
        assert words.tokenize(f"{letter}.")[0] == letter
    assert words.decode(words("Grüße, 日本!").input_ids) == "Grüße, 日本!"  # and any other text goes in


def test_choices_exclude_each_other() -> None:
    for shown in (event("red", "ring", "top left"), event("white", "cross", "bottom left")):
        for group in CHOICES.values():
            assert sum(told.true_of(shown) for told in group) == 1


def test_a_vocabulary_holds_all_bytes() -> None:
    with pytest.raises(ValueError, match="vocabulary must be"):
        new_tokenizer(corpus(), 260)
    assert len(new_tokenizer(corpus(), 261)) == 261
