"""The FLOPs cells of the papers' tables, and what reproduces them: from public shapes, without weights."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal

from hydra import compose

from kvtp.backbone.base import LLMShape
from kvtp.cell import make
from kvtp.command import ROOT, composing
from kvtp.metric.account import Account
from kvtp.metric.conventions import fastv, kvtp_ratio, vista_attention_ratio, vista_ratio

LLAMA_7B = LLMShape(layers=32, width=4096, heads=32, kv_heads=32, head_dim=128, ffn=11008, vocabulary=32000)
METRICS = ("flops_ratio", "tflops")
PAPERS = ("kvtp", "llm_vtp", "vista")  # what the names of their tables begin with; other files lie beside these
TEXT = 100  # tokens of the prompt, where nothing is said of it
# those with which LLM-VTP's unpruned TFLOPs come out, by backbone
PROMPTS = {"pllava_7b": 66, "videochat2_7b": 13, "st_llm_7b": 10}
SQUARE = (384, 384)  # pictures; these towers make squares of any


Key = tuple[str, ...]


@dataclass(frozen=True)
class Formula:
    """`status`: `shapes` = follows from public shapes, r and 100 tokens of text; `fitted` = with a parameter chosen to
    fit, which `note` tells; `unexplained` = the nearest that is known, or nothing."""

    computed: float | None
    status: Literal["shapes", "fitted", "unexplained"]
    note: str = ""


@dataclass(frozen=True)
class Published:
    """A cell: percent of the unpruned cost, or TFLOPs. `table`: the file's name, without its ending."""

    table: str
    method: str
    setting: str
    value: float
    formula: Formula


