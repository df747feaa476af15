"""The question's attention as heat over the frames, layer by layer, and what a method kept (as LLM-VTP's figures 5, 6).

One row per layer. Cells are laid over whole pictures, however the host crops them. Where tokens have no grid, a strip
below each picture stands for its tokens in order; where they have no frames either, below all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import wrap

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from kvtp.benchmark._letters import letters
from kvtp.explain import Explained, Kept, Look, Reply
from kvtp.report.contact_sheet import CONTEXT, KEY, OTHER
from kvtp.report.kept import DROPPED
from kvtp.types import Frames

ACROSS = 16  # frames shown
SIDE, WIDEST = 96, 128  # height of a picture, less where it were wider [pixels]; rounded up to whole cells
STRIP = 14  # height of a strip of tokens without a grid [pixels]
EDGE = 3  # around each picture [pixels]
LINE, MARGIN = 22, 12  # [pixels]
DPI = 100
HEAT = "inferno"
BRIGHTEST = 0.99  # quantile of a layer's scores that is drawn brightest; all above it, too
PARTS = {"red": "red", "green": "limegreen", "blue": "deepskyblue", "yellow": "gold"}  # of kept tokens, by part
TINT = 0.45  # how much of a picture its colour hides
UNSEEN, COVER = 0.7, 0.75  # brightness, in grey, where nothing attends to; how much of it the heat hides
NARROWEST, LETTER = 1100, 9  # of a page, and of a letter of its words [pixels]


@dataclass(frozen=True)
class Row:
    """Pictures side by side, what stands above them all and what below each."""

    title: str
    picture: Float[np.ndarray, "height width 3"]
    below: list[str]


def attention_figure(one: Explained) -> Figure:
    """Frames with their times; per layer the pooled scores as heat, from 0 to the highest hundredth of the layer over
    the whole video, below each frame its share of the attention to the video; frames with dropped tokens darkened and,
    where tokens are kept for several reasons, tinted by them (Vista-LLM's figure 6), below each what it has left. A
    method that drops none has no such row: the header says what happens to its cache."""
    shown = even(len(one.tokens), ACROSS)
    grid = one.looks[0].scores.shape[1:]
    film = _film(one.frames, len(one.tokens), shown, *grid)
    times = [f"{one.timestamps[t]:.1f} s" for t in shown]
    rows = [Row(_frames_title(one, len(shown)), _edged(film, _edges(one, shown)), times)]
    for look in one.looks:
        share = look.attention / look.attention.sum()
        brightest = look.scores.quantile(BRIGHTEST).clamp(min=torch.finfo(torch.float32).tiny)
        heat = (look.scores[shown] / brightest).clamp(max=1)
        below = [f"{100 * share[t]:.1f} %" for t in shown]
        rows.append(Row(_layer_title(one, look), _edged(_heated(film, heat.numpy())), below))
    if one.kept is not None and one.kept.mask is not None:
        below = [str(int(one.kept.per_frame[t])) for t in shown]
        parts = [mask[shown].numpy() for mask in one.kept.parts.values()]
        dark = _darkened(film, one.kept.mask[shown].numpy(), parts)
        rows.append(Row(_kept_title(one), _edged(dark), below))
    return _stacked(rows, _header(one))


def even(count: int, most: int) -> Int64[Tensor, " n"]:
    """At most so many of `count` things, the middles of equal parts."""
    parts = min(count, most)
    return (2 * torch.arange(parts) + 1) * count // (2 * parts)


def _film(
    frames: Frames, count: int, shown: Int64[Tensor, " n"], rows: int, columns: int
) -> Float[np.ndarray, "n height width 3"]:
    """A picture per token frame shown, sides whole numbers of cells. Where several share tokens, the first of them;
    where all do, all of them side by side."""
    length, (tall, wide) = len(frames.pixels), frames.pixels.shape[1:3]
    at = even(length, ACROSS) if count == 1 else shown * length // count
    height = -(-round(min(SIDE, WIDEST * tall / wide)) // rows) * rows
    width = round(height * wide / tall)
    if count > 1:
        width = -(-width // columns) * columns
    pixels = frames.pixels[at].permute(0, 3, 1, 2)
    small = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    film: np.ndarray = small.numpy() / np.float32(255)
    return np.concatenate(list(film), 1)[None] if count == 1 else film


def _cells(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """[n, rows, columns] as pixels, [n, height, width], sides not always whole numbers of cells."""
    _, rows, columns = values.shape
    return values[:, np.arange(height) * rows // height][:, :, np.arange(width) * columns // width]


def _heated(film: np.ndarray, heat: np.ndarray) -> np.ndarray:
    height, width = film.shape[1:3]
    colours = matplotlib.colormaps[HEAT]
    if heat.shape[1] == 1:
        return np.concatenate([film, colours(_cells(heat, STRIP, width))[..., :3]], 1)
    seen = _cells(heat, height, width)
    grey = film.mean(-1, keepdims=True) * UNSEEN
    cover = np.sqrt(seen)[..., None] * COVER
    return grey * (1 - cover) + colours(seen)[..., :3] * cover


def _darkened(film: np.ndarray, mask: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """`parts`: cells of the mask that have a colour each."""
    height, width = film.shape[1:3]
    gridless = mask.shape[1] == 1
    tall = STRIP if gridless else height
    light = np.full((len(film), tall, width, 3), 0.85) if gridless else film
    seen = np.where(_cells(mask, tall, width)[..., None], light, DROPPED if gridless else film * DROPPED)
    for colour, part in zip(cycle(PARTS.values()), parts):
        tinted = seen * (1 - TINT) + np.array(to_rgb(colour)) * TINT
        seen = np.where(_cells(part, tall, width)[..., None], tinted, seen)
    return np.concatenate([film, seen], 1) if gridless else seen


def _edges(one: Explained, shown: Int64[Tensor, " n"]) -> list[str]:
    """Colours of the pictures' frames: by relevance label, as in a contact sheet."""
    if one.labels is None:
        return [OTHER] * len(shown)
    most = one.labels.max()
    return [KEY if one.labels[t] == most > 0 else CONTEXT if one.labels[t] > 0 else OTHER for t in shown]


def _edged(film: np.ndarray, colours: Sequence[str] | None = None) -> np.ndarray:
    """The pictures side by side; white between them where no colours are given."""
    count, height, width, _ = film.shape
    page = np.ones((count, height + 2 * EDGE, width + 2 * EDGE, 3), np.float32)
    if colours is not None:
        page[:, :, 1:-1] = np.array([to_rgb(colour) for colour in colours], np.float32)[:, None, None]
    page[:, EDGE:-EDGE, EDGE:-EDGE] = film
    return np.concatenate(list(page), 1)


def _stacked(rows: Sequence[Row], header: Sequence[str]) -> Figure:
    """Pixel by pixel: pictures are shown in the size they have here."""
    width = max(max(row.picture.shape[1] for row in rows), NARROWEST) + 2 * MARGIN
    words = [line for text in header for line in wrap(text, width // LETTER, subsequent_indent="    ") or [""]]
    titles = [wrap(row.title, (width - 2 * MARGIN) // LETTER) for row in rows]
    each = [row.picture.shape[0] + LINE * (len(title) + 1) + MARGIN for row, title in zip(rows, titles, strict=True)]
    height = LINE * len(words) + sum(each) + 2 * MARGIN
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    top = MARGIN
    for nth, line in enumerate(words):
        place = (MARGIN / width, 1 - (top + LINE / 2) / height)
        weight = "bold" if nth == 0 else "normal"
        figure.text(*place, line, fontsize=10, va="center", parse_math=False, weight=weight)
        top += LINE
    for row, title in zip(rows, titles, strict=True):
        top += MARGIN + LINE * len(title)
        tall, wide = row.picture.shape[:2]
        panel = figure.add_axes((MARGIN / width, 1 - (top + tall) / height, wide / width, tall / height))
        panel.imshow(row.picture, aspect="auto", interpolation="none")
        step = wide / len(row.below)
        panel.set_xticks([step * (nth + 0.5) for nth in range(len(row.below))], row.below, fontsize=8)
        panel.set_yticks([])
        panel.tick_params(length=0, pad=2)
        panel.spines[:].set_visible(False)
        panel.set_title("\n".join(title), fontsize=10, loc="left", pad=4, va="bottom", parse_math=False)
        top += tall + LINE
    return figure


def _header(one: Explained) -> list[str]:
    question = one.question
    options = question.options or ()
    told = [f"{letter}. {option}" for letter, option in zip(letters(options), options, strict=True)]
    lines = [f"{question.id}: {question.text}", "    ".join([*told, f"→ {question.answer or '–'}"])]
    replies = [f"all {int(one.tokens.sum())} tokens: {_said(one.reply)}"]
    if one.kept is not None:
        cached = _cached(one.kept) if one.kept.mask is None else ""
        replies.append(f"{one.method}, {one.kept.count} tokens{cached}: {_said(one.kept.reply)}")
    if one.refused is not None:
        replies.append(f"{one.method}: refused: {one.refused}")
    return [*lines, "    ".join(replies)]


def _said(reply: Reply) -> str:
    return f"“{' '.join(reply.text.split())}” ({reply.outcome})"


def _frames_title(one: Explained, shown: int) -> str:
    count, pictures = len(one.tokens), len(one.frames.pixels)
    told = f"{min(pictures, ACROSS)} of {pictures} pictures" if count == 1 else f"{shown} of {count} frames"
    labels = "" if one.labels is None else "; edges: relevance label, red the highest, orange above 0 (relevant)"
    return told + labels


def _layer_title(one: Explained, look: Look) -> str:
    seen = float(look.attention.sum())
    ranked = _ranked(one) if look.layer in one.ranked else ""
    told = f"layer {look.layer} of {one.depth}{ranked}: {100 * seen:.1f} % of the question's attention is on the video"
    if one.labels is None:
        return told
    relevant = one.labels > 0
    share = float(look.attention[relevant].sum()) / seen
    chance = float(one.tokens[relevant].sum() / one.tokens.sum())
    return f"{told}, {100 * share:.1f} % of that on relevant frames, which have {100 * chance:.1f} % of the tokens"


def _ranked(one: Explained) -> str:
    if one.pools is None:
        return f", where {one.method} ranks"
    return f", where {one.method} ranks, by other scores than this heat (explain.*: {one.pools})"


def _kept_title(one: Explained) -> str:
    assert one.kept is not None
    made = one.kept.count - int(one.kept.per_frame.sum())
    beside = f" ({made} made by it are not shown)" if made else ""
    parts = zip(cycle(PARTS), one.kept.parts.items())
    told = "".join(f"; {colour}: {int(mask.sum())} {name}" for colour, (name, mask) in parts)
    return f"{one.method} keeps {one.kept.count} of {int(one.tokens.sum())} tokens{beside}{told}{_cached(one.kept)}"


def _cached(kept: Kept) -> str:
    if kept.cached is None:
        return ""
    told = f"; of the cache {100 * kept.cached.share:.1f} % stays"
    if kept.cached.hidden is None:
        return told
    return f"{told}, of that {100 * kept.cached.hidden:.1f} % is hidden while the reply is written"
