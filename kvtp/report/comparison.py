"""Several runs side by side: accuracy with intervals, and paired tests between runs at one retention ratio."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kvtp.benchmark._summary import accuracy
from kvtp.config import Row
from kvtp.metric.statistics import compare, interval
from kvtp.summary import visual_tokens
from kvtp.types import Prediction


def accuracies(runs: Sequence[tuple[Row, Sequence[Prediction]]]) -> list[dict[str, Any]]:
    """One line per run: accuracy [%] with its 95 % interval, and per kind; tokens, mean over layers."""
    lines = []
    for row, predictions in runs:
        reached = accuracy(predictions)
        low, high = interval(predictions) if reached is not None else (None, None)
        tokens = visual_tokens(predictions)
        kinds = sorted({one.groups["kind"] for one in predictions if "kind" in one.groups})
        lines.append(
            {
                "run": row.run_id,
                "name": row.name,
                "retention_ratio": row.retention_ratio,
                "tokens": None if tokens is None else tokens["mean_over_layers"],
                "questions": len(predictions),
                "refused": sum(one.outcome == "refused" for one in predictions),
                "accuracy": reached,
                "low": low,
                "high": high,
                **{kind: accuracy([one for one in predictions if one.groups.get("kind") == kind]) for kind in kinds},
            }
        )
    return lines


def pairs(runs: Sequence[tuple[Row, Sequence[Prediction]]]) -> list[dict[str, Any]]:
    """Every two runs at one retention ratio, and every run with those that prune nothing: second minus first."""
    lines = []
    for (one, before), (other, after) in combinations(runs, 2):
        if one.retention_ratio is not None and other.retention_ratio not in (one.retention_ratio, None):
            continue
        if accuracy(before) is None or accuracy(after) is None:
            continue
        lines.append({"first": one.run_id, "second": other.run_id, **asdict(compare(before, after))})
    return lines


def write(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """As CSV."""
    keys = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, keys)
        table.writeheader()
        table.writerows(lines)


def shown(lines: Sequence[Mapping[str, Any]]) -> str:
    """As a table for the terminal."""
    table = Table("run", "kept", "tokens", "accuracy [%]", "95 %", *_kinds(lines), box=None)
    for line in lines:
        interval = "–" if line["accuracy"] is None else f"{line['low']:.1f} – {line['high']:.1f}"
        kept = "all" if line["retention_ratio"] is None else f"{line['retention_ratio']:g}"
        numbers = [line["tokens"], line["accuracy"]]
        kinds = [line[kind] for kind in _kinds(lines)]
        table.add_row(line["name"], kept, *map(_number, numbers), interval, *map(_number, kinds))
    page = StringIO()
    Console(width=160, file=page).print(table)
    return page.getvalue()


def _kinds(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = list(lines[0])
    return keys[keys.index("high") + 1 :]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
