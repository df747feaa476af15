"""What methods cost, from shapes alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from time import perf_counter
from typing import Any

import torch

from kvtp.backbone.base import Size
from kvtp.benchmark.base import AbstractBenchmark
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import Row, labels
from kvtp.errors import Refused
from kvtp.frames.base import AbstractFrames
from kvtp.metric.account import Account
from kvtp.metric.costs import costs
from kvtp.metric.dry import Chance, Deaf, DryBackbone, Film
from kvtp.pipeline import Pipeline
from kvtp.types import Answer, Budget, Frames, Prediction, Prompt, Question, Verdict, VideoRef, VisualTokens

QUESTION = Question("meter", "none", "What happens after the cup is put down?")


class Nothing(AbstractBenchmark):
    """Asks nothing but what it is given."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Question:
        raise IndexError(index)

    def prompt(self, question: Question, frames: Frames) -> Prompt:
        return Prompt(question.text, question.text, (0, len(question.text)), "none")

    def parse(self, reply: str, question: Question) -> Verdict:
        return Verdict("unlabelled", None)

    def summarise(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return {}


class Unseen(AbstractFrames):
    """Looks at nothing."""

    def __call__(self, video: str | VideoRef) -> Frames:
        raise LookupError(f"no video is read here, {video!r} neither")


@dataclass(frozen=True)
class Line:
    """A method at a retention ratio on so many frames. `costs`: as `kvtp.metric.costs` names them, plus
    `tokens/mean_over_layers` (visual ones), `rows/mean_over_layers` (newlines and text, too), and `selection/products`
    where time is taken; None where the method is `refused`, for the reason told."""

    name: str
    retention_ratio: float | None
    frames: int
    costs: dict[str, float] | None
    refused: str = ""


def meter(
    rows: Sequence[Row],
    frames: Sequence[int],
    size: Size,
    text: int,
    reply: int,
    repeats: int = 0,
    film: Film = "alike",
) -> list[Line]:
    """What no backbone can run first, then by frames, by backbone, by row. No weights are read. CommandError for a
    backbone, predictor or scout whose configuration is not there. `repeats`: how often choosing the tokens is timed.
    `film`: what tokens look like (`DryBackbone`)."""
    known: dict[str, tuple[DryBackbone, Account]] = {}
    lines, told = [], []
    for row in [replace(row, name=label) for row, label in zip(rows, labels(rows), strict=True)]:
        stages, account = _stages(row, text, reply, film, known)
        try:
            lines.append((row, Pipeline(benchmark=Nothing(), frames=Unseen(), **stages), account))
        except ValueError as error:  # a cue that this backbone cannot give
            told += [Line(row.name, row.retention_ratio, count, None, str(error)) for count in frames]
    for count in frames:
        pixels = torch.zeros(1, dtype=torch.uint8).expand(count, *size, 3)  # only their size is looked at
        seen = Frames(pixels, torch.arange(count).double(), torch.arange(count), float(count), "none")
        for dry, _ in known.values():
            mine = [line for line in lines if line[1].backbone is dry]
            try:
                tokens = dry.encode(seen, frozenset[str]().union(*(pipeline.cues for _, pipeline, _ in mine)))
            except Refused as error:  # more pictures than it takes
                told += [Line(row.name, row.retention_ratio, count, None, str(error)) for row, *_ in mine]
                continue
            told += [_measure(row, pipeline, account, seen, tokens, repeats) for row, pipeline, account in mine]
    return told


def _stages(
    row: Row, text: int, reply: int, film: Film, known: dict[str, tuple[DryBackbone, Account]]
) -> tuple[dict[str, Any], Account]:
    """Of several rows with one backbone it is one object."""
    key = json.dumps(row.config["backbone"], sort_keys=True)
    if key not in known:
        real = make("backbone", {**row.config["backbone"], "device": "cpu", "device_map": None})
        try:
            known[key] = DryBackbone(real, text, reply, film), Account(real)
        except ValueError as error:
            raise CommandError(str(error)) from error
    dry, account = known[key]
    return {**choosing(row), "backbone": dry}, account


def choosing(row: Row) -> dict[str, Any]:
    """The stages that choose the tokens; scores are drawn at random, and cost what those of the networks would. A
    relevance that runs none is itself."""
    stages = {stage: make(stage, row.config[stage]) for stage in ("scout", "relevance", "budget", "pruner")}
    try:
        _ = stages["relevance"].identity, stages["scout"].identity  # their configurations are there
    except ValueError as error:
        raise CommandError(f"{row.name}: {error}") from error
    relevance = stages["relevance"] if stages["relevance"].reads_tokens else Chance(stages["relevance"])
    return stages | {"relevance": relevance, "scout": Deaf(stages["scout"])}


def networks(row: Row) -> dict[str, str]:
    """Checkpoints of what looks at frames and question beside the backbone, by what it is called."""
    called = {"relevance": "predictor", "scout": "scout"}
    sections = {word: row.config[stage] for stage, word in called.items()}
    return {word: section["checkpoint"] for word, section in sections.items() if "checkpoint" in section}


def _measure(
    row: Row, pipeline: Pipeline, account: Account, frames: Frames, tokens: VisualTokens, repeats: int
) -> Line:
    try:
        if pipeline.pruner.tower is not None:
            tokens = pipeline.backbone.encode_merging(frames, pipeline.pruner.tower)
        answer, spent = pipeline.answer(QUESTION, frames, tokens)
    except Refused as error:
        return Line(row.name, row.retention_ratio, len(frames), None, str(error))
    flops = account.flops(answer, len(frames), frames.size, spent, pipeline.cues)
    asked = Prediction(
        question_id=QUESTION.id,
        method=row.name,
        outcome="unlabelled",
        score=None,
        text="",
        choice=None,
        answer=None,
        groups={},
        cluster="",
        tokens_per_layer=answer.tokens_per_layer,
        timings_ms={},
        flops=flops,
        memory=account.memory(answer),
        told=answer.told,
    )
    told = {key: value for key, value in costs([asked]).items() if not key.startswith("latency/")}
    told = {"tokens/mean_over_layers": _mean(answer), "rows/mean_over_layers": flops["rows"], **told}
    if repeats:
        told["selection/products"] = _products(Choosing.of(pipeline), frames, tokens, repeats)
    return Line(row.name, row.retention_ratio, len(frames), told)


class Choosing(Pipeline):
    """Leaves caches as they are: what a policy does to them is no choice of tokens, and part of the prefill's time."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Choosing":
        return cls(**{field.name: getattr(pipeline, field.name) for field in fields(pipeline)})

    def policy(self, budget: Budget) -> None:
        return None


def _products(pipeline: Pipeline, frames: Frames, tokens: VisualTokens, repeats: int) -> float:
    """Time that choosing the tokens takes (cues inside the LLM, the cut of its caches and a relevance that comes from
    the tokens alone among it), in products of all tokens with a square matrix of their width: median of so many ratios,
    both parts of each measured one after the other, as other work on the machine slows both. Next to 0 where no tokens
    are chosen, as by a cache policy alone."""
    square = torch.randn(tokens.features.shape[1], tokens.features.shape[1])
    ratios = []
    for _ in range(repeats):
        begun = perf_counter()
        _ = tokens.features @ square
        unit = perf_counter() - begun
        pipeline.clock.take()
        pipeline.answer(QUESTION, frames, tokens)
        taken = pipeline.clock.take()  # of scores that are drawn, the draw, which takes microseconds
        ratios.append((taken["relevance"] + taken["prune"]) / 1000 / unit)
    return median(ratios)


def _mean(answer: Answer) -> float:
    visual = answer.tokens_per_layer["visual"]
    return sum(visual) / len(visual)
