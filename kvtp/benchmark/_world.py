"""SparseKV-Shapes: what happens in a video, and what is asked about it. Numbers only; `_paint` draws it.

A video is a row of clips of one second. In a few of them one object is shown, an event: a coloured shape in one corner.
No two events of a video share a colour or a shape, so every question has one answer. Everything else is background and
grey objects, which no question is about. A video is a function of (seed, split, number) and the settings alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvtp.benchmark._letters import letters
from kvtp.errors import check_whole

COLOURS = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 220),
    "yellow": (240, 220, 20),
    "purple": (160, 40, 200),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "cross", "diamond", "ring")
PLACES = ("top left", "top right", "bottom left", "bottom right")
KINDS = ("colour", "shape", "place", "after", "last")
SPLITS = ("train", "val", "test")
KEY, CONTEXT = 5.0, 3.0  # relevance labels, on SparseKV-QA's scale 0 … 5


@dataclass(frozen=True)
class Settings:
    """The world's knobs. `clips` of one second; in each of `events` an object is shown for `stay` of them, the rest is
    background.

    Fewer and shorter events in more clips = sparser key frames. `side` [pixels] of the square picture, a multiple of
    16. `grey` objects pass by in every clip.
    """

    clips: int
    events: int
    stay: int
    grey: int
    fps: int
    side: int

    def __post_init__(self) -> None:
        check_whole("benchmark.clips", self.clips, 3, 10_000)
        check_whole("benchmark.stay", self.stay, 1, (self.clips + 1) // 2 - 1)  # two events, a clip between them
        most = min(len(COLOURS), len(SHAPES), (self.clips + 1) // (self.stay + 1))
        check_whole("benchmark.events", self.events, 2, most)
        check_whole("benchmark.grey", self.grey, 0, 20)
        check_whole("benchmark.fps", self.fps, 1, 60)
        if self.side % 16 or not 64 <= self.side <= 1024:
            raise ValueError(f"side must be a multiple of 16 in [64, 1024], got {self.side}")


@dataclass(frozen=True)
class Event:
    """An object shown during `clips`, in each with the same movement: `offset`, `drift` [1/64 of the side, and of the
    side per second]."""

    clips: tuple[int, ...]
    colour: str
    shape: str
    place: str
    offset: tuple[int, int]
    drift: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Film:
    """One video: its events in order of time, and the seed of its background."""

    name: str
    events: tuple[Event, ...]
    background: int


def film(settings: Settings, seed: int, split: str, number: int) -> Film:
    """Video `number` of a split; the same on every machine, whatever was made before it."""
    rng = _generator(seed, split, number, 0)
    starts = _apart(rng, settings.clips, settings.events, settings.stay)
    colours = rng.permutation(list(COLOURS))
    shapes = rng.permutation(SHAPES)
    events = [
        Event(
            clips=tuple(range(start, start + settings.stay)),
            colour=str(colours[nth]),
            shape=str(shapes[nth]),
            place=str(rng.choice(PLACES)),
            offset=(int(rng.integers(-3, 4)), int(rng.integers(-3, 4))),
            drift=(int(rng.integers(-3, 4)), int(rng.integers(-3, 4))),
        )
        for nth, start in enumerate(starts)
    ]
    return Film(f"{split}{number:05d}", tuple(events), int(rng.integers(2**31)))


@dataclass(frozen=True)
class Asked:
    """`answer`: a letter. It is seen in the `key` clips; the question's other objects in the `context` clips."""

    text: str
    options: tuple[str, ...]
    answer: str
    key: tuple[int, ...]
    context: tuple[int, ...]


def question(shown: Film, kind: str, rng: np.random.Generator) -> Asked:
    """A random question of this kind about a video, with random wrong options in random order."""
    text, answer, others, key, context = _ask(kind, shown.events, rng)
    options = [answer, *rng.permutation(others)[:3].tolist()]
    order = rng.permutation(len(options))
    options = [options[place] for place in order]
    return Asked(text, tuple(options), letters(options)[options.index(answer)], key, context)


def relevance(asked: Asked, clips: int) -> list[float]:
    """One label per clip."""
    labels = [0.0] * clips
    for clip in asked.context:
        labels[clip] = CONTEXT
    for clip in asked.key:
        labels[clip] = KEY
    return labels


def questions(settings: Settings, seed: int, split: str, number: int) -> list[dict[str, Any]]:
    """One question of each kind about a video, as rows of a question file."""
    shown = film(settings, seed, split, number)
    rng = _generator(seed, split, number, 1)
    rows = []
    for kind in KINDS:
        asked = question(shown, kind, rng)
        rows.append(
            {
                "id": f"{shown.name}-{kind}",
                "video": f"{shown.name}.mp4",
                "question": asked.text,
                "options": list(asked.options),
                "answer": asked.answer,
                "split": split,
                "groups": {"kind": kind},
                "cluster": shown.name,
                "relevance": relevance(asked, settings.clips),
            }
        )
    return rows


def _ask(
    kind: str, events: Sequence[Event], rng: np.random.Generator
) -> tuple[str, str, list[str], tuple[int, ...], tuple[int, ...]]:
    """Question, answer, wrong options to draw from, key clips, context clips."""
    event = events[int(rng.integers(len(events)))]
    if kind == "colour":
        return f"What colour is the {event.shape}?", event.colour, _but(COLOURS, event.colour), event.clips, ()
    if kind == "shape":
        return f"What shape is the {event.colour} object?", event.shape, _but(SHAPES, event.shape), event.clips, ()
    if kind == "place":
        return f"Where is the {event.name}?", event.place, _but(PLACES, event.place), event.clips, ()
    if kind == "last":
        wrong = [other.name for other in events[:-1]] + _absent(events, rng)
        clips = tuple(clip for other in events[:-1] for clip in other.clips)
        return "Which object comes last?", events[-1].name, wrong, events[-1].clips, clips
    nth = int(rng.integers(len(events) - 1))
    before, after = events[nth], events[nth + 1]
    wrong = [other.name for other in events if other not in (before, after)] + _absent(events, rng)
    return f"What comes right after the {before.name}?", after.name, wrong, after.clips, before.clips


def _but(values: Sequence[str] | dict[str, Any], one: str) -> list[str]:
    return [value for value in values if value != one]


def _absent(events: Sequence[Event], rng: np.random.Generator) -> list[str]:
    """Objects that the video does not show, of colours and shapes that it does not show, each used once.

    So the options of a question share nothing with each other, nor with what it names: a model that knows that no two
    events share a colour or a shape can still rule out none of them without looking.
    """
    colours = [colour for colour in rng.permutation(list(COLOURS)) if colour not in {event.colour for event in events}]
    shapes = [shape for shape in rng.permutation(SHAPES) if shape not in {event.shape for event in events}]
    return [f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)]


def _apart(rng: np.random.Generator, clips: int, events: int, stay: int) -> list[int]:
    """First clips of the events, ascending, a clip or more between two, all such choices equally likely."""
    picked = np.sort(rng.choice(clips - events * stay + 1, events, replace=False))
    return (picked + stay * np.arange(events)).tolist()


def _generator(seed: int, split: str, number: int, part: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), number, part])))
