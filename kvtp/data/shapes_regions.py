"""Pictures of SparseKV-Shapes, and what is said or asked about an object in each: for `module=qformer`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from kvtp.benchmark._paint import outline
from kvtp.benchmark._world import Event, Film, question
from kvtp.benchmark.shapes import Shapes
from kvtp.data._describe import Description, describe
from kvtp.data.base import ShapesData
from kvtp.data.moments import moments
from kvtp.data.region_text import Regions
from kvtp.data.scenes import FIRST_HELD_OUT
from kvtp.errors import check_range, check_whole
from kvtp.frames.base import AbstractFrames

# kinds of questions that name an object, and by what
NAMES = {"colour": ("shape",), "shape": ("colour",), "place": ("colour", "shape"), "after": ("colour", "shape")}


@dataclass(frozen=True)
class Moment:
    """A picture, what it shows, and what is told of the first object that it shows."""

    pixels: UInt8[Tensor, "H W 3"]
    shown: tuple[Event, ...]
    text: str
    told: Description
    outline: Bool[np.ndarray, "H W"]


class ShapesRegions(ShapesData):
    """A batch = `videos` films, of each event one picture and one text.

    A share `questions` of the texts are those of the benchmark that name the object; the rest are descriptions, of
    which a share `shape_only` tells the shape alone. A moment of a film shows one object, so that what is coloured is
    what is meant; a share `beside` of the pictures shows a second one, which the text is not true of: their other half
    is that of another film; grey ones passing by are never meant. `frames` samples the films; pictures with an object
    stay in memory, 0.4 MB of a film. All `held_out_videos` of the `held_out_split` are looked at.
    """

    gives = Regions

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        held_out_split: str,
        frames: AbstractFrames,
        videos: int,
        questions: float,
        shape_only: float,
        beside: float,
        seed: int,
    ) -> None:
        super().__init__(benchmark, held_out_videos, seed, held_out_split)
        check_whole("data.videos", videos, 1, len(self.train.films))
        for name, share in {"questions": questions, "shape_only": shape_only, "beside": beside}.items():
            check_range(f"data.{name}", share, 0, 1)
        self.frames, self.videos = frames, videos
        self.questions, self.shape_only, self.beside = questions, shape_only, beside
        self._kept: dict[str, list[tuple[Event, list[tuple[int, UInt8[Tensor, "H W 3"]]]]]] = {}
        self.settings = benchmark.settings

    def make(self, number: int) -> Regions:
        rng = self.random(number)
        chosen = rng.choice(len(self.train.films), self.videos, replace=False).tolist()
        return self._regions(self.train, [self.train.films[film] for film in chosen], rng)

    @property
    def held_out(self) -> int:
        return -(-len(self.val.films) // self.videos)

    def make_held_out(self, number: int) -> Regions:
        films = self.val.films[number * self.videos :][: self.videos]
        return self._regions(self.val, films, self.random(FIRST_HELD_OUT + number))

    def _regions(self, benchmark: Shapes, films: Sequence[Film], rng: np.random.Generator) -> Regions:
        alone: list[Moment] = []
        self._keep(benchmark, films)
        for film in films:
            for event, pictures in self._kept[film.name]:
                tick, pixels = pictures[int(rng.integers(len(pictures)))]
                text, told = self._say(film, event, rng)
                alone.append(Moment(pixels, (event,), text, told, outline(event, tick, self.settings)))
        seen = [self._beside(moment, alone, rng) if rng.random() < self.beside else moment for moment in alone]
        return Regions(
            pixels=tuple(moment.pixels for moment in seen),
            phrases=tuple(moment.text for moment in seen),
            boxes=torch.tensor([_box(moment.outline) for moment in seen], dtype=torch.float32),
            true=torch.tensor([[any(map(text.told.true_of, moment.shown)) for text in seen] for moment in seen]),
            seed=int(rng.integers(2**31)),
        )

    def _keep(self, benchmark: Shapes, films: Sequence[Film]) -> None:
        """Decode what is not known yet: of each event that is seen its pictures, each with how many there were of its
        clip before."""
        new = [film for film in films if film.name not in self._kept]
        for film, (frames, events) in zip(new, moments(benchmark, new, self.frames), strict=True):
            ticks = (frames.indices % self.settings.fps).tolist()
            seen = [
                (
                    event,
                    [(ticks[place], frames.pixels[place].clone()) for place, now in enumerate(events) if now is event],
                )
                for event in film.events
            ]
            self._kept[film.name] = [(event, pictures) for event, pictures in seen if pictures]

    def _say(self, film: Film, event: Event, rng: np.random.Generator) -> tuple[str, Description]:
        """A text about the event, and what it says of it."""
        if rng.random() >= self.questions:
            told = describe(event, self.shape_only, rng)
            return str(told), told
        kind = str(rng.choice(list(NAMES)))
        # of a film in which there is nothing else to ask about
        asked = question(replace(film, events=(event, event)), kind, rng)
        return asked.text, Description(**{name: getattr(event, name) for name in NAMES[kind]})

    def _beside(self, mine: Moment, others: Sequence[Moment], rng: np.random.Generator) -> Moment:
        """With the half of another picture in which the object is on the other side; as it was if there is none."""
        (event,) = mine.shown
        fitting = [
            other for other in others if _side(other.shown[0]) != _side(event) and not mine.told.true_of(other.shown[0])
        ]
        if not fitting:
            return mine
        other = fitting[int(rng.integers(len(fitting)))]
        half = mine.pixels.shape[1] // 2
        left, right = (mine, other) if _side(event) == "left" else (other, mine)
        pixels = torch.cat([left.pixels[:, :half], right.pixels[:, half:]], 1)
        return replace(mine, pixels=pixels, shown=(event, other.shown[0]))


def _side(event: Event) -> str:
    return event.place.split()[1]


def _box(outline: Bool[np.ndarray, "H W"]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, as shares of the picture."""
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(outline.any(axis)) for axis in (1, 0))
    height, width = outline.shape
    return left / width, top / height, (right + 1) / width, (bottom + 1) / height
