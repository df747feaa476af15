"""Uniform and oracle by hand."""

from dataclasses import replace

import pytest
import torch
from toys import component, toy_frames, toy_question, toy_tokens

from kvtp.types import VideoRef


def oracle(times: list[float], duration: float, labels: tuple[float, ...] | None, video: str | VideoRef) -> list[float]:
    stamps = torch.tensor(times, dtype=torch.float64)
    tokens = replace(toy_tokens([4] * len(times), (2, 2)), timestamps=stamps)
    question = toy_question(relevance=labels, video=video)
    return component("relevance", "oracle")(toy_frames(times, duration), tokens, question).tolist()


def test_uniform_is_zero() -> None:
    tokens = toy_tokens([4] * 3, (2, 2))
    score = component("relevance", "uniform")(toy_frames([0, 1, 2], 3), tokens, toy_question())
    assert score.tolist() == [0, 0, 0]


def test_a_frame_has_the_label_of_its_clip() -> None:
    assert oracle([0, 2.4, 2.5, 5, 7.6, 9.9], 10, (1.0, 2.0, 3.0, 4.0), "v.mp4") == [1, 1, 2, 3, 4, 4]


def test_inverted_it_ranks_the_other_way_round() -> None:
    tokens = replace(toy_tokens([4] * 3, (2, 2)), timestamps=torch.tensor([0.0, 4.0, 8.0], dtype=torch.float64))
    inverted = component("relevance", "oracle_inverted")
    score = inverted(toy_frames([0, 4, 8], 10), tokens, toy_question(relevance=(5.0, 0.0, 3.0)))
    assert score.tolist() == [-5, 0, -3]


def test_times_past_the_end_belong_to_the_last_clip() -> None:
    assert oracle([10, 10.2], 10, (1.0, 2.0), "v.mp4") == [2, 2]


def test_clips_divide_the_segment() -> None:
    video = VideoRef("v.mp4", start=4, end=8)
    assert oracle([4, 5.9, 6, 7.9, 8], 100, (1.0, 2.0), video) == [1, 1, 2, 2, 2]
    assert oracle([4, 6.9, 7, 9.9], 10, (1.0, 2.0), VideoRef("v.mp4", start=4)) == [1, 1, 2, 2]
    assert oracle([0, 1.9, 2], 10, (1.0, 2.0), VideoRef("v.mp4", end=4)) == [1, 1, 2]


@pytest.mark.parametrize("labels", [None, ()])
def test_no_labels_no_oracle(labels: tuple[float, ...] | None) -> None:
    with pytest.raises(ValueError, match="choose a benchmark with relevance labels"):
        oracle([0, 1], 2, labels, "v.mp4")


def test_a_segment_has_a_length() -> None:
    with pytest.raises(ValueError, match="must lie after its start"):
        oracle([4], 10, (1.0,), VideoRef("v.mp4", start=4, end=4))
