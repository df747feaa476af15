"""What each sampled picture of a film shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from kvtp.backbone._pool import pool_patches
from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.benchmark._world import Event, Film
from kvtp.benchmark.shapes import Shapes
from kvtp.data._describe import ATTRIBUTES
from kvtp.frames.base import AbstractFrames, ahead
from kvtp.types import Frames


def moments(
    benchmark: Shapes, films: Sequence[Film], frames: AbstractFrames
) -> Iterator[tuple[Frames, list[Event | None]]]:
    """Of each film its pictures, and the event that each picture shows; None = background only."""
    for film, seen in zip(films, ahead(frames, [benchmark.path(film) for film in films]), strict=True):
        at = {clip: event for event in film.events for clip in event.clips}
        yield seen, [at.get(int(time)) for time in seen.timestamps.tolist()]  # clips last a second


@dataclass(frozen=True)
class Pictures:
    """All tokens of pictures that show an object, side by side, and of each attribute which value is shown."""

    tokens: Float[Tensor, "M d"]
    labels: Mapping[str, Int64[Tensor, " M"]]

    @classmethod
    @torch.no_grad()
    def of(cls, benchmark: Shapes, frames: AbstractFrames, backbone: LlavaOnevision) -> "Pictures":
        """What the backbone's tower makes of a split, pooled as its tokens are, before the projector."""
        tokens, shown = [], []
        seen_events = moments(benchmark, benchmark.films, frames)
        for seen, events in tqdm(seen_events, "pictures", len(benchmark.films), unit="film", disable=None):
            there = [place for place, event in enumerate(events) if event]
            if not there:  # sampled so thinly that no picture shows an object
                continue
            tokens.append(pool_patches(backbone.look(seen.pixels[there]), backbone.pooling).flatten(1).float().cpu())
            shown += [events[place] for place in there]
        labels = {
            name: torch.tensor([values.index(getattr(event, name)) for event in shown])
            for name, values in ATTRIBUTES.items()
        }
        return cls(torch.cat(tokens), labels)
