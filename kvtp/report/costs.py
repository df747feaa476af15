"""Costs side by side: a table for the terminal, lines for a CSV file, a picture."""

from collections.abc import Sequence
from io import StringIO
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

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


def shown(lines: Sequence[Line]) -> str:
    known = {key: column for key, column in COLUMNS.items() if any(key in (line.costs or {}) for line in lines)}
    page = Table("frames", "run", "kept", *(title for title, _ in known.values()), box=None)
    for line in lines:
        told = line.costs or {}
        numbers = [form.format(told[key]) if key in told else "–" for key, (_, form) in known.items()]
        page.add_row(str(line.frames), line.name, _kept(line), *numbers)
    text = StringIO()
    Console(width=200, file=text).print(page)
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


def bars(lines: Sequence[Line]) -> Figure:
    """One bar per line, made of the parts of its cost; one panel per number of frames. Refused ones are left out."""
    counts = sorted({line.frames for line in lines})
    drawn = [[line for line in lines if line.frames == count and line.costs is not None] for count in counts]
    tall = 1.2 + 0.32 * max(len(mine) for mine in drawn)
    figure = Figure(figsize=(4.6 * len(counts) + 1.5, tall), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    for panel, count, mine in zip(panels, counts, drawn, strict=True):
        names = [f"{line.name} {_kept(line)}" for line in mine]
        left = [0.0] * len(mine)
        for key, title in PARTS.items():
            widths = [(line.costs or {})[key] for line in mine]
            panel.barh(range(len(mine)), widths, left=left, label=title)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        panel.set_yticks(range(len(mine)), names)
        panel.invert_yaxis()
        panel.set(title=f"{count} frames", xlabel="TFLOPs per question")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), frameon=False)
    return figure


def _kept(line: Line) -> str:
    return "all" if line.retention_ratio is None else f"{line.retention_ratio:g}"
