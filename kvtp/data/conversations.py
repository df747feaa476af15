"""Videos, prompts and replies: for `module=captioner` and `module=answerer`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kvtp.benchmark._letters import letters
from kvtp.benchmark._prompt import letter_prompt
from kvtp.benchmark._world import KINDS, Asked, Film, question, relevance
from kvtp.benchmark.shapes import Shapes
from kvtp.benchmark.shapes import in_words as unlettered
from kvtp.data._describe import LIST, narrate
from kvtp.data._parts import Drawn, Parts
from kvtp.data._states import TowerStates
from kvtp.data.base import ShapesData
from kvtp.errors import check_choice, check_range, check_ratio, check_whole
from kvtp.frames._sampler import AbstractSampler
from kvtp.frames.base import ahead
from kvtp.types import Prompt, Question

SIDE = "side"  # a kind of question
SIDES = ("left", "right")  # the second words of places


class Talk(NamedTuple):
    """`about`: number of the part of a film, in its batch. `form`: captions, open_ended, lettered or naming. `kind`: of
    question (`open_…` without options), `caption` or `naming`."""

    about: int
    prompt: Prompt
    reply: str
    form: str
    kind: str


class Conversations(NamedTuple):
    """`seen`: films as pictures, or the frozen tower's states of them. `parts`: what the decoder gets of them."""

    seen: UInt8[Tensor, "B T H W 3"] | Float[Tensor, "B T P C"]
    talks: tuple[Talk, ...]
    parts: Parts


class ShapesTalks(ShapesData):
    """Talks about SparseKV-Shapes. `size` films per batch, drawn at random; `forms`: how many talks of each form there
    are about a film; `kinds`: of its questions."""

    gives = Conversations

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        frames: AbstractSampler,
        states: str | None,
        size: int,
        forms: Mapping[str, int],
        kinds: Sequence[str],
        seed: int,
    ) -> None:
        super().__init__(benchmark, held_out_videos, seed)
        check_whole("data.size", size, 1)
        for name, count in forms.items():
            check_whole(f"data.{name}", count, 0)
        if not any(forms.values()):
            raise ValueError(f"one of {', '.join(f'data.{form}' for form in forms)} must be above 0")
        for kind in kinds:
            check_choice("data.kinds", kind, (*KINDS, SIDE))
        if not kinds:
            raise ValueError(f"data.kinds must be some of {', '.join((*KINDS, SIDE))}, got none")
        self.forms, self.kinds = forms, tuple(kinds)
        self.frames, self.states, self.size = frames, states, size

    def prepare_data(self) -> None:
        for benchmark in (self.train, self.val):
            if self.states is not None:
                self._states(benchmark).make([benchmark.path(film) for film in benchmark.films])

    def draw(self, rng: np.random.Generator) -> list[Film]:
        """The films of a batch."""
        return [self.train.films[index] for index in rng.integers(len(self.train.films), size=self.size).tolist()]

    def asked(self, place: int) -> list[Question]:
        """All questions about a held-out film."""
        each = len(self.val) // len(self.val.films)
        return [self.val[index] for index in range(place * each, (place + 1) * each)]

    def any_question(self, film: Film, rng: np.random.Generator) -> Question:
        kind = str(rng.choice(self.kinds))
        asked = _side(film, rng) if kind == SIDE else question(film, kind, rng)
        labels = tuple(relevance(asked, self.train.clips))
        return Question(film.name, film.name, asked.text, asked.options, asked.answer, {"kind": kind}, relevance=labels)

    def seen(self, benchmark: Shapes, films: Sequence[Film]) -> Tensor:
        videos = [benchmark.path(film) for film in films]
        if self.states is None:
            return torch.stack([frames.pixels for frames in ahead(self.frames, videos)])
        states = self._states(benchmark)
        return torch.stack([states[video] for video in videos])

    def _states(self, benchmark: Shapes) -> TowerStates:
        backbone = self.trainer.lightning_module.backbone
        return TowerStates(str(self.states), backbone, benchmark, self.frames)


