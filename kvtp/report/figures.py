"""Accuracy against cost, and per kind of question, as pictures for a page."""

from collections.abc import Mapping, Sequence
from io import StringIO
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

MARKERS = "osD^vP*Xhd"


def pareto(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy with its 95 % interval over the share of the unpruned FLOPs, choosing the tokens included; one mark per
    run, those of a `label` joined. The staircase joins those that none beats in both. Runs without an accuracy are left
    out."""
    figure, panel = _accuracies(lines, "flops", "label")
    best = front([(line["flops"], line["accuracy"]) for line in lines if line["accuracy"] is not None])
    if len(best) > 1:
        panel.step(*zip(*best, strict=True), where="post", color="black", linestyle=":", linewidth=1, zorder=0)
    panel.set_xlabel("FLOPs of vision, prefill and choosing the tokens, share of the unpruned")
    return figure


def sweep(lines: Sequence[Mapping[str, Any]], axis: str) -> Figure:
    """Accuracy with its 95 % interval over a setting: `axis` of each line, those of a `series` joined; a method without
    it, as one that has no budget, is a level across."""
    figure, panel = _accuracies([line for line in lines if line[axis] is not None], axis, "series")
    for line in lines:
        if line[axis] is None and line["accuracy"] is not None:
            panel.axhline(line["accuracy"], color="gray", linestyle="--", linewidth=1)
            panel.annotate(line["series"], (1, line["accuracy"]), xycoords=("axes fraction", "data"), fontsize=8)
    panel.set_xlabel(axis)
    return figure


def _accuracies(lines: Sequence[Mapping[str, Any]], axis: str, by: str) -> tuple[Figure, Axes]:
    """One mark per line with an accuracy; those of one `by` are joined."""
    shown = [line for line in lines if line["accuracy"] is not None]
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    panel = figure.subplots()
    for place, name in enumerate(dict.fromkeys(line[by] for line in shown)):
        mine = sorted((line for line in shown if line[by] == name), key=lambda line: line[axis])
        x, y = [line[axis] for line in mine], [line["accuracy"] for line in mine]
        marker = MARKERS[place % len(MARKERS)]
        panel.errorbar(x, y, yerr=_reach(mine), marker=marker, linewidth=1, capsize=2, markersize=6, label=name)
    panel.set_ylabel("accuracy [%]")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure, panel


def beside(printed: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]], axis: str) -> Figure:
    """A paper's points, hollow and dotted, and those of runs with their 95 % intervals, one colour for each `series`;
    a `panel` for each of theirs; below, which printed ones are `doubted`, and the `caveats` of the others. Lines whose
    `axis` is None are levels across."""
    titles = list(dict.fromkeys(line["panel"] for line in (*printed, *measured)))
    names = list(dict.fromkeys(line["series"] for line in (*printed, *measured)))
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)}
    shapes = {name: MARKERS[place // 10 % len(MARKERS)] for place, name in enumerate(names)}  # beyond ten colours
    height = max(4.8, 0.17 * 2 * len(names))  # [in] of a legend with both of each
    figure = Figure(figsize=(5.2 * len(titles) + 4, height), layout="constrained")
    for panel, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        for lines, own in ((printed, False), (measured, True)):
            for name in names:
                mine = [line for line in lines if (line["panel"], line["series"]) == (title, name)]
                look = {"color": colours[name], "linestyle": "-" if own else ":", "linewidth": 1}
                for line in (line for line in mine if line[axis] is None):
                    panel.axhline(line["accuracy"], **look)
                    panel.annotate(name, (1, line["accuracy"]), xycoords=("axes fraction", "data"), fontsize=7)
                at = sorted((line for line in mine if line[axis] is not None), key=lambda line: line[axis])
                if at:
                    marker = {
                        "marker": shapes[name],
                        "markersize": 6,
                        "markerfacecolor": colours[name] if own else "none",
                    }
                    ran = f"measured on {at[0]['on']}" if own and at[0].get("on") else "measured"
                    label = f"{name}, {ran if own else 'printed'}"
                    x, y = [line[axis] for line in at], [line["accuracy"] for line in at]
                    panel.errorbar(x, y, yerr=_reach(at) if own else None, capsize=2, label=label, **look, **marker)
        panel.set(title=title, xlabel=axis, ylabel="accuracy [%]")
        panel.grid(alpha=0.3)
    handles = {
        label: mark for panel in figure.axes for mark, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside right upper", fontsize=7, frameon=False)
    doubts = [
        line["series"] if line[axis] is None else f"{line['series']} at {line[axis]:g}"
        for line in printed
        if line["doubted"]
    ]
    caveats = dict.fromkeys(caveat for line in measured for caveat in line["caveats"])
    width = int(figure.get_figwidth() / 0.06)  # letters of 7 points
    below = [
        *wrap(f"Printed, but in doubt (the table's notes tell why): {'; '.join(doubts)}." if doubts else "", width),
        *wrap(f"Measured: {'; '.join(caveats)}." if caveats else "", width),
    ]
    if below:
        figure.supxlabel("\n".join(below), fontsize=7, x=0.01, ha="left")
    return figure


def _reach(lines: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """How far each interval goes down, and up; rounding may put an end on the other side."""
    return [
        [0.0 if line["low"] is None else max(0.0, line["accuracy"] - line["low"]) for line in lines],
        [0.0 if line["high"] is None else max(0.0, line["high"] - line["accuracy"]) for line in lines],
    ]


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) pairs that no other pair beats in one and equals or beats in the other, by cost."""
    best: list[tuple[float, float]] = []
    for cost, reached in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or reached > best[-1][1]:
            best.append((cost, reached))
    return best


def heat(lines: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> Figure:
    """Accuracy [%] of every run (row) on every kind of question; `columns`: title by key of a line."""
    table = np.array(
        [[np.nan if line.get(key) is None else line[key] for key in columns] for line in lines], dtype=float
    )
    names = [f"{line['label']} {_kept(line)}" for line in lines]
    across = 1 + max(TextPath((0, 0), name, size=8).get_extents().width for name in names) / 72  # [in] of the longest
    figure = Figure(figsize=(across + 0.9 * len(columns), 0.8 + 0.26 * len(lines)), layout="constrained")
    panel = figure.subplots()
    panel.imshow(table, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    panel.set_xticks(range(len(columns)), list(columns.values()), fontsize=8)
    panel.set_yticks(range(len(lines)), names, fontsize=8)
    panel.xaxis.tick_top()
    for (row, column), value in np.ndenumerate(table):
        said = "–" if np.isnan(value) else f"{value:.0f}"
        panel.text(column, row, said, ha="center", va="center", fontsize=8, color="white" if value < 60 else "black")
    return figure


def svg(figure: Figure) -> str:
    """To be put into a page."""
    page = StringIO()
    figure.savefig(page, format="svg", metadata={"Date": None})
    return page.getvalue()[page.getvalue().index("<svg") :]


def _kept(line: Mapping[str, Any]) -> str:
    return "" if line["retention_ratio"] is None else f"{line['retention_ratio']:g}"
