"""SparseKV-Shapes in words: what a description says, and of which moments it is true."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvtp.benchmark._prompt import letter_prompt
from kvtp.benchmark._world import COLOURS, PLACES, SHAPES, Event, Settings, film, questions
from kvtp.types import Question

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {"colour": tuple(COLOURS), "shape": SHAPES, "place": PLACES}
NOTHING = "nothing but the background"
LIST = "List the objects in the order in which they appear, each with its place."

FILMS_READ = 100  # by the tokenizer: enough for every word to occur often


@dataclass(frozen=True)
class Description:
    """Some of an object's attributes; None = not told. All None = no object is there."""

    colour: str | None = None
    shape: str | None = None
    place: str | None = None

    def __str__(self) -> str:
        if (self.colour, self.shape, self.place) == (None, None, None):
            return NOTHING
        words = " ".join(word for word in (self.colour, self.shape or "object") if word)
        article = "an" if words[0] in "aeiou" else "a"
        return f"{article} {words}" + (f" at the {self.place}" if self.place else "")

    def true_of(self, event: Event | None) -> bool:
        """Whether it describes a moment in which the event's object is shown (None: no object)."""
        told = [(name, getattr(self, name)) for name in ATTRIBUTES if getattr(self, name)]
        if event is None or not told:
            return event is None and not told
        return all(getattr(event, name) == value for name, value in told)


# what a held-out picture is classified by
CHOICES = {name: tuple(Description(**{name: value}) for value in values) for name, values in ATTRIBUTES.items()}


def describe(event: Event | None, shape_only: float, rng: np.random.Generator) -> Description:
    """A true description. A share `shape_only` tells the shape alone; the rest tells at least one attribute, each
    choice of attributes equally likely."""
    if event is None:
        return Description()
    told = 2 if rng.random() < shape_only else int(rng.integers(1, 8))
    return Description(
        colour=event.colour if told & 1 else None,
        shape=event.shape if told & 2 else None,
        place=event.place if told & 4 else None,
    )


def narrate(events: Sequence[Event]) -> str:
    """The reply to `LIST`."""
    return ", ".join(f"{event.name} {event.place}" for event in events)


def corpus() -> Iterator[str]:
    """All that is said in this world: every description, and prompts and replies of some films."""
    for colour in (None, *COLOURS):
        for shape in (None, *SHAPES):
            for place in (None, *PLACES):
                yield str(Description(colour, shape, place))
    yield LIST
    settings = Settings(clips=16, events=4, stay=1, grey=0, fps=1, side=64)
    for number in range(FILMS_READ):
        yield narrate(film(settings, 0, "train", number).events)
        for row in questions(settings, 0, "train", number):
            asked = Question(row["id"], row["video"], row["question"], tuple(row["options"]))
            yield letter_prompt(asked).text
