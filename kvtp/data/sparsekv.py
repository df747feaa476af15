"""Videos, questions and how much each picture matters to them: for `module=relevance`."""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kvtp.benchmark.base import AbstractBenchmark
from kvtp.command import CommandError
from kvtp.data.base import AbstractData
from kvtp.errors import LoadError, check_whole
from kvtp.frames.base import AbstractFrames, readable
from kvtp.relevance._labels import labels_at
from kvtp.relevance._similarity import asked
from kvtp.types import Question, VideoRef

log = logging.getLogger(__name__)
ATTEMPTS = 10  # batches of the same number, until all their videos can be read


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

    A batch = `videos`, of each up to `questions`; every question comes once in each pass over the data, each pass has
    another order. `held_out_videos`, drawn by `seed`, are for validation alone, with all their questions: no video is
    on both sides. A video that cannot be read is told once, and others take its place.
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
        if (split := getattr(benchmark, "split", None)) == "test":
            raise ValueError(f"data.benchmark.split must not be {split!r}, for methods are compared there; use train")
        self.frames, self.videos, self.questions = frames, videos, questions
        self._pass: tuple[int, list[list[Question]]] | None = None
        self._unreadable: set[VideoRef] = set()
        asked_about: dict[str, dict[object, list[Question]]] = defaultdict(lambda: defaultdict(list))
        told = [question for question in (benchmark[index] for index in range(len(benchmark))) if question.relevance]
        if len(told) < len(benchmark):
            log.warning(
                "%d of %d questions have no relevance labels and are left out",
                len(benchmark) - len(told),
                len(benchmark),
            )
        for question in told:
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
        self._units = sum(ceil(len(part) / questions) for part in self.train)  # of a pass

    @property
    def identity(self) -> str:
        told = [(one.id, asked(one), one.relevance, str(one.ref)) for part in (*self.train, *self.val) for one in part]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def make(self, number: int) -> Judgements:
        first = number * self.videos
        chosen = [self._unit(place) for place in range(first, first + self.videos)]
        for nth in range(1, ATTEMPTS):
            found = self._judged(chosen)
            if len(found) == len(chosen):
                return Judgements(tuple(found))
            # in place of what cannot be read, what stands there in later passes: still a function of the number
            chosen = [
                self._unit(first + place + nth * self._units) if part[0].ref in self._unreadable else part
                for place, part in enumerate(chosen)
            ]
        raise CommandError(
            f"{len(self._unreadable)} videos cannot be read, {min(ref.path for ref in self._unreadable)} first; mend "
            "them, or leave their questions out"
        )

    def _unit(self, place: int) -> list[Question]:
        """Number `place` of the questions about one video that are asked together, counted over all passes."""
        nth, place = divmod(place, self._units)
        if self._pass is None or self._pass[0] != nth:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, nth])))
            mixed = [[part[index] for index in rng.permutation(len(part)).tolist()] for part in self.train]
            units = [
                part[start : start + self.questions] for part in mixed for start in range(0, len(part), self.questions)
            ]
            self._pass = nth, [units[index] for index in rng.permutation(len(units)).tolist()]
        return self._pass[1][place]

    @property
    def held_out(self) -> int:
        return len(self.val)

    def make_held_out(self, number: int) -> Judgements:
        """One video, or none where it cannot be read."""
        return Judgements(tuple(self._judged([self.val[number]])))

    def _judged(self, chosen: Sequence[Sequence[Question]]) -> list[Judged]:
        """Of the videos that can be read."""
        found = []
        for questions, frames in zip(chosen, readable(self.frames, [part[0].ref for part in chosen]), strict=True):
            if isinstance(frames, LoadError):
                if questions[0].ref not in self._unreadable:
                    log.warning("%s is left out of the training: %s", questions[0].ref.path, frames)
                self._unreadable.add(questions[0].ref)
                continue
            labels = [labels_at(frames.timestamps, frames.duration, question) for question in questions]
            texts = tuple(asked(question) for question in questions)
            found.append(Judged(questions[0].ref.path, frames.pixels, texts, torch.stack(labels)))
        return found
