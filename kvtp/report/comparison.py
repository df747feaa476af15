"""Several runs side by side: accuracy with intervals, and paired tests between runs at one retention ratio."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from kvtp.benchmark._summary import accuracy
from kvtp.benchmark.base import AbstractBenchmark
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import Row, labels
from kvtp.metric.sparsity import keyframe_sparsity
from kvtp.metric.statistics import RESAMPLES, compare, holm, interval
from kvtp.progress import Steps
from kvtp.summary import visual_tokens
from kvtp.types import ERRORS, Prediction

KIND = "kind/"  # columns of accuracies per kind of question
SCORE = "score/"  # columns of the figures that others report of a set
SMALL = 0.002  # from here on p is told anew, where many lines are tested
LEAST = 0.025  # the least p, adjusted for them
EVERY = 30  # [s] between lines of progress where there is no terminal


def worlds(rows: Sequence[Row]) -> list[str]:
    """Backbone and benchmark of each, with those overrides in which rows differ: runs in one world share axes."""
    shared = set.intersection(*(set(row.overrides) for row in rows))
    found = []
    for row in rows:
        own = [one for one in row.overrides if one.startswith(("backbone.", "benchmark.")) and one not in shared]
        title = f"{row.choices['backbone']} on {row.choices['benchmark']}"
        found.append(", ".join([title, *own]))
    return found


def accuracies(runs: Sequence[tuple[Row, Sequence[Prediction]]]) -> list[dict[str, Any]]:
    """One line per run: accuracy [%] with its 95 % interval, and per kind of question; visual tokens entering a layer,
    and `cached` when a reply begins, means over layers."""
    lines = []
    told = [row for row, _ in runs]
    for (row, predictions), label, world in zip(runs, labels(told), worlds(told), strict=True):
        reached = accuracy(predictions)
        low, high = interval(predictions) or (None, None)
        kinds = {one.groups["kind"] for one in predictions if "kind" in one.groups}
        errors = sum(one.outcome in ERRORS for one in predictions)
        lines.append(
            {
                "run": row.run_id,
                "name": row.name,
                "label": label,
                "world": world,
                "backbone": row.choices["backbone"],
                "benchmark": row.choices["benchmark"],
                "retention_ratio": row.retention_ratio,
                "tokens": _tokens(predictions),
                "cached": _tokens(predictions, "at_decode"),
                "questions": len(predictions),
                "errors": errors,
                "valid": errors <= row.config["runner"]["error_threshold"] * len(predictions),
                "refused": sum(one.outcome == "refused" for one in predictions),
                "accuracy": reached,
                "low": low,
                "high": high,
                **{
                    KIND + kind: accuracy([one for one in predictions if one.groups.get("kind") == kind])
                    for kind in sorted(kinds)
                },
            }
        )
    return lines


def scores(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """Columns of a run's line: the figures that publishers, harnesses and papers report, by name."""
    return {f"{SCORE}{one['name']} ({one['by']}) [{one['unit']}]": one["value"] for one in summary.get("scores", ())}


def pairs(runs: Sequence[tuple[Row, Sequence[Prediction]]]) -> list[dict[str, Any]]:
    """Every two runs of one backbone on one benchmark at one nominal retention ratio, and every run with those that
    prune nothing: second minus first, and what each kept. `p_holm`: `p` adjusted for the number of lines; of many
    lines small ones are told from more flips, else the least that there is would come to nothing."""
    lines: list[dict[str, Any]] = []
    answers = {row.run_id: predictions for row, predictions in runs}
    for (one, before), (other, after) in combinations(runs, 2):
        if any(one.config[group] != other.config[group] for group in ("backbone", "benchmark")):
            continue
        if one.retention_ratio is not None and other.retention_ratio not in (one.retention_ratio, None):
            continue
        if accuracy(before) is None or accuracy(after) is None:
            continue
        kept = {"tokens_first": _tokens(before), "tokens_second": _tokens(after)}
        lines.append({"first": one.run_id, "second": other.run_id, **kept, **asdict(compare(before, after))})
    flips = math.ceil(2 * len(lines) / LEAST)
    steps = Steps(len(lines), "pair", EVERY)
    for line in lines:
        steps.step(line["second"])
        if line["p"] < SMALL and flips > RESAMPLES:
            line |= asdict(compare(answers[line["first"]], answers[line["second"]], flips))
    steps.close()
    for line, adjusted in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p_holm"] = adjusted
    return lines


