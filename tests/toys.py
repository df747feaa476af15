"""A small world for tests: tokens with every cue, budgets, and components from their YAML."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kvtp.benchmark.base import AbstractBenchmark
from kvtp.frames.base import AbstractFrames
from kvtp.types import Budget, Cues, Frames, Prompt, Question, Verdict, VisualTokens

CONF = Path(__file__).resolve().parent.parent / "conf"
WHERE = "Where is the red ring?"
LONG = "What comes right after the red square that the blue circle came after, and where is it in the picture?"


def options(group: str) -> list[str]:
    """The option files of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def component(group: str, option: str, *, retention_ratio: float = 0.3, **changed: Any) -> Any:
    """What a run would build from conf/<group>/<option>.yaml, with some of its values changed."""
    chosen = OmegaConf.merge(OmegaConf.load(CONF / group / f"{option}.yaml"), changed)
    parent = OmegaConf.create({"retention_ratio": retention_ratio, "seed": 0, group: chosen})
    return instantiate(parent[group], _convert_="all")


@contextmanager
def unchecked() -> Iterator[None]:
    """As a run has it: without the type checks that the tests add, which would be the first to refuse a value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


def toy_tokens(
    per_frame: Sequence[int],
    grid: tuple[int, int],
    *,
    width: int = 8,
    seed: int = 0,
    layer: int = 0,
    features: torch.Tensor | None = None,
    **cues: torch.Tensor,
) -> VisualTokens:
    """The first `per_frame[t]` cells of each frame's grid, random features, every cue present (or as given)."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    def attention(*shape: int) -> torch.Tensor:
        return normal(*shape).softmax(-1)

    frames, count = len(per_frame), sum(per_frame)
    tower = cues["tower_states"].shape[1] if "tower_states" in cues else 6
    place = torch.cat([torch.arange(n) for n in per_frame])
    given = Cues(
        probe_attention=attention(count),
        received_attention=attention(count),
        cls_attention=attention(count),
        cls_attention_heads=attention(4, count),
        tower_keys=normal(count, 4),
        tower_keys_full=normal(count, tower),
        tower_states=normal(count, tower),
        frame_feature=normal(frames, tower),
        question_feature=normal(width),
        text_features=normal(5, width),
        scout=attention(count),
        scout_patches=attention(frames, 9),
        question_attention=attention(4, 5, count),
        question_attention_plain=attention(4, 5, count),
        last_attention=attention(4, count),
    )
    return VisualTokens(
        features=normal(count, width) if features is None else features,
        frame=torch.arange(frames).repeat_interleave(torch.tensor(per_frame)),
        row=place // grid[1],
        column=place % grid[1],
        frames=frames,
        grid=grid,
        timestamps=torch.arange(frames, dtype=torch.float64),
        position=torch.arange(count),
        original=torch.arange(count),
        layer=layer,
        depth=28,
        history=(count,),
        cues=Cues(**{cue.name: cues.get(cue.name, getattr(given, cue.name)) for cue in fields(Cues)}),
    )


def toy_budget(per_frame: Sequence[int], tokens: VisualTokens, rate: Sequence[float] | None = None) -> Budget:
    """A budget as given, with the retention ratio that it comes to."""
    granted = torch.tensor(per_frame)
    ratio = max(sum(per_frame), 1) / len(tokens)
    return Budget(granted, ratio, None if rate is None else torch.tensor(rate, dtype=torch.float64))


def toy_frames(timestamps: Sequence[float], duration: float) -> Frames:
    """Black pictures at the given times [s]."""
    count = len(timestamps)
    pixels = torch.zeros(count, 4, 4, 3, dtype=torch.uint8)
    return Frames(pixels, torch.tensor(timestamps, dtype=torch.float64), torch.arange(count), duration, "toy")


def toy_question(**known: Any) -> Question:
    """A question about nothing in particular."""
    return Question(**({"id": "q", "video": "toy.mp4", "text": "What happens?"} | known))


class ToyFilm(AbstractFrames):
    """The same pictures of noise for every video, one a second."""

    def __init__(self, pictures: int, height: int = 64, width: int = 96) -> None:
        random = torch.Generator().manual_seed(5)
        self.pixels = torch.randint(0, 256, (pictures, height, width, 3), generator=random, dtype=torch.uint8)

    def __call__(self, video: Any) -> Frames:
        count = len(self.pixels)
        times = torch.arange(count, dtype=torch.float64)
        return Frames(self.pixels, times, torch.arange(count), duration=float(count), reader="none")


class ToyBenchmark(AbstractBenchmark):
    """One question, whose text is the prompt."""

    parser = "none"

    def __init__(self, question: Question, choices: tuple[str, ...] = ()) -> None:
        self.question, self.choices = question, choices

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Question:
        return self.question

    def prompt(self, question: Question, frames: Frames) -> Prompt:
        return Prompt(question.text, question.text, (0, len(question.text)), "plain", self.choices)

    def parse(self, reply: str, question: Question) -> Verdict:
        return Verdict("unlabelled", None)

    def summarise(self, predictions: Any) -> dict[str, Any]:
        return {}


def noise_frames() -> Frames:
    """Five wide pictures of noise, a second apart."""
    pixels = torch.randint(0, 256, (5, 90, 160, 3), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    return Frames(pixels, torch.arange(5, dtype=torch.float64), torch.arange(5), duration=5.0, reader="none")
