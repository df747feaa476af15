"""What finished runs say to a printed figure."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from kvtp.benchmark._summary import accuracy
from kvtp.benchmark.mvbench import TASKS
from kvtp.benchmark.vcgbench import ASPECTS
from kvtp.cell import make
from kvtp.config import ASKING, NEUTRAL, STAGES, Row
from kvtp.metric.costs import MIB, costs
from kvtp.metric.sparsity import keyframe_sparsity
from kvtp.metric.statistics import Part, estimate
from kvtp.paper import join
from kvtp.paper.published import Cell
from kvtp.types import Prediction

NOT_RUN = "not run"
UNJUDGED = "replies are not judged yet: the same command of scripts/eval.py asks the judge again"
TRAINED = "${paths.outputs}/train/"  # in a row of an experiment
LETTERS = {  # of Video-ChatGPT's aspects, as LLM-VTP prints them
    "CI": "correctness",
    "DO": "detail orientation",
    "CU": "contextual understanding",
    "TU": "temporal understanding",
    "CO": "consistency",
}


@dataclass(frozen=True)
class Finished:
    """A run that came to its end. `told`: its summary.json; `folder`: where that lies."""

    row: Row
    predictions: Sequence[Prediction]
    told: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Found:
    """A figure in the unit that the paper prints, and its 95 % interval. `missing`: why there is none."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    missing: str = ""
    runs: tuple[Finished, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Share:
    """Questions of a set that a figure is about, and what each of them is worth."""

    benchmark: str
    among: Callable[[Prediction], bool] = lambda one: True
    worth: Callable[[Prediction], float] = lambda one: one.score or 0.0


Lookup = Callable[[Mapping[str, Any], str], Finished | None]
Sums = np.ndarray  # [runs, parts, resamples]


def measure(cell: Cell, sets: Sequence[str], line: Sequence[Cell], find: Lookup) -> Found:
    """`sets`: the benchmarks of the whole table; `line`: all figures of the printed line; `find`: the finished run of a
    row on a benchmark."""
    rows = join.entries(cell)
    if not rows:
        return Found(missing=f"there is no backbone {cell.backbone} here")
    if cell.metric == "trained_params":
        return Found(missing="a count of weights, not a measurement")
    columns = _columns(cell, sets, line)
    if not any(columns):
        return Found(missing="its films and labels were not published")
    on = tuple(dict.fromkeys(share.benchmark for shares in columns for share in shares))
    if cell.metric in (*join.RELATIVE, "flops_ratio"):
        rows = tuple(row for own in rows for row in (own, join.against(cell, own["backbone"])))
    runs = [[find(row, benchmark) for benchmark in on] for row in rows]
    if any(run is None for each in runs for run in each):
        return Found(missing=NOT_RUN)
    table = [{name: run for name, run in zip(on, each, strict=True) if run is not None} for each in runs]
    used = tuple(run for each in table for run in each.values())
    if cell.metric in OF_COSTS:
        return _cost(cell, table, used)
    if cell.metric in OF_SETS:
        return _of_set(cell, columns, table[0], used)
    if missing := _silent(cell, used):
        return Found(missing=missing, runs=used)
    parts = [
        Part(share.benchmark, tuple(_worths(each[share.benchmark].predictions, share) for each in table))
        for shares in columns
        for share in shares
    ]
    if any(not run for part in parts for run in part.runs):
        return Found(missing="none of the questions asked is of this kind", runs=used)
    ends = np.cumsum([len(shares) for shares in columns])[:-1]
    value, interval = estimate(parts, partial(FIGURES[cell.metric], ends=ends))
    if not isfinite(value):
        return Found(missing="a ratio to a score of 0", runs=used)
    return Found(value, interval, runs=used)


def _columns(cell: Cell, sets: Sequence[str], line: Sequence[Cell]) -> list[list[Share]]:
    """A column of the table, or of an average all of them; each the parts whose mean it is."""
    if cell.metric == "relative_change":
        bounds = join.DURATIONS[join.settings(cell)["duration"]]
        return [[Share(name, partial(_lasts, *bounds)) for name in join.benchmarks(cell)]]
    if cell.benchmark == "average" and cell.metric in ("accuracy", "accuracy_delta"):  # of the columns that are printed
        others = [other for other in line if other.metric == "accuracy" and other.benchmark != "average"]
        return [[share for other in others for share in _shares(other, *join.benchmarks(other))]]
    if cell.benchmark in ("average", "efficiency"):
        return [_shares(replace(cell, benchmark=name), name) for name in sets]
    if cell.metric in OF_SETS:
        bounds = join.DURATIONS.get(join.settings(cell).get("duration", "overall"), (0, float("inf")))
        return [[Share(name, partial(_lasts, *bounds)) for name in join.benchmarks(cell)]]
    return [_shares(cell, *join.benchmarks(cell))]


def _shares(cell: Cell, benchmark: str) -> list[Share]:
    """Of one printed column, which is measured on `benchmark`."""
    base, _, part = cell.benchmark.rpartition("_")
    if benchmark == "vcgbench":  # its average is over aspects, of which questions have one or three
        told = {letters: aspect for letters, aspect in LETTERS.items() if part in (benchmark, letters)}
        return [
            Share(benchmark, partial(_kind, "kind", kind), partial(_grade, aspect))
            for kind, aspects in ASPECTS.items()
            for aspect in aspects
            if aspect in told.values()
        ]
    if cell.metric == "score":
        return [Share(benchmark, worth=partial(_grade, "score"))]
    if base == "mvbench":
        (task,) = (task for task, one in TASKS.items() if one.short == part)
        return [Share(benchmark, partial(_kind, "task", task))]
    if base == "videomme":
        return [Share(benchmark, partial(_kind, "duration", part))]
    return [Share(benchmark)]


def _kind(group: str, value: str, one: Prediction) -> bool:
    return one.groups.get(group) == value


def _lasts(least: float, below: float, one: Prediction) -> bool:
    if one.seconds is None:  # of a film that could not be read no length is known
        return (least, below) == join.DURATIONS["overall"]
    return least <= one.seconds < below


def _grade(aspect: str, one: Prediction) -> float:
    return (one.judged or {}).get(aspect, 0.0)


def _worths(predictions: Sequence[Prediction], share: Share) -> tuple[tuple[str, float], ...]:
    return tuple((one.cluster, share.worth(one)) for one in predictions if one.answer is not None and share.among(one))


def unjudged(run: Finished) -> bool:
    """Whether it has replies, and no verdict."""
    outcomes = {one.outcome for one in run.predictions}
    return "judge_error" in outcomes and not outcomes & {"correct", "wrong", "scored"}


def _silent(cell: Cell, runs: Sequence[Finished]) -> str:
    """Why runs have no figure, though they ended."""
    for run in runs:
        if all(one.answer is None for one in run.predictions):
            return "no answers were published: the report's task=submit writes the file for the server"
        if accuracy(run.predictions) is None:
            return next(one.text for one in run.predictions if one.outcome == "refused")
        if unjudged(run):
            return UNJUDGED
        if cell.metric == "score" and not any(one.judged for one in run.predictions):
            return "no judge was asked, answers were compared as they stand"
    return ""


# -- figures of accuracies -------------------------------------------------------------------------------------------


def _means(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    """[runs, columns, resamples]: of each column the mean of its parts."""
    return np.stack([part.mean(1) for part in np.split(sums / numbers, ends, 1)], 1)


def _score(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    return _means(sums, numbers, ends)[0].mean(0)


def _accuracy(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    return 100 * _score(sums, numbers, ends)


def _percent(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    """Ratio of means (Vista-LLM's averages): `runs` are the row's own and the unpruned model's."""
    own, full = _means(sums, numbers, ends).mean(1)
    return 100 * own / full


def _relative(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    """Mean of ratios over columns and backbones (LLM-VTP, table 9); every second run is the unpruned one."""
    found = _means(sums, numbers, ends)
    return 100 * (found[::2] / found[1::2]).mean((0, 1))


def _delta(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    own, full = _means(sums, numbers, ends).mean(1)
    return 100 * (own - full)


def _change(sums: Sums, numbers: Sums, ends: np.ndarray) -> Sums:
    """Of all questions together (Vista-LLM, table 9)."""
    own, full = sums.sum(1) / numbers.sum(1)
    return 100 * (own / full - 1)


FIGURES: Mapping[str, Callable[..., Sums]] = {
    "accuracy": _accuracy,
    "average_score": _accuracy,
    "score": _score,
    "average_percent": _percent,
    "relative_accuracy": _relative,
    "accuracy_delta": _delta,
    "relative_change": _change,
}

# -- others ----------------------------------------------------------------------------------------------------------


def _flops(cell: Cell, run: Finished) -> float:
    """Of a question, by the paper's convention (`kvtp.metric.conventions`)."""
    part = "kvtp" if cell.table.startswith("kvtp") else "prefill" if cell.table == "vista_table3" else "rows"
    return mean(one.flops[part] for one in run.predictions if one.flops is not None)


def _seconds(cell: Cell, run: Finished) -> float:
    """Of a new film's question: the mean of each part, without decoding the film and what is done beside the others."""
    times: dict[str, list[float]] = defaultdict(list)
    for one in run.predictions:
        for part, ms in one.timings_ms.items() if one.flops is not None else ():
            times[part].append(ms)
    return sum(mean(told) for part, told in times.items() if part not in ("decode_video", "scout_beside")) / 1000


OF_COSTS: Mapping[str, Callable[[Cell, Finished], float]] = {
    "flops_ratio": _flops,
    "tflops": lambda cell, run: costs(run.predictions)["convention/fastv_tflops"],
    "seconds": _seconds,
    "speedup": _seconds,
    "peak_memory_gb": lambda cell, run: costs(run.predictions)["memory/peak_answer_mib"] * MIB / 1e9,
    "decoding_length": lambda cell, run: mean(one.steps[0] + 1 for one in run.predictions if one.steps),
}
OF_SETS = ("size", "length_s", "sparsity")


def _cost(cell: Cell, table: Sequence[Mapping[str, Finished]], used: tuple[Finished, ...]) -> Found:
    """Mean over the sets that the runs are on."""
    if any(all(one.flops is None for one in run.predictions) for run in used):
        return Found(missing=_silent(cell, used) or "no question was answered", runs=used)
    if cell.metric == "peak_memory_gb" and any("memory/peak_answer_mib" not in costs(run.predictions) for run in used):
        return Found(missing="the peak is told of GPUs alone", runs=used)
    if cell.metric == "decoding_length" and any(not any(one.steps for one in run.predictions) for run in used):
        return Found(missing="no reply was written, or runs of before did not tell its length", runs=used)
    each = [[OF_COSTS[cell.metric](cell, run) for run in runs.values()] for runs in table]
    if cell.metric == "flops_ratio":  # its own newlines are not those of the unpruned row
        return Found(mean(100 * own / full for own, full in zip(*each, strict=True)), runs=used)
    found = [mean(of_sets) for of_sets in each]
    return Found(found[1] / found[0] if cell.metric == "speedup" else found[0], runs=used)


def _of_set(
    cell: Cell, columns: Sequence[Sequence[Share]], each: Mapping[str, Finished], used: tuple[Finished, ...]
) -> Found:
    asked = [
        (share.benchmark, one) for share in columns[0] for one in each[share.benchmark].predictions if share.among(one)
    ]
    if cell.metric == "size":
        return Found(float(len(asked)), runs=used)
    if cell.metric == "length_s":
        films = {(name, one.cluster): one.seconds for name, one in asked if one.seconds is not None}
        return Found(mean(films.values()), runs=used) if films else Found(missing="no film was read", runs=used)
    labels = [question.relevance for run in used for question in _questions(run.row)]
    told = [keyframe_sparsity(one) for one in labels if one]
    return Found(mean(told), runs=used) if told else Found(missing="its questions have no labels", runs=used)


def _questions(row: Row) -> list[Any]:
    benchmark = make("benchmark", row.config["benchmark"])
    return [benchmark[place] for place in range(len(benchmark))]


def caveats(found: Found) -> tuple[str, ...]:
    """Why what these runs measured is not what the paper did: another model, set or judge than the row says, not all of
    it, weights of one's own training, or other settings."""
    told: dict[str, None] = {}
    for run in found.runs:
        row, config = run.row, run.row.config["benchmark"]
        said = row.entry.get("backbone", row.choices["backbone"])
        if said != row.choices["backbone"]:
            told[f"run on {row.choices['backbone']}, not on {said}"] = None
        if any(str(value).startswith(TRAINED) for value in row.entry.values()):
            told["with weights trained here, not the authors'"] = None
        if config.get("root") == "miniature":
            told["on a generated miniature of the set"] = None
        elif config.get("limit") is not None:
            told[f"on the first {config['limit']} questions of the set alone"] = None
        waits = unjudged(run)  # it has no accuracy; what it cost is known
        if not run.told["valid"] and not waits:
            told["too many of its questions failed"] = None
        judge = config.get("judge")
        if isinstance(judge, dict) and not waits and not any(one.judged for one in run.predictions):
            told["answers compared as they stand, by no judge"] = None
        if words := _by_hand(row):
            told[f"with {', '.join(words)}"] = None
    return tuple(told)


def _by_hand(row: Row) -> list[str]:
    """Words of a command line that change what the table's row predicts, but for those told in other words."""
    told = {"backbone", "benchmark", "benchmark.root", "benchmark.limit", *map(".".join, NEUTRAL)}
    told |= {f"judge.{key}" for key in ASKING}
    keys = {word: word.partition("=")[0].lstrip("+~") for word in row.given}
    stages = {*STAGES, "method", "retention_ratio", "judge", "seed"}
    return [word for word, key in keys.items() if key not in told and re.split(r"[.@]", key)[0] in stages]
