"""The question's attention as numbers: tables, and a page that holds the pictures."""

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kvtp.explain import Explained
from kvtp.metric.statistics import mean_interval
from kvtp.types import Question

SHARES = ("video", "relevant", "relevant_scores", "chance", "relevant_kept")
MEANING = (
    "Percent, means over the questions. On the video: of all that the question's tokens attend to in this layer of the "
    "unpruned model. Of that on relevant frames: frames with a relevance label above 0, with its 95 % interval over "
    "videos. Scores there: the same of the scores that rank tokens. Tokens there: how many of the tokens these frames "
    "have, so what looking anywhere would give. Kept there: how many of the tokens kept are theirs."
)


def lines(one: Explained) -> list[dict[str, Any]]:
    """Per layer and frame, as in scores.csv. `attention`: the frame's share of the attention to the video; `score`: its
    share of the pooled scores' sum; `tokens` at layer 0 and those `kept` in the last layer (None for a method
    that acts on the cache alone: what it keeps is not told by frame); `label`: relevance."""
    found, kept = [], _per_frame(one)
    for look in one.looks:
        attention = (look.attention / look.attention.sum()).tolist()
        score = (look.scores.sum((1, 2)) / look.scores.sum()).tolist()
        for frame, time in enumerate(one.timestamps.tolist()):
            found.append(
                {
                    "question": one.question.id,
                    "layer": look.layer,
                    "frame": frame,
                    "time": time,
                    "attention": attention[frame],
                    "score": score[frame],
                    "tokens": int(one.tokens[frame]),
                    "kept": None if kept is None else int(kept[frame]),
                    "label": None if one.labels is None else float(one.labels[frame]),
                }
            )
    return found


def shares(one: Explained) -> list[dict[str, Any]]:
    """Per layer: of the question's attention that on the `video`; of that, what is on frames with a label above 0
    (`relevant`), likewise of the pooled scores (`relevant_scores`); such frames' share of the tokens (`chance`) and of
    the tokens kept (`relevant_kept`). None where labels are missing, or tell no frames apart."""
    found, kept = [], _per_frame(one)
    for look in one.looks:
        told: dict[str, Any] = dict.fromkeys(SHARES)
        told["video"] = float(look.attention.sum())
        if one.labels is not None and 0 < int((one.labels > 0).sum()) < len(one.labels):
            relevant = one.labels > 0
            told["relevant"] = float(look.attention[relevant].sum() / look.attention.sum())
            told["relevant_scores"] = float(look.scores[relevant].sum() / look.scores.sum())
            told["chance"] = float(one.tokens[relevant].sum() / one.tokens.sum())
            if kept is not None and int(kept.sum()):
                told["relevant_kept"] = float(kept[relevant].sum() / kept.sum())
        found.append({"layer": look.layer, "cluster": one.question.cluster, **told})
    return found


def _per_frame(one: Explained) -> Int64[Tensor, " T"] | None:
    return None if one.kept is None or one.kept.mask is None else one.kept.per_frame


def by_layer(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over the questions [%], as in layers.csv, with the 95 % interval of `relevant` (videos resampled);
    `labelled` questions are those whose labels tell frames apart."""
    means = []
    for layer in dict.fromkeys(line["layer"] for line in found):
        mine = [line for line in found if line["layer"] == layer]
        labelled = [line for line in mine if line["relevant"] is not None]
        ends = mean_interval([(line["cluster"], line["relevant"]) for line in labelled])
        told = {"layer": layer, "questions": len(mine), "labelled": len(labelled)}
        told |= {end: None if math.isnan(value) else value for end, value in zip(("low", "high"), ends, strict=True)}
        means.append({**told, **{share: _mean(mine, share) for share in SHARES}})
    return means


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [line[key] for line in lines if line[key] is not None]
    return 100 * sum(known) / len(known) if known else None


def shown(layers: Sequence[Mapping[str, Any]]) -> str:
    """The means as a table for the terminal [%]."""
    titles = ("on the video", "of that on relevant frames", "95 %", "scores there", "tokens there", "kept there")
    page = Table("layer", "questions", *titles, box=None)
    for line in layers:
        video, relevant, *others = (_number(line[share]) for share in SHARES)
        interval = "–" if line["low"] is None else f"{line['low']:.1f} – {line['high']:.1f}"
        page.add_row(str(line["layer"]), str(line["questions"]), video, relevant, interval, *others)
    text = StringIO()
    Console(width=160, file=text).print(page)
    return text.getvalue()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def file_name(place: int, question: str) -> str:
    """Of a question's picture: in order, and as the question is called as far as a file can be."""
    plain = re.sub(r"[^\w.+=-]", "-", question, flags=re.ASCII)[:80]
    return f"{place:03d}_{plain}.png"


def page(title: str, pictures: Sequence[tuple[Question, Path]], table: str) -> str:
    """The table and all pictures in one file."""
    shots = [
        f'<h2>{escape(question.text)}</h2><img alt="{escape(question.id)}" '
        f'src="data:image/png;base64,{b64encode(path.read_bytes()).decode()}">'
        for question, path in pictures
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>img {{ max-width: 100% }}</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1><pre>{escape(table)}</pre>", f"<p>{MEANING}</p>", *shots])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'
