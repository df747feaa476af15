"""What methods cost in time: real runs of random weights in the true shapes, on the device at hand."""

import gc
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from time import perf_counter

import torch

from kvtp.backbone._random import RandomHost, with_random_weights
from kvtp.backbone.base import Size
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import Row, labels
from kvtp.errors import Refused
from kvtp.frames.base import AbstractFrames
from kvtp.metric.flops import cache_bytes
from kvtp.metric.latency import on_cuda, synchronise
from kvtp.metric.memory import peak, reset_peak, too_little
from kvtp.metric.meter import QUESTION, Line, Nothing, choosing, networks
from kvtp.metric.speed import Round, Timing, speed, timing
from kvtp.pipeline import Pipeline
from kvtp.progress import Steps
from kvtp.types import Answer, Frames, VideoRef

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """What is run. `device`: cpu | cuda. Pictures of `size`, prompts of `text` tokens, replies of `reply`; `rounds`
    count, the `warm_ups` before them do not."""

    device: str
    size: Size
    text: int
    reply: int
    warm_ups: int
    rounds: int


class Noise(AbstractFrames):
    """The same random pictures for every video."""

    def __init__(self, count: int, size: Size) -> None:
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=random)
        self.seen = Frames(pixels, torch.arange(count).double(), torch.arange(count), float(count), "none")

    def __call__(self, video: str | VideoRef) -> Frames:
        return self.seen


@dataclass
class Turn:
    """One line's rounds. `refused`: why there are none."""

    row: Row
    pipeline: Pipeline | None
    refused: str = ""
    rounds: list[Round] = field(default_factory=list)
    answer: Answer | None = None
    cached: int = 0  # bytes of keys and values when decoding starts

    @property
    def timing(self) -> Timing | None:
        return None if self.answer is None or self.refused else timing(self.rounds, self.answer, self.cached)


def time_rows(rows: Sequence[Row], frames: Sequence[int], trial: Trial, every: float) -> list[Line]:
    """By frames, by backbone, by row; beside the unpruned model, which is added where no row is it. `costs` are those
    of `kvtp.metric.speed`. Lines of a backbone and number of frames take turns, so that whatever slows the machine
    slows all of them. Predictors of relevance and scouts are not run. `every` [s] between lines of progress."""
    groups = beside_unpruned(rows)
    total = sum(map(len, groups)) * len(frames) * (trial.warm_ups + trial.rounds)
    lines: list[Line] = []
    with closing(Steps(total, "round", every)) as progress, torch.inference_mode():
        for group in groups:
            lines += _time(group, frames, trial, progress)
            _free()
    return sorted(lines, key=lambda line: list(frames).index(line.frames))


def beside_unpruned(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of each backbone, one of which prunes nothing, under names that tell them apart."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[json.dumps(row.config["backbone"], sort_keys=True)].append(row)
    for group in groups.values():
        if all(row.retention_ratio is not None for row in group):
            group.insert(0, group[0].unpruned)
    names = iter(labels([row for group in groups.values() for row in group]))
    return [[replace(row, name=next(names) + _untimed(row)) for row in group] for group in groups.values()]


def _untimed(row: Row) -> str:
    """What a line's name says of networks that are not run."""
    return f" (without its {' and its '.join(absent)})" if (absent := networks(row)) else ""


def _time(rows: Sequence[Row], frames: Sequence[int], trial: Trial, progress: Steps) -> list[Line]:
    """Of one backbone."""
    described = make("backbone", {**rows[0].config["backbone"], "device": trial.device})
    host = with_random_weights(described, trial.text, trial.reply)
    unfit = _load(host)
    lines = []
    for count in frames:
        pictures = Noise(count, trial.size)
        turns = [_turn(row, host, pictures, unfit) for row in rows]
        for _ in range(trial.warm_ups):
            for turn in _standing(turns):
                _run(turn, host)
                progress.step(f"{count} frames, {turn.row.name}, warm-up")
        while waiting := [turn for turn in _standing(turns) if len(turn.rounds) < trial.rounds]:
            # in another order each time: a line shall not always follow the same one
            first = min(len(turn.rounds) for turn in waiting) % len(waiting)
            for turn in waiting[first:] + waiting[:first]:
                if found := _run(turn, host):
                    turn.rounds.append(found)
                    progress.step(f"{count} frames, {turn.row.name}")
        full = next(turn.timing for turn in turns if turn.row.retention_ratio is None)
        for turn in turns:
            mine = turn.timing
            costs = None if mine is None else speed(mine, full)
            lines.append(Line(turn.row.name, turn.row.retention_ratio, count, costs, turn.refused))
    return lines


def _load(host: RandomHost) -> str:
    """Why the weights cannot be there; empty where they are."""
    begun, unfit = perf_counter(), ""
    try:
        host.load()
    except RuntimeError as error:
        if not too_little(error):
            raise
        unfit = f"the weights need more memory than {host.home} has ({_told(error)}); choose a smaller backbone"
    except ValueError as error:  # several GPUs are asked for, and there is none
        raise CommandError(str(error)) from error
    if unfit:
        _free()
        return unfit
    synchronise()
    held = sum(weight.nbytes for weight in host.model.parameters()) / 2**30
    log.info("%.3g GiB of random weights on %s in %.1f s", held, host.home, perf_counter() - begun)
    return ""


def _turn(row: Row, host: RandomHost, pictures: Noise, unfit: str) -> Turn:
    if unfit:
        return Turn(row, None, unfit)
    try:
        return Turn(row, Pipeline(benchmark=Nothing(), frames=pictures, backbone=host, **choosing(row)))
    except ValueError as error:  # a cue that this backbone cannot give
        return Turn(row, None, str(error))


def _standing(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Those not refused, be it on the way."""
    return (turn for turn in turns if not turn.refused)


def _run(turn: Turn, host: RandomHost) -> Round | None:
    """One question. None where it does not count: it is refused, or FLOPs of its selection or of its cache policy were
    counted, which takes time beside that of its parts."""
    assert turn.pipeline is not None
    counted = _counts(turn.pipeline)
    try:
        found, turn.answer = _round(turn.pipeline, host)
        turn.cached = cache_bytes(host.shape, turn.answer.cache_rows, host.value_bytes)
    except Refused as error:
        turn.refused = str(error)
    except RuntimeError as error:
        if not too_little(error):
            raise
        turn.refused = (
            f"it needs more memory than {host.home} has ({_told(error)}); give fewer meter.frames, or a smaller "
            "backbone.frame_chunk"
        )
    if turn.refused:
        _free()  # here: as long as there is the error, there is all that its traceback sees
        return None
    return found if _counts(turn.pipeline) == counted else None


def _counts(pipeline: Pipeline) -> int:
    return len(pipeline.selecting) + len(pipeline.compressing)


def _round(pipeline: Pipeline, host: RandomHost) -> tuple[Round, Answer]:
    pipeline.clock.take()
    reset_peak(host.home)
    synchronise()
    begun = perf_counter()
    answer, _ = pipeline.answer(QUESTION, *pipeline.watch(QUESTION.video, pipeline.cues))
    synchronise()
    whole = perf_counter() - begun
    most = peak(host.home).get("peak_answer")
    return Round(pipeline.clock.take(), (host.first_token - begun) * 1e3, whole * 1e3, most), answer


def _told(error: RuntimeError) -> str:
    """How much was asked for, and how much there is; not how the allocator may be tuned."""
    return str(error).partition(" Including")[0].rstrip(".")


def _free() -> None:
    """What nobody holds any more."""
    gc.collect()
    if on_cuda():
        torch.cuda.empty_cache()
