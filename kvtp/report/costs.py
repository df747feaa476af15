"""Costs side by side: a table for the terminal, lines for a CSV file, a picture."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Column, Table

from kvtp.metric.meter import Line
from kvtp.metric.published import Published

PARTS = {  # of a bar, bottom up
    "flops/vision_tflops": "tower and projector",
    "flops/method_tflops": "choosing the tokens",
    "flops/prefill_tflops": "prefill",
    "flops/decode_tflops": "reply",
}
COLUMNS = {
    "tokens/mean_over_layers": ("tokens", "{:.1f}"),
    "selection/products": ("selection [products]", "{:.3f}"),
    **{key: (f"{title} [TFLOPs]", "{:.4g}") for key, title in PARTS.items()},
    "flops/analytic_ratio": ("ratio", "{:.3f}"),
    "flops/analytic_ratio_with_method": ("with method", "{:.3f}"),
    "flops/analytic_causal_ratio": ("causal", "{:.3f}"),
    "flops/thop_tmacs": ("THOP [TMACs]", "{:.4g}"),
    "flops/thop_ratio": ("THOP ratio", "{:.3f}"),
    "memory/kv_cache_mib": ("KV cache [MiB]", "{:.4g}"),
}
TIMES = {  # likewise
    "latency/vision_ms": "vision",
    "latency/embed_ms": "embedding",
    "overhead/pruning_ms": "selection",
    "latency/prefill_ms": "prefill",
    "latency/decode_ms": "decode",
}
TIMED = {
    "rows/kept": ("rows", "{:.0f}"),
    "latency/vision_ms": ("vision", "{:.4g}"),
    "latency/relevance_ms": ("relevance", "{:.3g}"),
    "latency/prune_ms": ("prune", "{:.3g}"),
    "latency/embed_ms": ("embed", "{:.3g}"),
    "latency/prefill_ms": ("prefill", "{:.4g}"),
    "latency/decode_ms": ("decode", "{:.4g}"),
    "latency/first_token_ms": ("first token", "{:.4g}"),
    "latency/end_to_end_ms": ("end to end", "{:.4g}"),
    "limit/end_to_end_ms": ("limit", "{:.4g}"),
    "speedup/prefill": ("× prefill", "{:.2f}"),
    "speedup/first_token": ("× first token", "{:.2f}"),
    "speedup/end_to_end": ("× end to end", "{:.2f}"),
    "limit/speedup": ("× limit", "{:.2f}"),
    "overhead/pruning_ms": ("overhead", "{:.3g}"),
    "overhead/pruning_of_prefill": ("of full prefill", "{:.1%}"),
    "decode/tokens_per_s": ("tokens/s", "{:.1f}"),
    "memory/kv_cache_mib": ("KV cache [MiB]", "{:.4g}"),
    "memory/peak_mib": ("peak [MiB]", "{:.0f}"),
}
LIMIT = "limit/end_to_end_ms"


def table(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Every number of every line; `refused`: why there are none."""
    return [
        {
            "name": line.name,
            "retention_ratio": line.retention_ratio,
            "frames": line.frames,
            "refused": line.refused,
            **(line.costs or {}),
        }
        for line in lines
    ]


def shown(lines: Sequence[Line], columns: Mapping[str, tuple[str, str]] = COLUMNS) -> str:
    known = {key: column for key, column in columns.items() if any(key in (line.costs or {}) for line in lines)}
    page = Table("frames", Column("run", no_wrap=True), "kept", *(title for title, _ in known.values()), box=None)
    for line in lines:
        told = line.costs or {}
        numbers = [form.format(told[key]) if key in told else "–" for key, (_, form) in known.items()]
        page.add_row(str(line.frames), line.name, _kept(line), *numbers)
    text = StringIO()
    Console(width=220 + max(len(line.name) for line in lines), file=text).print(page)
    refused = [f"{line.name} {_kept(line)}, {line.frames} frames: {line.refused}" for line in lines if line.refused]
    return "\n".join([text.getvalue(), *refused])


def shown_published(cells: Sequence[Published]) -> str:
    """Published beside computed, for the terminal."""
    page = Table("table", "method", "setting", "published", "computed", "difference", "status", "", box=None)
    for cell in cells:
        told = cell.formula
        numbers = ("–", "–")
        if told.computed is not None:
            numbers = (f"{told.computed:.2f}", f"{told.computed - cell.value:+.2f}")
        page.add_row(cell.table, cell.method, cell.setting, f"{cell.value:g}", *numbers, told.status, told.note)
    text = StringIO()
    Console(width=220, file=text).print(page)
    return text.getvalue()


def bars(
    lines: Sequence[Line],
    parts: Mapping[str, str] = PARTS,
    unit: str = "TFLOPs per question",
    mark: tuple[str, str] | None = None,
) -> Figure:
    """One bar per line, made of the `parts` of its cost; one panel per number of frames. Refused ones are left out.
    `mark`: a cost that is drawn across the bar, and what it is."""
    counts = sorted({line.frames for line in lines})
    drawn = [[line for line in lines if line.frames == count and line.costs is not None] for count in counts]
    tall = 1.2 + 0.32 * max(len(mine) for mine in drawn)
    figure = Figure(figsize=(4.6 * len(counts) + 1.5, tall), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    for panel, count, mine in zip(panels, counts, drawn, strict=True):
        names = [f"{line.name} {_kept(line)}" for line in mine]
        told = [line.costs or {} for line in mine]
        left = [0.0] * len(mine)
        for key, title in parts.items():
            widths = [costs[key] for costs in told]
            panel.barh(range(len(mine)), widths, left=left, label=title)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        if mark is not None:
            key, title = mark
            at = {place: costs[key] for place, costs in enumerate(told) if key in costs}
            panel.plot(list(at.values()), list(at), "|k", markersize=14, markeredgewidth=1.5, label=title)
        panel.set_yticks(range(len(mine)), names)
        panel.invert_yaxis()
        panel.set(title=f"{count} frames", xlabel=unit)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def stacks(lines: Sequence[Line]) -> Figure:
    """The same of times (`kvtp.metric.speed`)."""
    return bars(lines, TIMES, "ms per question", (LIMIT, "limit: prefill in proportion to the rows kept"))


def _kept(line: Line) -> str:
    return "all" if line.retention_ratio is None else f"{line.retention_ratio:g}"
