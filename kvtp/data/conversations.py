"""Videos, prompts and replies: for `module=captioner` and `module=answerer`."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kvtp.benchmark._prompt import letter_prompt
from kvtp.benchmark.shapes import Shapes
from kvtp.data._describe import LIST, narrate
from kvtp.data._states import TowerStates
from kvtp.data.base import AbstractData
from kvtp.errors import check_range, check_ratio, check_whole
from kvtp.frames._sampler import AbstractSampler
from kvtp.frames.base import ahead
from kvtp.types import Prompt


class Conversations(NamedTuple):
    """`seen`: pictures, or the frozen tower's states of them. Which part of the tokens the decoder gets is up to
    `retention`, `unevenness` and `seed`. `kinds`: of question, or `caption`.
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
    list all that is seen.

    The decoder gets a random part of each video's tokens, so that a shorter input is nothing new to it, whichever way
    it became shorter: the batch's retention ratio is log-uniform in `retention`, and frames differ in their keep rates
    as told by `unevenness` (see `kvtp.module.answerer.random_part`).

    For validation the first `held_out` questions about `held_out_videos` of the `val` split are asked (or to list), at
    each of `held_out_retention`. `states`: a folder for
    what the tower makes of the films (0.8 MB per film and 64 values per patch); None = it looks at them every time.
    """

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        frames: AbstractSampler,
        states: str | None,
        size: int,
        captions: float,
        retention: Sequence[float],
        unevenness: float,
        held_out: int,
        held_out_retention: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__(seed)
        check_whole("data.size", size, 1)
        val = benchmark.other("val", held_out_videos)
        check_whole("data.held_out", held_out, 1, len(val))
        check_range("data.captions", captions, 0, 1)
        check_range("data.unevenness", unevenness, 0)
        for ratio in (*retention, *held_out_retention):
            check_ratio(ratio)
        if len(retention) != 2 or retention[0] > retention[1]:
            raise ValueError(f"data.retention must be [lowest, highest], got {list(retention)}")
        self.train, self.val, self.frames, self.states = benchmark, val, frames, states
        self.size, self.captions, self.unevenness = size, captions, unevenness
        self.retention, self.asked, self.held_out_retention = retention, held_out, held_out_retention

    def prepare_data(self) -> None:
        for benchmark in (self.train, self.val):
            if self.states is not None:
                self._states(benchmark).make([benchmark.path(film) for film in benchmark.films])

    def batch(self, number: int) -> Conversations:
        rng = self.random(number)
        chosen = rng.integers(len(self.train), size=self.size).tolist()
        listed = (rng.random(self.size) < self.captions).tolist()
        retention = float(np.exp(rng.uniform(*np.log(self.retention))))
        return self._talk(self.train, chosen, listed, retention, self.unevenness, int(rng.integers(2**62)))

    def held_out(self) -> Sequence[Conversations]:
        return self._held_out

    @cached_property
    def _held_out(self) -> list[Conversations]:
        each = len(self.val) // len(self.val.films)
        starts = range(0, self.asked, each)  # the questions of one film: its states are read once
        batches = []
        for retention in self.held_out_retention:
            for start in starts:
                chosen = list(range(start, min(start + each, self.asked)))
                listed = [self.captions == 1] * len(chosen)
                batches.append(self._talk(self.val, chosen, listed, retention, 0.0, start))
        return batches

    def _talk(
        self,
        benchmark: Shapes,
        chosen: Sequence[int],
        listed: Sequence[bool],
        retention: float,
        unevenness: float,
        seed: int,
    ) -> Conversations:
        prompts, replies, kinds, videos = [], [], [], []
        for index, listing in zip(chosen, listed, strict=True):
            question = benchmark[index]
            film = benchmark.film(question)
            videos.append(benchmark.path(film))
            prompts.append(Prompt(LIST, LIST, (0, len(LIST)), "list") if listing else letter_prompt(question))
            replies.append(narrate(film.events) if listing else str(question.answer))
            kinds.append("caption" if listing else question.groups["kind"])
        seen = self._seen(benchmark, videos)
        return Conversations(seen, tuple(prompts), tuple(replies), tuple(kinds), retention, unevenness, seed)

    def _seen(self, benchmark: Shapes, videos: Sequence[str]) -> Tensor:
        if self.states is None:
            return torch.stack([frames.pixels for frames in ahead(self.frames, videos)])
        states = self._states(benchmark)
        return torch.stack([states[video] for video in videos])

    def _states(self, benchmark: Shapes) -> TowerStates:
        backbone = self.trainer.lightning_module.backbone
        return TowerStates(str(self.states), backbone, benchmark, self.frames)
