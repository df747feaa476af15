"""What is asked and what is replied, against the benchmark's own rows and films."""

from collections import Counter
from functools import partial

import pytest
import torch
from hydra.errors import InstantiationException

from kvtp.data._describe import LIST


@pytest.fixture
def talks(data):
    """`talks(captions=…)`: batches that hold the pictures themselves."""
    return partial(data, "conversations", states=None)


def test_replies_are_true(talks) -> None:
    """Every question is answered anew from its film's events, as told by the question's words."""
    conversations = talks(size=20)
    batch = conversations.batch(0)
    listed = {talk.about: talk.reply for talk in batch.talks if talk.kind == "caption"}
    told = set()
    for talk in batch.talks:
        told.add(talk.kind)
        events = [tuple(event.split(" ", 2)) for event in listed[talk.about].split(", ")]
        if talk.kind == "caption":
            assert talk.prompt.text == LIST
            films = [[(e.colour, e.shape, e.place) for e in film.events] for film in conversations.train.films]
            assert events in films
            continue
        reply = talk.reply
        if talk.form in ("lettered", "naming"):
            assert reply in "ABCD"
            line = next(line for line in talk.prompt.text.splitlines() if line.startswith(f"{reply}. "))
            reply = line.removeprefix(f"{reply}. ")
        else:
            assert "A." not in talk.prompt.text
        assert reply == answer(talk.prompt.bare, events)
    kinds = {"colour", "shape", "place", "after", "last"}
    assert told == {"caption", "naming"} | kinds | {f"open_{kind}" for kind in kinds}


def answer(question: str, events: list[tuple[str, str, str]]) -> str:
    words = question.rstrip("?").split()
    if question.startswith("Which option is"):
        return " ".join(words[3:])
    if question.startswith("What colour"):
        return next(colour for colour, shape, _ in events if shape == words[-1])
    if question.startswith("What shape"):
        return next(shape for colour, shape, _ in events if colour == words[-2])
    if question.startswith("Where"):
        return next(place for colour, shape, place in events if [colour, shape] == words[-2:])
    names = [event[:2] for event in events]
    return " ".join(names[-1] if "last" in question else names[names.index(tuple(words[-2:])) + 1])


def test_a_batch_is_a_function_of_its_number(talks) -> None:
    one, other = talks(size=3), talks(size=3)
    other.batch(1)
    first, again = one.batch(4), other.batch(4)
    assert torch.equal(first.seen, again.seen)
    assert first[1:] == again[1:]
    assert first.parts != one.batch(5).parts


def test_retention_is_log_uniform(talks) -> None:
    """Half of the batches lie below the geometric mean."""
    conversations = talks(size=1, retention=[0.1, 0.4])
    drawn = torch.tensor([conversations.batch(number).parts.retention for number in range(60)])
    assert 0.1 <= drawn.min() < 0.12
    assert 0.33 < drawn.max() <= 0.4
    assert 18 <= int((drawn < 0.2).sum()) <= 42


def test_validation_asks_every_film_all_at_every_ratio(talks) -> None:
    conversations = talks(size=1, held_out_retention=[1.0, 0.2])
    batches = [conversations.held_out_batch(number) for number in range(conversations.held_out)]
    assert [batch.parts.retention for batch in batches] == [1.0, 1.0, 0.2, 0.2]
    for batch in batches:
        assert len({talk.kind for talk in batch.talks}) == 12
        assert Counter(talk.form for talk in batch.talks) == {
            "captions": 1,
            "open_ended": 5,
            "lettered": 5,
            "naming": 5,
        }
    only = talks(size=1, open_ended=0, lettered=0, naming=0)
    assert [talk.kind for talk in only.held_out_batch(0).talks] == ["caption"]


def test_talks_are_counted(talks) -> None:
    batch = talks(size=3, captions=2, open_ended=0, lettered=4, naming=0).batch(0)
    assert Counter((talk.about, talk.form) for talk in batch.talks) == {
        (about, form): count for about in range(3) for form, count in (("captions", 2), ("lettered", 4))
    }
    with pytest.raises(InstantiationException, match="must be above 0"):
        talks(captions=0, open_ended=0, lettered=0, naming=0)


def test_kinds_are_drawn_as_often_as_they_are_named(talks) -> None:
    batch = talks(size=40, captions=0, open_ended=0, lettered=6, naming=0, kinds=["place", "place", "after"]).batch(0)
    told = Counter(talk.kind for talk in batch.talks)
    assert set(told) == {"place", "after"}
    assert 130 < told["place"] < 190  # 160 of 240 are expected
    with pytest.raises(InstantiationException, match="must be one of colour"):
        talks(kinds=["colours"])


def test_sides_are_those_of_places(talks) -> None:
    conversations = talks(size=6, captions=0, open_ended=2, lettered=2, naming=0, kinds=["side"])
    batch = conversations.batch(0)
    films = {film.name: film for film in conversations.train.films}
    assert len(batch.talks) == 24
    chosen = conversations.random(0).integers(len(conversations.train.films), size=6).tolist()
    for talk in batch.talks:
        film = films[conversations.train.films[chosen[talk.about]].name]
        event = next(event for event in film.events if event.name in talk.prompt.text)
        side = event.place.split()[1]
        if talk.form == "lettered":
            options = dict(line.split(". ") for line in talk.prompt.text.splitlines() if line[1:3] == ". ")
            assert options[talk.reply] == side
            assert set(options.values()) == {"left", "right"}
        else:
            assert talk.reply == side