def published(folder: Path, small: Account, large: Account) -> list[Published]:
    """Every cell of METRICS in the tables under `folder`, unpruned ones of 100 % left out. `small`, `large`:
    LLaVA-OneVision's shape with Qwen2-7B and with Qwen2-72B."""
    known = {**_kvtp("7b", small), **_kvtp("72b", large), **_vista(small.shape), **_llm_vtp()}
    cells = []
    for path in sorted(path for paper in PAPERS for path in folder.glob(f"{paper}_*.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                if row["metric"] in METRICS and (row["metric"], row["method"]) != ("flops_ratio", "none"):
                    found = _find(known, path.stem, row["method"], row["setting"], row["backbone"])
                    cells.append(Published(path.stem, row["method"], row["setting"], float(row["value"]), found))
    return cells


def formula(table: str, method: str, setting: str, backbone: str) -> Formula:
    """Of one cell, with the words of its line; `table` as in `Published`. The shapes are those of the repository, read
    and counted once, which takes a second each."""
    paper = next((paper for paper in PAPERS if table.startswith(f"{paper}_")), "")
    return _find(_known(paper, "72b" if backbone.endswith("72b") else "7b"), table, method, setting, backbone)


@cache
def _known(paper: str, size: str) -> Mapping[Key, Formula]:
    """What is known of a paper's tables of one size of model."""
    if paper == "kvtp":
        return _kvtp(size, _account(size))
    if paper == "vista":
        return _vista(_account(size).shape)
    return _llm_vtp() if paper == "llm_vtp" else {}


@cache
def _account(size: str) -> Account:
    with composing():
        words = ["backbone=llava_onevision", f"backbone.checkpoint={ROOT}/shapes/llava_onevision_{size}"]
        section = compose("eval", words).backbone
    return Account(make("backbone", {**section, "device": "cpu"}))


def _find(known: Mapping[Key, Formula], table: str, method: str, setting: str, backbone: str) -> Formula:
    key = (table, method, *_marks(setting, backbone))
    return known.get(key, Formula(None, "unexplained", "no formula is known"))


def _marks(setting: str, backbone: str) -> tuple[str, ...]:
    """What tells rows of one method apart: retention, and the backbone where a table has several."""
    told = dict(part.partition("=")[::2] for part in setting.split(";"))
    retention = told.get("retention", "")
    return (retention, backbone) if backbone in ("videochat2_7b", "st_llm_7b") else (retention,)


def _kvtp(size: str, account: Account) -> Mapping[Key, Formula]:
    """128 frames of 13 × 13 tokens with a newline per row."""
    layers, (_, macs) = account.shape.layers, account.seeing(SQUARE)
    seen, each = 128 * macs.frame, layers * (macs.attention_row + macs.mlp_row)
    video, table = 128 * 182, {"7b": "kvtp_table2", "72b": "kvtp_table3"}[size]
    web = f"kvtp_web_llava_video_{size}"

    def ratio(kept: Sequence[float]) -> float:
        return kvtp_ratio(seen, each, [rows + TEXT for rows in kept], video + TEXT)

    fifth, half = ratio([0.2 * video]), ratio([video] * 3 + [0.5 * video] * (layers - 3))
    told: dict[Key, Formula] = {}
    for where in (table, web):
        for method in ("random_kvtp", "prumerge_kvtp"):
            told[where, method, "20%"] = Formula(fifth, "shapes")
        told[where, "keyvideollm", ""] = Formula(fifth, "shapes")
        told[where, "tome_kvtp", "20%"] = (
            Formula(fifth, "unexplained", "two points more than the other methods")
            if size == "7b"
            else Formula(fifth, "shapes")
        )
        told[where, "fastv", ""] = (
            Formula(half, "shapes")
            if size == "7b"
            else Formula(half, "unexplained", f"three of {layers} layers whole; the 7B's 25/28 would give 56.6")
        )
    for method in ("random", "prumerge", "tome"):
        extra = size == "7b" and method == "tome"
        told[web, method, ""] = (
            Formula(fifth, "unexplained", "two points more than the other methods")
            if extra
            else Formula(fifth, "shapes")
        )
        told[table, method, ""] = Formula(
            ratio([0.1 * video]), "unexplained", "r = 0.1, the released code's default; the web page has other figures"
        )
    return told


def _vista(shape: LLMShape) -> Mapping[Key, Formula]:
    """64 frames of 14 × 14 tokens."""
    frames, each, side = 64, 196, 14
    plain, grid = frames * each + 1 + TEXT, frames * (each + side) + TEXT
    told: dict[Key, Formula] = {
        ("vista_table1", "dycoke", "26.6%"): Formula(vista_ratio(17 * each + 1 + TEXT, plain), "shapes"),
        ("vista_table2", "dycoke", "26.6%"): Formula(vista_ratio(17 * each + TEXT, grid), "shapes"),
        ("vista_table8", "dycoke", "26.6%"): Formula(vista_ratio(17 * each + TEXT, grid), "shapes"),
    }
    rows = {25: 13.54, 20: 12.55, 15: 12.20, 10: 10.78}
    for percent, newlines in rows.items():
        kept, mark = percent / 100 * frames * each, f"{percent}%"
        for method in ("vista", "visionzip", "fastvid", "framefusion"):
            told["vista_table1", method, mark] = Formula(vista_ratio(kept + 1 + TEXT, plain), "shapes")
        told["vista_table8", "vista", mark] = Formula(vista_ratio(kept + TEXT, grid), "shapes")
        told["vista_table2", "vista", mark] = Formula(
            vista_ratio(kept + frames * newlines + TEXT, grid), "fitted", f"{newlines} newlines per frame"
        )
        all_newlines = frames * (each * percent // 100 + side) + TEXT
        told["vista_table2", "visionzip", mark] = Formula(vista_ratio(all_newlines, grid), "shapes")
    video, text = 32 * 13 * 23, 120
    for percent in (25, 15):
        ratio = vista_attention_ratio(shape, round(percent / 100 * video) + text, video + text)
        note = f"{video} video and {text} text tokens"
        told["vista_table3", "vista", f"{percent}%"] = Formula(ratio, "fitted", note)
        told["vista_table3", "fastvid", f"{percent}%"] = Formula(ratio, "fitted", note)
    return told


def _llm_vtp() -> Mapping[Key, Formula]:
    """Llama-7B; α of the video's tokens after layer M."""

    def tflops(full: int, kept: int, layer: int) -> float:
        return fastv(LLAMA_7B, [full] * layer + [kept] * (32 - layer)) / 1e12

    def fitted(computed: float, text: int) -> Formula:
        return Formula(computed, "fitted", f"{text} text tokens")

    pllava, text = 16 * 144, PROMPTS["pllava_7b"]
    told: dict[Key, Formula] = {
        ("llm_vtp_table3", "none", ""): fitted(tflops(pllava + text, 0, 32), text),
        ("llm_vtp_table3", "look_m", ""): fitted(tflops(pllava + text, 0, 32), text),
        ("llm_vtp_table3", "llm_vtp", ""): fitted(tflops(pllava + text, 16 * ceil(0.2 * 144) + text, 5), text),
        ("llm_vtp_table3", "prumerge_plus", ""): Formula(
            tflops(round(0.358 * pllava) + text, 0, 32), "unexplained", f"the stated 35.8 % and {text} text tokens"
        ),
    }
    for backbone, video in (("videochat2_7b", 96), ("st_llm_7b", 512)):
        text = PROMPTS[backbone]
        whole, cut = tflops(video + text, 0, 32), tflops(video + text, ceil(0.1 * video) + text, 10)
        told["llm_vtp_table8", "none", "100%", backbone] = fitted(whole, text)
        told["llm_vtp_table8", "look_m", "10%", backbone] = fitted(whole, text)
        told["llm_vtp_table8", "llm_vtp", "10%", backbone] = fitted(cut, text)
    return told


def lines(cells: Sequence[Published]) -> Iterator[dict[str, object]]:
    """For a table."""
    for cell in cells:
        computed = cell.formula.computed
        yield {
            "table": cell.table,
            "method": cell.method,
            "setting": cell.setting,
            "published": cell.value,
            "computed": computed,
            "difference": None if computed is None else computed - cell.value,
            "status": cell.formula.status,
            "note": cell.formula.note,
        }
