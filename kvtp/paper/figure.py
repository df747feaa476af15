"""A paper's figure: what is printed in its tables, as hollow marks, and what runs measured."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from omegaconf import OmegaConf

from kvtp.benchmark._summary import accuracy
from kvtp.config import Row
from kvtp.metric.costs import costs
from kvtp.metric.statistics import Part, estimate
from kvtp.paper import join
from kvtp.paper.measure import Finished, Found, caveats, unjudged
from kvtp.paper.published import Cell, read, reasons

FLOPS = "flops"  # an axis: THOP's, of the unpruned model's [%]
MEAN = "mean of the benchmarks"
GRADED = {"vcgbench": "vcgbench (grades, of 5)"}  # panels whose accuracy is a share of the highest grade
DOUBTED = {"misprint", "duplicate"}  # kinds of reasons


def printed(folder: Path, tables: Sequence[str], axis: str) -> list[dict[str, Any]]:
    """Of each line the mean of its benchmarks' accuracies, the printed one if there is one: `series`, the axis' value
    (None: a level across), whether a figure that it stands on is `doubted`."""
    found = []
    for name in tables:
        lines: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
        for cell in read(folder, name):
            lines[cell.backbone, cell.method, cell.setting].append(cell)
        for (backbone, method, _), line in lines.items():
            scores = [cell for cell in line if cell.metric == "accuracy" and cell.value and _whole(cell)]
            entries = join.entries(line[0])
            if not scores or not entries:
                continue
            used = [cell for cell in line if cell.metric == "average_score" and cell.value][:1] or scores
            share = next((cell.figure for cell in line if cell.metric == "flops_ratio"), None)
            place = share if axis == FLOPS else entries[0].get(axis)
            point = {"panel": MEAN, "series": f"{backbone} {method}", axis: place}
            point |= {"accuracy": mean(float(cell.value) for cell in used)}
            found.append({**point, "doubted": any(_doubted(folder, cell) for cell in used)})
    return found


def _doubted(folder: Path, cell: Cell) -> bool:
    return any(reason.kind in DOUBTED for reason in reasons(folder, cell))


def _whole(cell: Cell) -> bool:
    """A benchmark, not a part of one."""
    return any(cell.benchmark == name.removeprefix("sparsekv_qa_") for name in join.benchmarks(cell))


def measured(rows: Sequence[Row], runs: Sequence[Finished], axis: str, panels: bool) -> list[dict[str, Any]]:
    """Of runs that differ in the benchmark alone the mean of their accuracies [%] with its interval; of `panels` each
    benchmark on its own. `rows`: all of the experiment. A run in which too many questions failed has no point.
    `on`: the backbone that stood in for the one that `series` names; `caveats`: all that tells it from the paper's."""
    asked: dict[Any, int] = defaultdict(int)
    groups: dict[Any, list[Finished]] = defaultdict(list)
    finished = {run.row.run_id: run for run in runs}
    for row in rows:
        for entry in (row.entry, *row.same):
            said = tuple(sorted((key, str(value)) for key, value in entry.items() if key not in join.EXTRA))
            name = entry.get("benchmark", row.choices["benchmark"])
            panel = GRADED.get(name, name) if panels else MEAN
            asked[panel, said] += 1
            if row.run_id in finished:
                groups[panel, said].append(finished[row.run_id])
    sets = {panel: max(count for (one, _), count in asked.items() if one == panel) for panel, _ in groups}
    ratios = {run.row.retention_ratio for run in runs} - {None}
    told = len(ratios) > 1 and axis not in (FLOPS, "retention_ratio")
    found = []
    for (panel, said), each in groups.items():
        if len(each) < sets[panel] or any(
            accuracy(run.predictions) is None or unjudged(run) or not run.told["valid"] or not costs(run.predictions)
            for run in each
        ):
            continue  # a mean of fewer benchmarks would be another figure
        entry, row = dict(said), each[0].row
        value, interval = estimate(
            [
                Part(
                    str(nth),
                    (tuple((one.cluster, one.score or 0.0) for one in run.predictions if one.answer is not None),),
                )
                for nth, run in enumerate(each)
            ],
            lambda sums, numbers: 100 * (sums / numbers)[0].mean(0),
        )
        low, high = interval or (None, None)
        more = [f"at {row.retention_ratio:g}"] if told and row.retention_ratio is not None else []
        series = " ".join([entry.get("backbone", row.choices["backbone"]), entry["method"], *more])
        share = [100 * costs(run.predictions)["flops/thop_ratio"] for run in each]
        place = mean(share) if axis == FLOPS else _value(each[0], axis)
        on = row.choices["backbone"]
        point = {"panel": panel, "series": series, axis: place, "accuracy": value, "low": low, "high": high}
        point |= {"on": None if entry.get("backbone", on) == on else on}
        found.append({**point, "caveats": caveats(Found(value, runs=tuple(each)))})
    return found


def _value(run: Finished, axis: str) -> float | None:
    """What the experiment's row says, a stand-in may be set otherwise; or else what holds for all rows."""
    if axis == "retention_ratio":
        return run.row.retention_ratio
    said = OmegaConf.select(OmegaConf.create(dict(run.row.config)), axis)
    if not any(word.startswith(f"{axis}=") for word in run.row.given):
        said = run.row.entry.get(axis, said)
    return float(said) if isinstance(said, int | float) and run.row.retention_ratio is not None else None
