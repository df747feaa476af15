"""The papers' tables with what was measured and computed beside what is printed, and tables of one's own."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from kvtp.benchmark._summary import accuracy
from kvtp.config import Row, labels
from kvtp.metric.costs import costs
from kvtp.metric.published import METRICS, Formula, agreement, formula, stated
from kvtp.metric.statistics import interval
from kvtp.paper import join
from kvtp.paper.computed import Computed, completed
from kvtp.paper.measure import UNJUDGED, Finished, caveats, measure, unjudged
from kvtp.paper.published import Cell, read, reasons
from kvtp.report.comparison import worlds
from kvtp.report.sheet import Column, Entry, Line, Sheet

SEEN = ("flops/vision_tflops", "flops/prefill_tflops")
OURS = {  # of a row, computed from shapes: [%] of the table's unpruned row
    "FLOPs here": SEEN,
    "FLOPs here, with choosing the tokens": (*SEEN, "flops/method_tflops"),
    "THOP here": ("flops/thop_tmacs",),
}
# of KVTP's shares, which come out so (`kvtp.metric.published`); whole frames that go take theirs with them
NEWLINES = "newlines stay with the host here; the printed shares come out where a frame's are pruned like its tokens"
OWN_NEWLINES = ("none", "keyvideollm")
Label = tuple[str, str, str]  # of a printed line: backbone, method, setting


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
    lines: dict[Label, list[Cell]] = defaultdict(list)
    for cell in cells:
        lines[cell.backbone, cell.method, cell.setting].append(cell)
    columns = list(dict.fromkeys((cell.benchmark, cell.metric, cell.unit) for cell in cells))
    costs_of = spent(lines, rows, compute)
    flops = {
        cell: _formula(cell, *costs_of.get(key, (None, None)))
        for key, mine in lines.items()
        for cell in mine
        if cell.metric in METRICS
    }
    made = []
    for key, mine in lines.items():
        found = {(cell.benchmark, cell.metric, cell.unit): cell for cell in mine}
        printed = [found.get(column) for column in columns]
        entries = [None if cell is None else _entry(folder, cell, sets, mine, rows, flops) for cell in printed]
        entries += [_ours(*costs_of.get(key, (None, None)), parts) for parts in OURS.values()]
        made.append(Line(tuple(text or "–" for text in key), tuple(entries)))
    titles = [Column(_title(*column[:2]), column[2]) for column in columns]
    titles += [Column(title, "%") for title in OURS]
    return Sheet(name, name, ("backbone", "method", "setting"), tuple(titles), tuple(made), _agreement(flops))


def spent(
    lines: Mapping[Label, Sequence[Cell]], rows: Rows, compute: Callable[[Sequence[Row]], list[Computed]]
) -> dict[Label, tuple[Computed | None, Computed | None]]:
    """What printed lines cost, and what the same backbones do unpruned, whether the experiment runs them so or not;
    None where it has no such row, and for figures of a data set."""
    wanted = {
        key: (own, rows.row(join.against(mine[0], entry["backbone"])) or own.unpruned)
        for key, mine in lines.items()
        for entry in join.entries(mine[0])[:1]
        if mine[0].method != "dataset" and (own := rows.row(entry)) is not None
    }
    known = {(row.run_id, row.name): row for pair in wanted.values() for row in pair}
    told = dict(zip(known, compute(list(known.values())), strict=True))
    return {key: (told[own.run_id, own.name], told[full.run_id, full.name]) for key, (own, full) in wanted.items()}


def _agreement(flops: Mapping[Cell, Formula]) -> tuple[str, ...]:
    cells = stated(list(flops), flops.__getitem__)
    return agreement(cells) if cells else ()


def _title(benchmark: str, metric: str) -> str:
    words = metric.replace("_", " ")
    if benchmark == "average":
        return words if metric.startswith("average") else f"average {words}"
    return words if benchmark == "efficiency" else benchmark if metric == "accuracy" else f"{benchmark} {words}"


def _entry(
    folder: Path,
    cell: Cell,
    sets: Sequence[str],
    line: Sequence[Cell],
    rows: Rows,
    flops: Mapping[Cell, Formula],
) -> Entry:
    found = measure(cell, sets, line, rows.find)
    low, high = found.interval or (None, None)
    shared = cell.metric == "flops_ratio" and cell.table.startswith("kvtp_") and cell.method not in OWN_NEWLINES
    return Entry(
        published=cell.value or None,
        measured=found.value,
        low=low,
        high=high,
        computed=flops[cell].computed if cell in flops else None,
        digits=max(1, len(cell.value.partition(".")[2])),
        reasons=tuple(dict.fromkeys(reason.text for reason in reasons(folder, cell))),
        caveats=() if found.value is None else (*caveats(found), *([NEWLINES] if shared else [])),
        missing=found.missing,
    )


def _formula(cell: Cell, own: Computed | None, full: Computed | None) -> Formula:
    """FLOPs as the paper counts."""
    if cell.metric == "flops_ratio" and cell.method == "none":
        return Formula(100.0, "shapes")
    return completed(formula(cell.table, cell.method, cell.setting, cell.backbone), cell.table, own, full)


def _ours(own: Computed | None, full: Computed | None, parts: Sequence[str]) -> Entry | None:
    if own is None:
        return None
    if own.costs is None or full is None or full.costs is None:
        return Entry(missing=own.refused or "the unpruned row's costs are not known")
    spent, whole = (sum(costs[part] for part in parts) for costs in (own.costs, full.costs))
    return Entry(computed=100 * spent / whole, digits=1)


def own(name: str, runs: Sequence[Finished], today: str) -> Sheet:
    """Runs of one's own: a line for each method as it was set, a column for each retention ratio (and each backbone on
    a benchmark, where there are several): accuracy [%], and then all it cost; before them the visual tokens that it
    really left in these columns."""
    if not runs:  # of a paper's figure nothing has to be finished
        return Sheet(name, name, ("method",), (), (), ("Nothing is finished.",))
    rows = [run.row for run in runs]
    told, on = labels(rows, ("benchmark.", "benchmark=", "backbone.", "backbone=")), worlds(rows)
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
            (label, " / ".join(_left(cells.get((label, *column))) for column in columns)),
            tuple(_own(cells.get((label, *column)), part) for part in (_reached, _cost) for column in columns),
        )
        for label in names
    )
    titles = [Column(f"accuracy, {head}", "%") for head in heads] + [Column(f"FLOPs, {head}", "%") for head in heads]
    without = [
        _beside(label, cells[label, world, ratio], world if several else "")
        for label, world, ratio in cells
        if not ratio
    ]
    notes = [f"{'; '.join(without)}."] if without else []
    return Sheet(name, name, ("method", "tokens"), tuple(titles), lines, (*notes, *_about(runs, today)))


def _own(run: Finished | None, part: Callable[[Finished], Entry]) -> Entry | None:
    if run is None:
        return None
    if unjudged(run):
        return Entry(missing=UNJUDGED)
    if accuracy(run.predictions) is None:
        return Entry(missing=next((one.text for one in run.predictions if one.outcome == "refused"), "no labels"))
    return part(run)


def _left(run: Finished | None) -> str:
    told = [] if run is None else [one.tokens_per_layer["visual"] for one in run.predictions if one.tokens_per_layer]
    return f"{mean(mean(layers) for layers in told):.0f}" if told else "–"


def _reached(run: Finished) -> Entry:
    low, high = interval(run.predictions) or (None, None)
    return Entry(measured=accuracy(run.predictions), low=low, high=high, digits=1)


def _cost(run: Finished) -> Entry:
    told = costs(run.predictions)
    if not told:
        return Entry(missing="no question was answered")
    return Entry(measured=100 * told["flops/analytic_ratio_with_method"], digits=1)


def _beside(label: str, run: Finished, world: str) -> str:
    """Of a run without a ratio."""
    reached, cost = _own(run, _reached), _own(run, _cost)
    assert reached is not None
    if reached.measured is None or cost is None or cost.measured is None:
        return f"{label}: {reached.missing or (cost and cost.missing)}"
    within = "" if reached.low is None else f" [{reached.low:.1f}, {reached.high:.1f}]"
    return f"{label}{world and f' ({world})'}: {reached.measured:.1f}{within} %, FLOPs {cost.measured:.1f} %"


def _about(runs: Sequence[Finished], today: str) -> tuple[str, ...]:
    asked = sorted({(len(run.predictions), len({one.cluster for one in run.predictions})) for run in runs})
    commits = sorted({str(each["commit"]) for run in runs for each in run.told["versions"]})
    sizes = ", ".join(f"{questions} questions about {films} films" for questions, films in asked)
    return (
        f"{sizes}; 95 % intervals, films resampled. FLOPs: tower, projector, prefill and choosing the tokens (cues, "
        "predictor, scout, selection), of the unpruned model's. Percentages at the top: nominal "
        "retention ratios; tokens: visual ones that were left there, mean over layers.",
        f"{today}, commit {', '.join(commits)}.",
    )
