"""The FLOPs cells of the papers' tables, and what reproduces them: from public shapes, without weights."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from kvtp.paper.published import PAPERS, Cell, read, tables

LLAMA_7B = LLMShape(layers=32, width=4096, heads=32, kv_heads=32, head_dim=128, ffn=11008, vocabulary=32000)
METRICS = ("flops_ratio", "tflops")
TEXT = 100  # tokens of the prompt, where nothing is said of it
# those with which LLM-VTP's unpruned TFLOPs come out, by backbone
PROMPTS = {"pllava_7b": 66, "videochat2_7b": 13, "st_llm_7b": 10}
SQUARE = (384, 384)  # pictures; these towers make squares of any
WITHIN = 0.5  # points
KINDS = {
    "shapes": "from shapes",
    "metered": "as the method is built here",
    "fitted": "with a parameter chosen to fit",
    "unexplained": "by a guess",
}

Key = tuple[str, ...]


# Why formulas miss; the figures in these are tried in tests/metric/test_conventions.py
TOME = (
    "two points more than the other methods have; 3 TMACs for ToMe itself, 24 GMACs a frame, would give them, and "
    "nothing that shows at 72B, but its matching has 0.03 a frame, and THOP sees none of it"
)
SHORT = (
    "100 text tokens give 22.4, from 123 on they give 22.5 (and up to 136 the 7B's 36.5); 13 tokens a row without a "
    "newline give 22.6 (and the 7B 37.4)"
)
FASTV = "three of 28 layers whole; two give 63.1, and 14 tokens a row 64.0, with which the methods above have 35.5"
FUSED = "its newlines are visual tokens, too, a quarter of all is 25.6; 26.6 seems a misprint, table 1 has 25.5"
HOLITOM = "how many tokens and newlines stay depends on the film"
EMPTY_ROWS = "how many newlines stay, those of rows that keep a token, depends on the film"
FASTV_72B = "seven or eight would give 55.8 or 56.4, 3/28 of the layers, as at 7B, 56.7"
UNIFORM_72B = (
    "r = 0.1, the released code's default, with which the 7B's come out; here it takes 0.185, and the web page has 23; "
    "runs keep 0.2"
)


@dataclass(frozen=True)
class Formula:
    """`status`: `shapes` = follows from public shapes, r and 100 tokens of text; `metered` = no formula is known, but
    what the method as it is built here leaves; `fitted` = with a parameter chosen to fit, which `note` tells;
    `unexplained` = the nearest that is known, or nothing. `reason`: why it is not what is printed, where it is not."""

    computed: float | None
    status: Literal["shapes", "metered", "fitted", "unexplained"]
    note: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Published:
    """A cell: percent of the unpruned cost, or TFLOPs. `table`: the file's name, without its ending; `whole`: what is
    printed in it for this backbone unpruned."""

    table: str
    method: str
    setting: str
    backbone: str
    value: float
    whole: float
    formula: Formula

    @property
    def off(self) -> float | None:
        """Computed minus printed, in points of the unpruned cost."""
        return None if self.formula.computed is None else 100 * (self.formula.computed - self.value) / self.whole

    @property
    def within(self) -> bool:
        return self.off is not None and abs(self.off) <= WITHIN


def published(folder: Path, small: Account, large: Account) -> list[Published]:
    """What `stated` says of all tables under `folder`. `small`, `large`: LLaVA-OneVision's shape with Qwen2-7B and with
    Qwen2-72B (`account`)."""
    known = {**_kvtp("7b", small), **_kvtp("72b", large), **_vista(small.shape), **_llm_vtp()}

    def found(cell: Cell) -> Formula:
        return _find(known, cell.table, cell.method, cell.setting, cell.backbone)

    return [cell for table in tables(folder) for cell in stated(read(folder, table), found)]


def stated(cells: Sequence[Cell], found: Callable[[Cell], Formula]) -> list[Published]:
    """Of one table every figure of METRICS, unpruned ones of 100 % left out: that is no finding."""
    figures = {cell: cell.figure for cell in cells if cell.metric in METRICS}
    whole = {cell.backbone: figure for cell, figure in figures.items() if cell.method == "none"}
    return [
        Published(*(cell.table, cell.method, cell.setting, cell.backbone), figure, full or 100.0, found(cell))
        for cell, figure in figures.items()
        if figure is not None and (cell.metric, cell.method) != ("flops_ratio", "none")
        for full in (whole.get(cell.backbone),)
    ]


def formula(table: str, method: str, setting: str, backbone: str) -> Formula:
    """Of one cell, with the words of its line; `table` as in `Published`. The shapes are those of the repository, read
    and counted once, which takes a second each."""
    paper = next((paper.rstrip("_") for paper in PAPERS if table.startswith(paper)), "")
    return _find(_known(paper, "72b" if backbone.endswith("72b") else "7b"), table, method, setting, backbone)


@cache
def _known(paper: str, size: str) -> Mapping[Key, Formula]:
    """What is known of a paper's tables of one size of model."""
    if paper == "kvtp":
        return _kvtp(size, account(size))
    if paper == "vista":
        return _vista(account(size).shape)
    return _llm_vtp() if paper == "llm_vtp" else {}


