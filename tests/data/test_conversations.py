"""What is asked and what is replied, against the benchmark's own rows and films."""

from functools import partial

import pytest
import torch
from hydra.errors import InstantiationException

from kvtp.benchmark._letters import letters
from kvtp.data._describe import LIST


@pytest.fixture
def talks(data):
    """`talks(captions=…)`: batches that hold the pictures themselves."""
    return partial(data, "conversations", states=None)


def test_replies_are_true(talks) -> None:
    """Every prompt is looked up among the questions: its letter, or its option's text, must be the answer there."""
    conversations = talks(size=60)
    batch = conversations.batch(0)
    questions = [conversations.train[index] for index in range(len(conversations.train))]
    told = set()
    for prompt, reply, kind in zip(batch.prompts, batch.replies, batch.kinds, strict=True):
        told.add(kind)
        if kind == "caption":
            assert prompt.text == LIST
            films = [
                ", ".join(f"{e.colour} {e.shape} {e.place}" for e in film.events) for film in conversations.train.films
            ]
            assert reply in films
            continue
        same = [
            question
            for question in questions
            if question.text == prompt.bare and question.groups["kind"] == kind.removeprefix("open_")
        ]
        right = [dict(zip(letters(one.options), one.options, strict=True))[one.answer] for one in same]
        if kind.startswith("open_"):
            assert reply in right
            assert "A." not in prompt.text
        else:
            assert reply in "ABCD"
            line = next(line for line in prompt.text.splitlines() if line.startswith(f"{reply}. "))
            assert line.removeprefix(f"{reply}. ") in right
    kinds = {"colour", "shape", "place", "after", "last"}
    assert told == {"caption"} | kinds | {f"open_{kind}" for kind in kinds}


def test_a_batch_is_a_function_of_its_number(talks) -> None:
    one, other = talks(size=3), talks(size=3)
    other.batch(1)
    first, again = one.batch(4), other.batch(4)
    assert torch.equal(first.seen, again.seen)
    assert first[1:] == again[1:]
    assert first.seed != one.batch(5).seed


def test_retention_is_log_uniform(talks) -> None:
    """Half of the batches lie below the geometric mean."""
    conversations = talks(size=1, retention=[0.1, 0.4])
    drawn = torch.tensor([conversations.batch(number).retention for number in range(60)])
    assert 0.1 <= drawn.min() < 0.12
    assert 0.33 < drawn.max() <= 0.4
    assert 18 <= int((drawn < 0.2).sum()) <= 42


def test_validation_asks_every_film_all_at_every_ratio(talks) -> None:
    conversations = talks(size=1, held_out_retention=[1.0, 0.2])
    batches = [conversations.held_out_batch(number) for number in range(conversations.held_out)]
    assert [batch.retention for batch in batches] == [1.0, 1.0, 0.2, 0.2]
    for batch in batches:
        assert len(set(batch.kinds)) == len(batch.kinds) == len(batch.seen) == 11
    only = talks(size=1, captions=1.0, open_ended=0.0)
    assert only.held_out_batch(0).kinds == ("caption",)


def test_shares_are_shares(talks) -> None:
    with pytest.raises(InstantiationException, match=r"data.open_ended must be in \[0, 0.4\], got 0.5"):
        talks(captions=0.6, open_ended=0.5)
