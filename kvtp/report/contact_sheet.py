"""A page that shows questions as a person would see them: frames in time, relevance labels, options, answer."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from kvtp.benchmark._letters import letters
from kvtp.types import Frames, Question

ACROSS = 16  # frames in a row of pictures
KEY, CONTEXT, OTHER = "#c1272d", "#e9a23b", "#cccccc"


def contact_sheet(shown: Sequence[tuple[Question, Frames]]) -> Figure:
    """One block per question. Frames are framed by the relevance of their clip: red highest, orange above 0."""
    rows = [-(-len(frames) // ACROSS) for _, frames in shown]
    figure = Figure(figsize=(ACROSS * 0.75, sum(rows) * 0.95 + len(shown) * 0.75), layout="constrained")
    blocks = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=[row + 0.8 for row in rows])[:, 0]
    for block, (question, frames), count in zip(blocks, shown, rows, strict=True):
        block.suptitle(_title(question), fontsize=9, x=0.01, ha="left")
        cells = list(block.subplots(count, ACROSS, squeeze=False).flat)
        for cell in cells:
            cell.set(xticks=[], yticks=[])
            cell.set_visible(False)
        for cell, pixels, time in zip(cells, frames.pixels.numpy(), frames.timestamps.tolist(), strict=False):
            cell.set_visible(True)
            cell.imshow(pixels)
            cell.set_title(f"{time:.1f} s", fontsize=6, pad=2)
            for side in cell.spines.values():
                side.set(color=_colour(question, time / frames.duration), linewidth=2)
    return figure


def _title(question: Question) -> str:
    options = question.options or ()
    lines = [f"{letter}. {option}" for letter, option in zip(letters(options), options, strict=True)]
    return f"{question.id}: {question.text}    {'   '.join(lines)}    → {question.answer}"


def _colour(question: Question, share: float) -> str:
    """Of a frame at this share of the video."""
    labels = question.relevance
    if not labels:
        return OTHER
    label = labels[min(int(share * len(labels)), len(labels) - 1)]
    return KEY if label == max(labels) > 0 else CONTEXT if label > 0 else OTHER
