"""What the predictor learns from: labels in time, and no video on both sides."""

from dataclasses import replace

import pytest
import torch
from hydra.errors import InstantiationException

from kvtp.command import CommandError
from kvtp.errors import LoadError
from kvtp.frames.base import AbstractFrames


def test_labels_are_those_of_the_clip_that_a_picture_shows(data) -> None:
    """Six clips of a second, two pictures of each."""
    kept = data("sparsekv", videos=3, questions=5)
    batch = kept.batch(0)
    assert len(batch.videos) == 3
    known = {question.ref.path: {} for questions in kept.train for question in questions}
    for questions in kept.train:
        for question in questions:
            known[question.ref.path][question.text] = question.relevance
    for video in batch.videos:
        assert len(video.texts) == 5
        assert video.labels.shape == (5, 12)
        for text, labels in zip(video.texts, video.labels, strict=True):
            assert labels.tolist() == [known[video.video][text][clip] for clip in range(6) for _ in range(2)]


def test_no_video_is_on_both_sides(data) -> None:
    kept = data("sparsekv", held_out_videos=2)
    train, val = ({question.cluster for questions in side for question in questions} for side in (kept.train, kept.val))
    assert len(train) == 4
    assert len(val) == 2
    assert not train & val
    assert kept.held_out == 2
    assert {kept.make_held_out(number).videos[0].video for number in range(2)} == {
        questions[0].ref.path for questions in kept.val
    }
    assert all(len(kept.make_held_out(number).videos[0].texts) == 5 for number in range(2))


def test_a_batch_is_a_function_of_its_number(data) -> None:
    one, again, other = (data("sparsekv", videos=2, questions=3) for _ in range(3))
    first = one.batch(4)
    other.batch(0)
    for kept in (again, other):
        for video, same in zip(first.videos, kept.batch(4).videos, strict=True):
            assert video.texts == same.texts
            assert video.pixels.equal(same.pixels)
            assert video.labels.equal(same.labels)
    assert one.batch(5).videos[0].texts != first.videos[0].texts


def test_other_seeds_hold_other_videos_out(data) -> None:
    sides = {tuple(questions[0].cluster for questions in data("sparsekv", seed=seed).val) for seed in range(6)}
    assert len(sides) > 1


def test_there_must_be_videos_to_learn_from(data) -> None:
    with pytest.raises(Exception, match="it has 6; hold fewer out"):
        data("sparsekv", held_out_videos=6)


def test_pictures_of_a_video_are_in_time(data) -> None:
    video = data("sparsekv").batch(0).videos[0]
    assert video.pixels.dtype == torch.uint8
    assert len(video.pixels) == 12


def test_every_question_comes_once_in_a_pass(data) -> None:
    """Four videos of five questions, two at a time: twelve groups, three to a batch."""
    kept = data("sparsekv", videos=3, questions=2)
    orders = []
    for nth in range(2):
        batches = [kept.batch(4 * nth + place) for place in range(4)]
        asked = [(video.video, text) for batch in batches for video in batch.videos for text in video.texts]
        assert len(set(asked)) == len(asked) == 20
        orders.append(asked)
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def unreadable(kept, questions) -> None:
    """From here on the frames of this video cannot be read."""
    broken, read = questions[0].ref, kept.frames

    class Frames(AbstractFrames):
        def __call__(self, video):
            if video == broken:
                raise LoadError(f"{broken.path}: torn")
            return read(video)

    kept.frames = Frames()


def test_others_take_the_place_of_a_video_that_cannot_be_read(data, caplog) -> None:
    """Of four videos one: 20 batches of two have none of it, are full, and are told of by their number alone."""
    kept, again = (data("sparsekv", videos=2, questions=5) for _ in range(2))
    lost = kept.train[1]
    for one in (kept, again):
        unreadable(one, lost)
    batches = [kept.batch(number) for number in range(20)]
    shown = {video.video for batch in batches for video in batch.videos}
    assert shown == {part[0].ref.path for part in kept.train if part is not lost}
    assert all(len(batch.videos) == 2 for batch in batches)
    assert caplog.text.count("torn") == 1, "told once"
    assert [video.texts for video in again.batch(7).videos] == [video.texts for video in batches[7].videos]
    held = kept.val[0]
    unreadable(kept, held)
    assert [len(kept.make_held_out(number).videos) for number in range(2)] == [0, 1]


def test_where_nothing_can_be_read_it_ends(data) -> None:
    kept = data("sparsekv", videos=1)
    for part in kept.train:
        unreadable(kept, part)
    with pytest.raises(CommandError, match=r"4 videos cannot be read, .* first; mend them"):
        kept.batch(0)


def test_nothing_is_learnt_from_the_test_split(data) -> None:
    with pytest.raises(InstantiationException, match="split must not be 'test'"):
        data("sparsekv", benchmark={"split": "test"})


def test_other_labels_are_other_data(data) -> None:
    one, same, other = (data("sparsekv") for _ in range(3))
    first = other.train[0][0]
    other.train[0][0] = replace(first, relevance=(*first.relevance[:-1], 4.0))
    assert one.identity == same.identity != other.identity
