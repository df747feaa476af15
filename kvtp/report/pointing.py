"""Where a scout looks, beside what it was asked for."""

from collections.abc import Sequence
from textwrap import fill

from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

ACROSS = 4  # pictures in a row
WORDS = 26  # letters in a line


def pointing_figure(
    pixels: Sequence[UInt8[Tensor, "_ _ 3"]],
    phrases: Sequence[str],
    boxes: Float[Tensor, "B 4"],
    scores: Float[Tensor, "B P"],
) -> Figure:
    """Of each of the `pixels` the picture, over it its scores (the brighter the higher), the box that its phrase is
    about in white, and a cross at the middle of the best patch."""
    down = -(-len(pixels) // ACROSS)
    figure = Figure(figsize=(ACROSS * 2.4, down * 2.8), layout="constrained")
    panels = list(figure.subplots(down, ACROSS, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    side = round(scores.shape[1] ** 0.5)
    for panel, picture, phrase, box, score in zip(panels, pixels, phrases, boxes.tolist(), scores, strict=False):
        height, width = picture.shape[:2]
        whole = (0, width, height, 0)
        panel.imshow(picture.numpy(), extent=whole)
        panel.imshow(score.reshape(side, side).numpy(), extent=whole, cmap="magma", alpha=0.55)
        left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        panel.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color="white", linewidth=1.5))
        best = int(score.argmax())
        panel.plot((best % side + 0.5) / side * width, (best // side + 0.5) / side * height, "wx", markersize=9)
        panel.set_title(fill(phrase, WORDS), fontsize=8, parse_math=False)
    return figure
