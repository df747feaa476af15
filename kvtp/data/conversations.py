"""Videos, prompts and replies: for `module=captioner` and `module=answerer`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kvtp.benchmark._letters import letters
from kvtp.benchmark._prompt import letter_prompt
from kvtp.benchmark._world import Film
from kvtp.benchmark.shapes import Shapes
from kvtp.data._describe import LIST, narrate
from kvtp.data._states import TowerStates
from kvtp.data.base import AbstractData
from kvtp.errors import check_range, check_ratio, check_whole
from kvtp.frames._sampler import AbstractSampler
from kvtp.frames.base import ahead
from kvtp.types import Prompt, Question


class Conversations(NamedTuple):
    """`seen`: pictures, or the frozen tower's states of them. Which part of the tokens the decoder gets is up to
    `retention`, `unevenness` and `seed`. `kinds`: of question (`open_…` without options), or `caption`.
    """

    seen: UInt8[Tensor, "B T H W 3"] | Float[Tensor, "B T P C"]
    prompts: tuple[Prompt, ...]
    replies: tuple[str, ...]
    kinds: tuple[str, ...]
    retention: float
    unevenness: float
    seed: int


class ShapesConversations(AbstractData):
    """A batch = `size` questions of `benchmark` drawn at random; a share `captions` of them gives way to the request to
    list all that is seen, a share `open_ended` is asked without options and answered in words: what is seen is learnt
    sooner than which letter stands for it.

    The decoder gets a random part of each video's tokens, so that a shorter input is nothing new to it, whichever way
    it became shorter: the batch's retention ratio is log-uniform in `retention`, and frames differ in their keep rates
    as told by `unevenness` (see `kvtp.module.answerer.random_part`).

    For validation, `held_out_videos` of the `val` split are asked all their questions and to list, at each of
    `held_out_retention`. `states`: a folder for what the tower makes of the films (fp16: 1 MB per film at 64 values per
    patch; what other towers made of them can be deleted); None = it looks at them every time.
    """

    gives = Conversations

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        frames: AbstractSampler,
        states: str | None,
        size: int,
        captions: float,
        open_ended: float,
        retention: Sequence[float],
        unevenness: float,
        held_out_retention: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__(benchmark, held_out_videos, seed)
        check_whole("data.size", size, 1)
        check_range("data.captions", captions, 0, 1)
        check_range("data.open_ended", open_ended, 0, 1 - captions)
        check_range("data.unevenness", unevenness, 0)
        for ratio in (*retention, *held_out_retention):
            check_ratio(ratio)
        if len(retention) != 2 or retention[0] > retention[1]:
            raise ValueError(f"data.retention must be [lowest, highest], got {list(retention)}")
        self.frames, self.states = frames, states
        self.size, self.unevenness = size, unevenness
        self.shares = {"caption": captions, "open": open_ended, "letter": 1 - captions - open_ended}
        self.retention, self.held_out_retention = retention, held_out_retention

    def prepare_data(self) -> None:
        for benchmark in (self.train, self.val):
            if self.states is not None:
                self._states(benchmark).make([benchmark.path(film) for film in benchmark.films])

    def make(self, number: int) -> Conversations:
        rng = self.random(number)
        chosen = [self.train[index] for index in rng.integers(len(self.train), size=self.size).tolist()]
        forms = rng.choice(list(self.shares), self.size, p=list(self.shares.values())).tolist()
        retention = float(np.exp(rng.uniform(*np.log(self.retention))))
        talks = [self._talk(self.train, *talk) for talk in zip(chosen, forms, strict=True)]
        seen = self._seen(self.train, [self.train.film(question) for question in chosen])
        return self._batch(seen, talks, retention, self.unevenness, int(rng.integers(2**62)))

    @property
    def held_out(self) -> int:
        return len(self.val.films) * len(self.held_out_retention)

    def make_held_out(self, number: int) -> Conversations:
        """All that is asked about one film, at one retention ratio."""
        retention, film = divmod(number, len(self.val.films))
        each = len(self.val) // len(self.val.films)
        asked = [self.val[index] for index in range(film * each, (film + 1) * each)]
        talks = [
            self._talk(self.val, question, form)
            for form, share in self.shares.items()
            for question in (asked[:1] if form == "caption" else asked)
            if share > 0
        ]
        seen = self._seen(self.val, [self.val.films[film]])
        seen = seen.expand(len(talks), *seen.shape[1:])
        return self._batch(seen, talks, self.held_out_retention[retention], 0.0, film)

    def _talk(self, benchmark: Shapes, question: Question, form: str) -> tuple[Prompt, str, str]:
        """Prompt, reply, kind."""
        kind = question.groups["kind"]
        if form == "caption":
            return Prompt(LIST, LIST, (0, len(LIST)), "list"), narrate(benchmark.film(question).events), form
        if form == "open":
            options = question.options or ()
            told = dict(zip(letters(options), options, strict=True))
            return letter_prompt(replace(question, options=None)), told[str(question.answer)], f"open_{kind}"
        return letter_prompt(question), str(question.answer), kind

    def _batch(
        self, seen: Tensor, talks: Sequence[tuple[Prompt, str, str]], retention: float, unevenness: float, seed: int
    ) -> Conversations:
        prompts, replies, kinds = zip(*talks, strict=True)
        return Conversations(seen, prompts, replies, kinds, retention, unevenness, seed)

    def _seen(self, benchmark: Shapes, films: Sequence[Film]) -> Tensor:
        videos = [benchmark.path(film) for film in films]
        if self.states is None:
            return torch.stack([frames.pixels for frames in ahead(self.frames, videos)])
        states = self._states(benchmark)
        return torch.stack([states[video] for video in videos])

    def _states(self, benchmark: Shapes) -> TowerStates:
        backbone = self.trainer.lightning_module.backbone
        return TowerStates(str(self.states), backbone, benchmark, self.frames)