@cache
def account(size: str) -> Account:
    """LLaVA-OneVision's shape with Qwen2-7B or -72B, as it lies in the repository."""
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

    fifth, tenth = ratio([0.2 * video]), ratio([0.1 * video])
    half = ratio([video] * 3 + [0.5 * video] * (layers - 3))
    kept = Formula(fifth, "shapes", reason=SHORT if size == "72b" else "")
    tome = Formula(fifth, "unexplained", TOME) if size == "7b" else kept
    fastv = {
        "7b": Formula(half, "shapes", reason=FASTV),
        "72b": Formula(half, "unexplained", f"three of {layers} layers whole; {FASTV_72B}"),
    }[size]
    told: dict[Key, Formula] = {}
    for where in (table, web):
        for method in ("random_kvtp", "prumerge_kvtp"):
            told[where, method, "20%"] = kept
        told[where, "keyvideollm", ""] = kept
        told[where, "tome_kvtp", "20%"] = tome
        told[where, "fastv", ""] = fastv
    for method in ("random", "prumerge", "tome"):
        told[web, method, ""] = tome if method == "tome" else kept
        reason = {"7b": TOME if method == "tome" else "", "72b": UNIFORM_72B}[size]
        note = "r = 0.1, the released code's default; runs keep 0.2, with which the web page's figures come out"
        told[table, method, ""] = Formula(tenth, "unexplained", note, reason)
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
    for percent in (25, 20, 15, 10):
        kept, mark = percent / 100 * frames * each, f"{percent}%"
        fused = vista_ratio(percent / 100 * frames * (each + side) + TEXT, grid)  # whose newlines are visual, too
        for table in ("vista_table2", "vista_table8"):
            told[table, "framefusion", mark] = (
                Formula(fused, "unexplained", FUSED) if percent == 25 else Formula(fused, "shapes")
            )
        told["vista_table2", "holitom", mark] = Formula(None, "unexplained", HOLITOM)
        for method in ("vista", "visionzip", "fastvid", "framefusion"):
            told["vista_table1", method, mark] = Formula(vista_ratio(kept + 1 + TEXT, plain), "shapes")
        told["vista_table8", "vista", mark] = Formula(vista_ratio(kept + TEXT, grid), "shapes")
        told["vista_table2", "vista", mark] = Formula(None, "unexplained", EMPTY_ROWS)
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
            tflops(round(0.358 * pllava) + text, 0, 32),
            "unexplained",
            f"the stated 35.8 % and {text} text tokens",
            f"the stated 35.8 % and {text} text tokens; 35 % give 9.2",
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
            "backbone": cell.backbone,
            "method": cell.method,
            "setting": cell.setting,
            "published": cell.value,
            "computed": computed,
            "difference": None if computed is None else computed - cell.value,
            "points": cell.off,
            "status": cell.formula.status,
            "note": cell.formula.note,
            "reason": cell.formula.reason,
        }


def agreement(cells: Sequence[Published]) -> tuple[str, ...]:
    """How near the computed figures come to the printed ones, of what kind those are that do, and why others do not:
    sentences."""
    near, far = [cell for cell in cells if cell.within], [cell for cell in cells if not cell.within]
    kinds = [(sum(cell.formula.status == status for cell in near), told) for status, told in KINDS.items()]
    parts = ", ".join(f"{count} {told}" for count, told in kinds if count)
    notes = [
        f"Computed as the paper counts: {len(near)} of {len(cells)} FLOPs within {WITHIN:g} points of the unpruned cost"
        f"{parts and f': {parts}'}."
    ]
    if far:
        why = _told(far, lambda cell: cell.formula.reason or cell.formula.note or "no reason is known")
        notes.append(f"Not within: {'; '.join(why)}.")
    for status, told in KINDS.items():
        if status != "shapes" and (some := [cell for cell in near if cell.formula.status == status]):
            why = _told(some, lambda cell: cell.formula.note)
            notes.append(f"{told[0].upper()}{told[1:]}: {'; '.join(why)}.")
    return tuple(notes)


def _told(cells: Sequence[Published], why: Callable[[Published], str]) -> Iterator[str]:
    """Those of one reason together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        name = " ".join(filter(None, (cell.method, *_marks(cell.setting, cell.backbone))))
        groups[why(cell)].append(name if cell.off is None else f"{name} ({cell.off:+.2f})")
    return (f"{', '.join(names)}: {reason}" for reason, names in groups.items())
