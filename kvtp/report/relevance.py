"""Predicted beside true relevance over a video."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

WIDTH = 12  # [inches]
SIDE = 64  # of a picture [pixels]


def relevance_figure(
    pixels: UInt8[Tensor, "T H W 3"],
    texts: Sequence[str],
    labels: Float[Tensor, "Q T"],
    scores: Float[Tensor, "Q T"],
    temperature: float,
) -> Figure:
    """The pictures in order of time, and below them one panel per question: shares of the token budget,
    softmax(· / temperature), by the labels (bars) and by the predictor (line)."""
    count = len(pixels)
    small = F.interpolate(pixels.cpu().permute(0, 3, 1, 2), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    strip = small.permute(2, 0, 3, 1).flatten(1, 2).numpy()
    heights = [WIDTH / count, *[1.3] * len(texts)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.3 * len(texts)), layout="constrained")
    panels = figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False)[:, 0]
    panels[0].imshow(strip, aspect="auto", extent=(-0.5, count - 0.5, 0, 1))
    panels[0].set_yticks([])
    for panel, text, truth, found in zip(panels[1:], texts, labels, scores, strict=True):
        panel.bar(range(count), 100 * (truth.float() / temperature).softmax(-1), color="tab:orange", label="labels")
        panel.plot(
            range(count),
            100 * (found.float() / temperature).softmax(-1),
            color="tab:blue",
            marker=".",
            label="predicted",
        )
        panel.set_title(text, fontsize=9, loc="left", parse_math=False)
        panel.set_ylabel("share [%]", fontsize=8)
        panel.set_xlim(-0.5, count - 0.5)
        panel.tick_params(labelsize=7)
    for panel in panels[:-1]:
        panel.set_xticks([])
    panels[-1].set_xticks(np.arange(0, count, max(1, count // 16)))
    panels[-1].set_xlabel("frame", fontsize=8)
    panels[1].legend(fontsize=7, loc="upper right")
    return figure
