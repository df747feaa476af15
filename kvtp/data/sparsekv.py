"""Videos, questions and how much each picture matters to them: for `module=relevance`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kvtp.benchmark.base import AbstractBenchmark
from kvtp.data.base import AbstractData
from kvtp.errors import check_whole
from kvtp.frames.base import AbstractFrames, ahead
from kvtp.relevance._labels import clip_of
from kvtp.relevance._similarity import asked
from kvtp.types import Frames, Question


class Judged(NamedTuple):
    """A video and questions about it, each with one label per picture."""

    video: str
    pixels: UInt8[Tensor, "T H W 3"]
    texts: tuple[str, ...]
    labels: Float[Tensor, "Q T"]


class Judgements(NamedTuple):
    """Videos of a batch; they may have different numbers of pictures."""

    videos: tuple[Judged, ...]


class SparseKV(AbstractData):
    """Any `benchmark` whose questions have relevance labels (others are left out): SparseKV-QA, or the small world.

    A batch = `videos` drawn at random, of each up to `questions`. `held_out_videos`, drawn by `seed`, are for
    validation alone, with all their questions: no video is on both sides.
    """

    gives = Judgements

    def __init__(
        self,
        benchmark: AbstractBenchmark,
        frames: AbstractFrames,
        videos: int,
        questions: int,
        held_out_videos: int,
        seed: int,
    ) -> None:
        super().__init__(seed)
        check_whole("data.videos", videos, 1)
        check_whole("data.questions", questions, 1)
        self.frames, self.videos, self.questions = frames, videos, questions
        asked_about: dict[str, dict[object, list[Question]]] = defaultdict(lambda: defaultdict(list))
        for question in (benchmark[index] for index in range(len(benchmark))):
            if question.relevance:
                asked_about[question.cluster][question.ref].append(question)
        names = sorted(asked_about)
        check_whole("data.held_out_videos", held_out_videos, 1)
        if len(names) <= held_out_videos:
            raise ValueError(
                f"data.benchmark must have more than data.held_out_videos={held_out_videos} videos with relevance "
                f"labels, it has {len(names)}; hold fewer out, or choose a benchmark with labels"
            )
        out = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))[:held_out_videos]
        held_out = {names[place] for place in out.tolist()}
        # a question about another part of a video is about another clip, but never on the other side
        self.train = [part for name in names if name not in held_out for part in asked_about[name].values()]
        self.val = [part for name in names if name in held_out for part in asked_about[name].values()]

    def make(self, number: int) -> Judgements:
        rng = self.random(number)
        chosen = [self.train[place] for place in rng.integers(len(self.train), size=self.videos).tolist()]
        return self._judged([_some(questions, self.questions, rng) for questions in chosen])

    @property
    def held_out(self) -> int:
        return len(self.val)

    def make_held_out(self, number: int) -> Judgements:
        """One video."""
        return self._judged([self.val[number]])

    def _judged(self, chosen: Sequence[Sequence[Question]]) -> Judgements:
        seen = ahead(self.frames, [questions[0].ref for questions in chosen])
        return Judgements(
            tuple(
                Judged(
                    questions[0].ref.path,
                    frames.pixels,
                    tuple(asked(question) for question in questions),
                    torch.stack([_labels(question, frames) for question in questions]),
                )
                for questions, frames in zip(chosen, seen, strict=True)
            )
        )


def _some(questions: Sequence[Question], count: int, rng: np.random.Generator) -> list[Question]:
    return [questions[place] for place in rng.permutation(len(questions))[:count].tolist()]


def _labels(question: Question, frames: Frames) -> Float[Tensor, " T"]:
    labels = torch.tensor(question.relevance, dtype=torch.float32)
    return labels[clip_of(frames.timestamps, frames.duration, len(labels), question)]
