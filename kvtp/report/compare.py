"""What scripts/report.py makes of an experiment's runs: a page, tables, pictures. Nothing here runs a model."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kvtp.command import ROOT, CommandError
from kvtp.config import Row, labels
from kvtp.paper import figure as papers
from kvtp.paper.computed import computed
from kvtp.paper.measure import Finished
from kvtp.paper.sheets import Rows, own, table
from kvtp.report import render
from kvtp.report.comparison import accuracies, along, pairs, scores, shown, write
from kvtp.report.curves import curves
from kvtp.report.document import insert
from kvtp.report.figures import beside, svg, sweep
from kvtp.report.page import page
from kvtp.report.sheet import Sheet
from kvtp.store import Store, write_whole

log = logging.getLogger("kvtp.report")
PUBLISHED = ROOT / "published"
FORMS = {"md": render.markdown, "tex": render.latex}


@dataclass(frozen=True)
class Asked:
    """`rows` of the experiment `title`; the report goes to `folder`, what is kept for later ones to `cache`.

    `papers`: tables of PUBLISHED, () where a paper only draws, None where there is no paper. `axis`: what a picture is
    drawn over. `curves`: a training's folder. `source`: <entity>/<project> of W&B, for runs that are not here. `into`:
    documents that hold the first table.
    """

    title: str
    rows: Sequence[Row]
    folder: Path
    cache: Path
    papers: tuple[str, ...] | None
    axis: str | None
    curves: Path | None
    source: str | None
    into: tuple[Path, ...]


def compare(asked: Asked) -> None:
    """CommandError where nothing is to be shown."""
    runs = _finished(asked)
    asked.folder.mkdir(parents=True, exist_ok=True)
    write(_cells(asked.rows, runs), asked.folder / "cells.csv")
    plain = [(run.row, run.predictions) for run in runs]
    told = [{**line, **scores(run.told)} for line, run in zip(accuracies(plain) if runs else [], runs, strict=True)]
    drawn: list[Figure] = []
    if asked.papers is None and asked.axis is not None:
        told = _placed(asked.axis, plain, told)
        drawn.append(_kept(sweep(told, asked.axis), asked.folder / "sweep.png"))
    if asked.papers is not None and asked.axis is not None:
        printed = papers.printed(PUBLISHED, asked.papers, asked.axis)
        measured = papers.measured(asked.rows, runs, asked.axis, panels=not printed)
        if printed or measured:
            drawn.append(_kept(beside(printed, measured, asked.axis), asked.folder / "figure.png"))
        else:
            log.warning(
                "%s is drawn without numbers in the paper, and nothing is finished: there is no picture", asked.title
            )
    if asked.curves is not None:
        drawn += _curves(asked.curves, asked.folder / "curves.png")
    sheets = _sheets(asked, runs)
    for sheet in sheets:
        for ending, form in FORMS.items():
            write_whole(asked.folder / f"{sheet.name}.{ending}", form(sheet))
        write(render.lines(sheet), asked.folder / f"{sheet.name}.csv")
    for path in asked.into:
        insert(path, sheets[0].name, render.markdown(sheets[0]))
        log.info("%s holds the table of %s", path, sheets[0].name)
    write(told, asked.folder / "accuracies.csv")
    try:
        tested = pairs(plain)
    except ValueError as error:
        raise CommandError(str(error)) from error
    write(tested, asked.folder / "pairs.csv")
    shots = [(run.row, run.predictions, Store(run.folder).samples()) for run in runs]
    over = "\n".join(map(svg, drawn))
    whole = page(asked.title, shots, told, tested, over, "\n".join(map(render.html, sheets)))
    write_whole(asked.folder / "report.html", whole)
    shows = [render.terminal(sheet) for sheet in sheets] if asked.papers is not None else [shown(told)]
    log.info("%s\n%s", asked.folder / "report.html", "\n".join(shows))


def _finished(asked: Asked) -> list[Finished]:
    """Runs that ended, here or in W&B, in the order of the rows."""
    folders = {row.run_id: row.folder for row in asked.rows}
    here = {row.run_id for row in asked.rows if Store(row.folder).finished() is not None}
    if asked.source is not None:
        from kvtp.logger.pull import pull  # W&B's client, which takes seconds to load

        lacking = [row for row in asked.rows if row.run_id not in here]
        folders |= pull(lacking, asked.source, asked.cache / "wandb")
    found = []
    for row in asked.rows:
        store = Store(folders[row.run_id])
        if (predictions := store.finished()) is not None:
            found.append(Finished(row, predictions, store.told(), store.folder))
    if missing := [row.run_id for row in asked.rows if row.run_id not in {run.row.run_id for run in found}]:
        said = (
            f"{len(missing)} of {len(asked.rows)} runs are not finished, the first is {missing[0]}; "
            "let scripts/eval.py with the same words end"
        )
        if not found and asked.papers is None:
            raise CommandError(said)
        log.warning("%s", said)
    cells = sum(1 + len(row.same) for row in asked.rows)
    log.info("%d cells are %d runs, %d of them finished", cells, len(asked.rows), len(found))
    return found


def _cells(rows: Sequence[Row], runs: Sequence[Finished]) -> list[dict[str, Any]]:
    """Every cell of the experiment's grid, the run that it is, and how far that is."""
    ended = {run.row.run_id: len(run.predictions) for run in runs}
    return [
        {
            "run": row.run_id,
            "backbone": row.choices["backbone"],
            "benchmark": row.choices["benchmark"],
            "name": row.name,
            "retention_ratio": row.retention_ratio,
            "answers": ended[row.run_id] if row.run_id in ended else len(Store(row.folder).read()),
            "state": "finished" if row.run_id in ended else "not finished",
            "row": json.dumps(dict(entry)),
        }
        for row in rows
        for entry in (row.entry, *row.same)
    ]


def _placed(axis: str, runs: Sequence[tuple[Row, Sequence[Any]]], told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines with what they are drawn over, and the name of the series that each belongs to."""
    swept = ("benchmark.",) if axis == "sparsity" else (f"{axis}=",)
    rows = [row for row, _ in runs]
    series, values = labels(rows, swept), along(axis, runs)
    if len({row.retention_ratio for row in rows} - {None}) > 1:
        series = [
            name if row.retention_ratio is None else f"{name} at {row.retention_ratio:g}"
            for name, row in zip(series, rows, strict=True)
        ]
    return [{**line, "series": name, axis: value} for line, name, value in zip(told, series, values, strict=True)]


def _sheets(asked: Asked, runs: Sequence[Finished]) -> list[Sheet]:
    if not asked.papers:
        return [own(asked.title, runs, date.today().isoformat())]
    rows = Rows(asked.rows, runs)
    return [table(PUBLISHED, name, rows, partial(computed, cache=asked.cache / "computed")) for name in asked.papers]


def _curves(folder: Path, picture: Path) -> list[Figure]:
    path = folder / "metrics.jsonl"
    if not path.is_file():
        log.warning(
            "%s is not there: no curves are drawn; train first, or give curves=<the folder of a training>", path
        )
        return []
    return [_kept(curves([json.loads(line) for line in path.read_text().splitlines()]), picture)]


def _kept(figure: Figure, path: Path) -> Figure:
    figure.savefig(path, dpi=110)
    return figure