def along(axis: str, runs: Sequence[tuple[Row, Sequence[Prediction]]]) -> list[float | None]:
    """Of each run the value of the setting `axis`, as budget.temperature; None where it has none. `sparsity`: the mean
    over its questions of the keyframe sparsity of their labels."""
    if axis == "sparsity":
        benchmarks = [make("benchmark", row.config["benchmark"]) for row, _ in runs]
        return [_sparsity(benchmark) for benchmark in benchmarks]
    found = [OmegaConf.select(OmegaConf.create(dict(row.config)), axis) for row, _ in runs]
    if not any(isinstance(value, int | float) for value in found):
        raise CommandError(f"axis must name a number in the runs' settings, or be sparsity, got {axis!r}: {found}")
    return [float(value) if isinstance(value, int | float) else None for value in found]


def _sparsity(benchmark: AbstractBenchmark) -> float:
    questions = (benchmark[index] for index in range(len(benchmark)))
    told = [keyframe_sparsity(question.relevance) for question in questions if question.relevance]
    if not told:
        raise CommandError("axis=sparsity needs questions with relevance labels; choose another axis")
    return sum(told) / len(told)


def write(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """As CSV."""
    keys = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, keys)
        table.writeheader()
        table.writerows(lines)


def shown(lines: Sequence[Mapping[str, Any]]) -> str:
    """As a table for the terminal."""
    kinds = sorted({key for line in lines for key in line if key.startswith(KIND)})
    table = Table("run", "kept", "tokens", "accuracy [%]", "95 %", "errors", *_plain(kinds), box=None)
    for line in lines:
        interval = "–" if line["low"] is None else f"{line['low']:.1f} – {line['high']:.1f}"
        kept = "all" if line["retention_ratio"] is None else f"{line['retention_ratio']:g}"
        if line["retention_ratio"] == 0 and line["tokens"]:
            kept = "–"  # by its own rule
        numbers = [_number(line["tokens"]), _number(line["accuracy"]), interval, str(line["errors"])]
        label = line["label"] if line["valid"] else f"{line['label']} (invalid)"
        table.add_row(label, kept, *numbers, *(_number(line.get(kind)) for kind in kinds))
    page = StringIO()
    Console(width=160, file=page).print(table)
    return page.getvalue() + "".join(f"{note}\n" for line in lines for note in _notes(line))


def _notes(line: Mapping[str, Any]) -> Iterator[str]:
    """What the table has no column for."""
    kept = "" if not line["retention_ratio"] else f" at {line['retention_ratio']:g}"
    if line["refused"]:
        yield f"{line['label']}{kept}: refused {line['refused']} of {line['questions']} questions"
    if line["cached"] is not None and abs(line["cached"] - line["tokens"]) > 1:
        yield f"{line['label']}{kept}: {line['cached']:.1f} tokens in the caches when a reply begins"
    if told := [f"{key.removeprefix(SCORE)} {_number(line[key])}" for key in line if key.startswith(SCORE)]:
        yield f"{line['label']}{kept}: {', '.join(told)}"


def _plain(kinds: Sequence[str]) -> list[str]:
    return [kind.removeprefix(KIND) for kind in kinds]


def _tokens(predictions: Sequence[Prediction], which: str = "mean_over_layers") -> float | None:
    """Visual tokens, mean over layers and questions."""
    told = visual_tokens(predictions)
    return None if told is None else told[which]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
