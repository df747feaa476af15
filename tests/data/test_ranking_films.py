"""Ranking over a benchmark: the labels themselves are perfect, their opposite is the worst, and one case by hand."""

from typing import Any

import pytest
from toys import component

from kvtp.command import CommandError
from kvtp.errors import LoadError
from kvtp.frames.base import AbstractFrames
from kvtp.ranking import Ranked, rank, summary
from kvtp.relevance.base import AbstractRelevance


@pytest.fixture
def world(data) -> tuple[Any, Any]:
    """Six films of six clips, two of which matter; two pictures per clip."""
    scenes = data("scenes", videos=1)
    return scenes.train, scenes.frames


def ranked(world: tuple[Any, Any], relevance: AbstractRelevance) -> list[Ranked]:
    return rank(*world, relevance, 0.2, 2)


def test_the_labels_are_perfect_and_their_opposite_is_the_worst(world) -> None:
    best = ranked(world, component("relevance", "oracle"))
    assert len(best) == 30
    for one in best:
        assert one.recall == 1
        assert one.ndcg == pytest.approx(1)
        assert one.divergence == pytest.approx(0, abs=1e-6)
    worst = ranked(world, component("relevance", "oracle_inverted"))
    for one, other in zip(best, worst, strict=True):
        assert other.question.id == one.question.id
        assert other.recall == 0
        assert other.ndcg < 0.7
        assert other.divergence > 1


def test_where_all_frames_are_alike_the_first_ones_count(world) -> None:
    """Two of twelve pictures: those of the first clip."""
    for one in ranked(world, component("relevance", "uniform")):
        assert one.recall == (one.question.relevance.index(5.0) == 0)


def test_summary_by_hand(world) -> None:
    found = ranked(world, component("relevance", "uniform"))
    told = summary(found, 2)
    hits = [one.question.relevance[0] == 5.0 for one in found]
    assert told["questions"] == 30
    assert told["recall"] == pytest.approx(100 * sum(hits) / 30)
    low, high = told["recall_interval"]
    assert low <= told["recall"] <= high
    assert set(told["recall_by_kind"]) == {"colour", "shape", "place", "after", "last"}


def test_videos_that_cannot_be_read_are_left_out_and_told(world, caplog) -> None:
    benchmark, frames = world
    lost = benchmark[0].ref

    class Torn(AbstractFrames):
        def __call__(self, video):
            if video == lost:
                raise LoadError(f"{lost.path}: torn")
            return frames(video)

    found = rank(benchmark, Torn(), component("relevance", "oracle"), 0.2, 2)
    assert len(found) == 25
    assert "torn" in caplog.text
    assert "5 questions are left out" in caplog.text


def test_a_backbone_is_not_there(world, random_checkpoints) -> None:
    siglip = component("relevance", "siglip", checkpoint=str(random_checkpoints / "tiny_siglip"), tower="backbone")
    with pytest.raises(CommandError, match=r"relevance\.tower=own"):
        ranked(world, siglip)
