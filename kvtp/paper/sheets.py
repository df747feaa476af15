"""The papers' tables with what was measured and computed beside what is printed, and tables of one's own."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvtp.benchmark._summary import accuracy
from kvtp.config import Row, labels
from kvtp.metric.costs import costs
from kvtp.metric.published import METRICS, Formula, formula
from kvtp.metric.statistics import interval
from kvtp.paper import join
from kvtp.paper.computed import Computed
from kvtp.paper.measure import Finished, caveats, measure
from kvtp.paper.published import Cell, read, reasons
from kvtp.report.comparison import worlds
from kvtp.report.sheet import Column, Entry, Line, Sheet

OURS = {  # of a row, computed from shapes: [%] of the unpruned model's
    "flops/analytic_ratio": "FLOPs here",
    "flops/analytic_ratio_with_method": "FLOPs here, with choosing the tokens",
    "flops/thop_ratio": "THOP here",
}
WITHIN = 0.5  # points, or TFLOPs


class Rows:
    """An experiment's rows by what they say, and their runs by benchmark."""

    def __init__(self, rows: Sequence[Row], runs: Sequence[Finished]) -> None:
        finished = {run.row.run_id: run for run in runs}
        self.rows: dict[Any, Row] = {}
        self.runs: dict[Any, Finished] = {}
        for row in rows:
            for entry in (row.entry, *row.same):
                self.rows.setdefault(_key(entry), row)
                if row.run_id in finished:
                    self.runs[_key(entry), entry.get("benchmark", row.choices["benchmark"])] = finished[row.run_id]

    def find(self, entry: Mapping[str, Any], benchmark: str) -> Finished | None:
        return self.runs.get((_key(entry), benchmark))

    def row(self, entry: Mapping[str, Any]) -> Row | None:
        return self.rows.get(_key(entry))