class ShapesConversations(ShapesTalks):
    """A batch = `size` films drawn at random. About each there are `captions` requests to list all that is seen,
    `open_ended` random questions without options, to be answered in words, `lettered` ones with options, and `naming`
    ones that ask which letter stands for an option: what is seen is learnt sooner than which letter stands for it.
    `kinds` of question are drawn evenly; one that is harder to learn may stand there several times. `side` is for
    training alone: left or right. (Of a place's two words the second is learnt as what follows the first, so that a
    letter, which has to stand for both, is chosen by the first.)

    The decoder gets a random part of each film's tokens, so that a shorter input is nothing new to it, whichever way
    it became shorter: the batch's retention ratio is log-uniform in `retention`, and frames differ in their keep rates
    as told by `unevenness` (see `kvtp.data._parts.random_part`).

    For validation, the benchmark's own questions about `held_out_videos` of the `val` split are asked, with and without
    options, at each of `held_out_retention`. `states`: a folder for what the tower makes of the films (fp16: 1 MB per
    film at 64 values per patch; what other towers made of them can be deleted); None = it looks at them every time.
    """

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        frames: AbstractSampler,
        states: str | None,
        size: int,
        captions: int,
        open_ended: int,
        lettered: int,
        naming: int,
        kinds: Sequence[str],
        retention: Sequence[float],
        unevenness: float,
        held_out_retention: Sequence[float],
        seed: int,
    ) -> None:
        forms = {"captions": captions, "open_ended": open_ended, "lettered": lettered, "naming": naming}
        super().__init__(benchmark, held_out_videos, frames, states, size, forms, kinds, seed)
        check_range("data.unevenness", unevenness, 0)
        for ratio in (*retention, *held_out_retention):
            check_ratio(ratio)
        if len(retention) != 2 or retention[0] > retention[1]:
            raise ValueError(f"data.retention must be [lowest, highest], got {list(retention)}")
        self.unevenness, self.retention, self.held_out_retention = unevenness, retention, held_out_retention

    def make(self, number: int) -> Conversations:
        rng = self.random(number)
        films = self.draw(rng)
        talks = [talk for about, film in enumerate(films) for talk in self._talks(about, film, rng)]
        retention = float(np.exp(rng.uniform(*np.log(self.retention))))
        seen = self.seen(self.train, films)
        return Conversations(seen, tuple(talks), Drawn(retention, self.unevenness, int(rng.integers(2**62))))

    @property
    def held_out(self) -> int:
        return len(self.val.films) * len(self.held_out_retention)

    def make_held_out(self, number: int) -> Conversations:
        """All that is asked about one film, at one retention ratio."""
        nth, place = divmod(number, len(self.val.films))
        film = self.val.films[place]
        asked = self.asked(place)
        talks = [_listing(0, film)] if self.forms["captions"] else []
        talks += [in_words(0, question) for question in asked if self.forms["open_ended"]]
        talks += [by_letter(0, question) for question in asked if self.forms["lettered"]]
        rng = self.random(place)
        talks += [_naming(0, question, rng) for question in asked if self.forms["naming"]]
        parts = Drawn(self.held_out_retention[nth], 0.0, place)
        return Conversations(self.seen(self.val, [film]), tuple(talks), parts)

    def _talks(self, about: int, film: Film, rng: np.random.Generator) -> Iterator[Talk]:
        for _ in range(self.forms["captions"]):
            yield _listing(about, film)
        for _ in range(self.forms["open_ended"]):
            yield in_words(about, self.any_question(film, rng))
        for _ in range(self.forms["lettered"]):
            yield by_letter(about, self.any_question(film, rng))
        for _ in range(self.forms["naming"]):
            yield _naming(about, self.any_question(film, rng), rng)


def _side(film: Film, rng: np.random.Generator) -> Asked:
    event = film.events[rng.integers(len(film.events))]
    options = tuple(str(side) for side in rng.permutation(SIDES))
    answer = letters(options)[options.index(event.place.split()[1])]
    return Asked(f"Is the {event.name} on the left or on the right?", options, answer, event.clips, ())


def _listing(about: int, film: Film) -> Talk:
    return Talk(about, Prompt(LIST, LIST, (0, len(LIST)), "list"), narrate(film.events), "captions", "caption")


def in_words(about: int, asked: Question) -> Talk:
    plain = unlettered(asked)
    return Talk(about, letter_prompt(plain), str(plain.answer), "open_ended", f"open_{asked.groups['kind']}")


def by_letter(about: int, asked: Question) -> Talk:
    return Talk(about, letter_prompt(asked), str(asked.answer), "lettered", asked.groups["kind"])


def _naming(about: int, asked: Question, rng: np.random.Generator) -> Talk:
    """Which letter stands for one of the options: nothing has to be seen."""
    options = asked.options or ()
    letter, meant = list(zip(letters(options), options, strict=True))[rng.integers(len(options))]
    text = f"Which option is {meant}?"
    return Talk(about, letter_prompt(replace(asked, text=text)), letter, "naming", "naming")
