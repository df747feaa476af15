"""A training's curves."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

ACROSS = 4  # panels in a row


def curves(rows: Sequence[Mapping[str, float]]) -> Figure:
    """One panel per metric, over steps."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if name != "step":
                found[name].append((row["step"], value))
    down = max(1, -(-len(found) // ACROSS))
    figure = Figure(figsize=(ACROSS * 3.2, down * 2.2), layout="constrained")
    panels = list(figure.subplots(down, ACROSS, squeeze=False).flat)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    for panel, (name, points) in zip(panels, sorted(found.items()), strict=False):
        panel.plot(*zip(*points, strict=True), linewidth=1)
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    return figure