def _key(entry: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset((key, value) for key, value in entry.items() if key not in join.EXTRA)


def table(folder: Path, name: str, rows: Rows, compute: Callable[[Sequence[Row]], list[Computed]]) -> Sheet:
    """The paper's table `name`, of `folder`: a line for each printed one; its columns, and then the computed costs."""
    cells = read(folder, name)
    sets = join.table_sets(cells)
    lines: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        lines[cell.backbone, cell.method, cell.setting].append(cell)
    columns = list(dict.fromkeys((cell.benchmark, cell.metric, cell.unit) for cell in cells))
    flops = [column for column in columns if column[1] in METRICS]
    asked = {key: rows.row(entry) for key, mine in lines.items() for entry in join.entries(mine[0])[:1]}
    metered = {key: row for key, row in asked.items() if row is not None}
    spent = dict(zip(metered, compute(list(metered.values())), strict=True))
    made = []
    for key, mine in lines.items():
        found = {(cell.benchmark, cell.metric, cell.unit): cell for cell in mine}
        printed = [found.get(column) for column in columns]
        entries = [None if cell is None else _entry(folder, cell, sets, mine, rows) for cell in printed]
        entries += [_ours(spent.get(key), part) for part in OURS]
        made.append(Line(tuple(text or "–" for text in key), tuple(entries)))
    titles = [Column(_title(*column), column[2]) for column in columns]
    titles += [Column(title, "%") for title in OURS.values()]
    notes = _agreement([cell for cell in cells if cell.metric in METRICS]) if flops else ()
    return Sheet(name, name, ("backbone", "method", "setting"), tuple(titles), tuple(made), notes)


def _agreement(cells: Sequence[Cell]) -> tuple[str, ...]:
    """How near the formulas come to the printed FLOPs, and why the others do not."""
    near, fitted, far = 0, [], []
    for cell in cells:
        if cell.metric == "flops_ratio" and cell.method == "none":
            continue  # 100 % is no finding
        told, said = _formula(cell), f"{cell.method} {cell.setting}".strip()
        off = None if told.computed is None or cell.figure is None else told.computed - cell.figure
        if off is not None and abs(off) <= WITHIN:
            near += 1
            fitted += [f"{said}: {told.note}"] if told.status == "fitted" else []
        else:
            far.append(f"{said}{'' if off is None else f' ({off:+.2f})'}: {told.note or 'no reason is known'}")
    notes = [f"Computed as the paper counts: {near} of {near + len(far)} FLOPs within {WITHIN:g} of the printed ones."]
    notes += [f"Not within: {'; '.join(far)}."] if far else []
    return (*notes, *([f"With a parameter chosen to fit: {'; '.join(fitted)}."] if fitted else []))


def _title(benchmark: str, metric: str, unit: str) -> str:
    if benchmark in ("efficiency", "average"):
        return metric.replace("_", " ")
    return benchmark if metric == "accuracy" else f"{benchmark} {metric.replace('_', ' ')}"


def _entry(folder: Path, cell: Cell, sets: Sequence[str], line: Sequence[Cell], rows: Rows) -> Entry:
    found = measure(cell, sets, line, rows.find)
    why = [reason.text for reason in reasons(folder, cell)]
    if found.value is not None:
        why += caveats(found)
    low, high = found.interval or (None, None)
    return Entry(
        published=cell.value or None,
        measured=found.value,
        low=low,
        high=high,
        computed=_formula(cell).computed if cell.metric in METRICS else None,
        digits=max(1, len(cell.value.partition(".")[2])),
        reasons=tuple(dict.fromkeys(why)),
        missing=found.missing,
    )


def _formula(cell: Cell) -> Formula:
    """FLOPs as the paper counts."""
    if cell.metric == "flops_ratio" and cell.method == "none":
        return Formula(100.0, "shapes")
    return formula(cell.table, cell.method, cell.setting, cell.backbone)


def _ours(spent: Computed | None, part: str) -> Entry | None:
    if spent is None:
        return None
    if spent.costs is None:
        return Entry(missing=spent.refused)
    return Entry(computed=100 * spent.costs[part], digits=1)


def own(name: str, runs: Sequence[Finished], today: str) -> Sheet:
    """Runs of one's own: a line for each method as it was set, a column for each retention ratio (and each backbone on
    a benchmark, where there are several): accuracy [%], and then all it cost."""
    rows = [run.row for run in runs]
    told, on = labels(rows, ("benchmark.", "backbone.")), worlds(rows)
    places = sorted({(world, -row.retention_ratio) for row, world in zip(rows, on, strict=True) if row.retention_ratio})
    cells = {
        (label, world, row.retention_ratio): run for run, row, label, world in zip(runs, rows, told, on, strict=True)
    }
    several = len(set(on)) > 1
    columns = [(world, -ratio) for world, ratio in places]
    heads = [f"{world}, {100 * ratio:g} %" if several else f"{100 * ratio:g} %" for world, ratio in columns]
    names = list(dict.fromkeys(label for label, _, ratio in cells if ratio))
    lines = tuple(
        Line(
            (label,),
            tuple(_own(cells.get((label, *column)), part) for part in (_reached, _cost) for column in columns),
        )
        for label in names
    )
    titles = [Column(f"accuracy, {head}", "%") for head in heads] + [Column(f"FLOPs, {head}", "%") for head in heads]
    notes = [
        _beside(label, cells[label, world, ratio], world if several else "")
        for label, world, ratio in cells
        if not ratio
    ]
    return Sheet(name, name, ("method",), tuple(titles), lines, (*notes, *_about(runs, today)))


def _own(run: Finished | None, part: Callable[[Finished], Entry]) -> Entry | None:
    if run is None:
        return None
    if accuracy(run.predictions) is None:
        return Entry(missing=next((one.text for one in run.predictions if one.outcome == "refused"), "no labels"))
    return part(run)


def _reached(run: Finished) -> Entry:
    low, high = interval(run.predictions) or (None, None)
    return Entry(measured=accuracy(run.predictions), low=low, high=high, digits=1)


def _cost(run: Finished) -> Entry:
    return Entry(measured=100 * costs(run.predictions)["flops/analytic_ratio_with_method"], digits=1)


def _beside(label: str, run: Finished, world: str) -> str:
    """Of a run without a ratio."""
    reached, cost = _own(run, _reached), _own(run, _cost)
    assert reached is not None
    if reached.measured is None or cost is None:
        return f"{label}: {reached.missing}"
    within = "" if reached.low is None else f" [{reached.low:.1f}, {reached.high:.1f}]"
    return f"{label}{world and f' ({world})'}: {reached.measured:.1f}{within} %, FLOPs {cost.measured:.1f} %."


def _about(runs: Sequence[Finished], today: str) -> tuple[str, ...]:
    asked = sorted({(len(run.predictions), len({one.cluster for one in run.predictions})) for run in runs})
    commits = sorted({str(each["commit"]) for run in runs for each in run.told["versions"]})
    sizes = ", ".join(f"{questions} questions about {films} films" for questions, films in asked)
    return (
        f"{sizes}; 95 % intervals, films resampled. FLOPs: tower, projector, prefill and choosing the tokens (cues, "
        "predictor, scout, selection), of the unpruned model's. Percentages at the top: nominal retention ratios.",
        f"{today}, commit {', '.join(commits)}.",
    )
