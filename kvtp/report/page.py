"""report.html: one file that holds all it shows."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from kvtp.benchmark._letters import letters
from kvtp.config import Row
from kvtp.logger.base import Sample
from kvtp.metric.costs import costs
from kvtp.report.comparison import KIND, SCORE
from kvtp.report.figures import heat, pareto, svg
from kvtp.types import OUTCOMES, Prediction

COLUMNS = {  # of the table of costs: digits
    "flops/analytic_ratio": 3,
    "flops/analytic_ratio_with_method": 3,
    "flops/analytic_causal_ratio": 3,
    "flops/thop_ratio": 3,
    "latency/prune_ms": 1,
    "latency/prefill_ms": 1,
    "latency/decode_ms": 1,
    "memory/kv_cache_mib": 2,
}
RATIO = "flops/analytic_ratio_with_method"


def page(
    title: str,
    runs: Sequence[tuple[Row, Sequence[Prediction], Sequence[tuple[Sample, Path]]]],
    accuracies: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, Any]],
    over: str,
    sheets: str = "",
) -> str:
    """`accuracies`, `pairs`: as `kvtp.report.comparison` makes them of the same runs, in their order; there may be
    none. `over`: pictures as SVG, `sheets`: tables as HTML, or nothing."""
    told = []
    for (row, predictions, _), line in zip(runs, accuracies, strict=True):
        spent = costs(predictions)
        outcomes = Counter(one.outcome for one in predictions)
        told.append({**line, "kept": kept(row), "costs": spent, "flops": spent.get(RATIO), "outcomes": outcomes})
    names = {line["run"]: f"{line['label']} {line['kept']}" for line in told}
    named = [{**pair, "first_name": names[pair["first"]], "second_name": names[pair["second"]]} for pair in pairs]
    template = _environment().get_template("page.html.jinja")
    return template.render(
        title=title,
        over=over,
        sheets=sheets,
        runs=told,
        columns=list(COLUMNS.items()),
        worlds=_worlds(told),
        pairs=named,
        outcomes=[outcome for outcome in OUTCOMES if any(line["outcomes"][outcome] for line in told)],
        samples=_samples(runs, accuracies),
    )


def _worlds(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One for every backbone on a benchmark: only its runs share axes."""
    worlds = []
    for title in dict.fromkeys(line["world"] for line in told):
        mine = [line for line in told if line["world"] == title]
        kinds = {key: key.removeprefix(KIND) for line in mine for key in line if key.startswith(KIND)}
        reached = [line for line in mine if line["flops"] is not None and line["accuracy"] is not None]
        worlds.append(
            {
                "title": title,
                "runs": mine,
                "pareto": svg(pareto(reached)) if reached else "",
                "heat": svg(heat(mine, kinds)) if kinds else "",
                "scores": list(dict.fromkeys(key for line in mine for key in line if key.startswith(SCORE))),
            }
        )
    return worlds


def kept(row: Row) -> str:
    """The nominal retention ratio, in words."""
    return "all" if row.retention_ratio is None else f"{row.retention_ratio:g}"


def _samples(
    runs: Sequence[tuple[Row, Sequence[Prediction], Sequence[tuple[Sample, Path]]]], lines: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """By question, then by run."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (row, _, samples), line in zip(runs, lines, strict=True):
        asked = json.dumps(row.config["benchmark"], sort_keys=True)
        for one, picture in samples:
            told = one.options or ()
            options = [f"{letter}. {text}" for letter, text in zip(letters(told), told, strict=True)]
            question = found.setdefault(
                (asked, one.question_id),
                {"text": one.question, "options": options, "answer": one.answer, "runs": []},
            )
            data = b64encode(picture.read_bytes()).decode()
            shown = {"name": f"{line['label']} on {row.choices['backbone']}", "kept": kept(row), "picture": data}
            question["runs"].append({**shown, "reply": one.reply, "outcome": one.outcome, "tokens": one.tokens})
    return list(found.values())


def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("kvtp.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"
    environment.filters["named"] = lambda key: key.removeprefix(SCORE)
    return environment
