"""The papers' own formulas against the papers' own cells."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from backbone import hosts
from metric.shapes import QWEN2_7B, QWEN2_72B, onevision
from toys import component

from kvtp.command import ROOT
from kvtp.metric.account import Account
from kvtp.metric.conventions import fastv, sparsevlm
from kvtp.metric.dry import DryBackbone
from kvtp.metric.meter import QUESTION, Nothing, Unseen
from kvtp.metric.published import Formula, Published, formula, published
from kvtp.pipeline import Pipeline
from kvtp.types import Frames

VICUNA = str(ROOT / "shapes/llm/vicuna_7b")
FOLDER = Path(__file__).resolve().parents[2] / "published"


@pytest.fixture(scope="module")
def accounts(tiny) -> list[Account]:
    made = []
    for shape in (QWEN2_7B, QWEN2_72B):
        backbone = tiny()
        backbone.__dict__["config"] = onevision(shape)  # as if its checkpoint had been read
        made.append(Account(backbone))
    return made


@pytest.fixture(scope="module")
def cells(accounts) -> list[Published]:
    return published(FOLDER, *accounts)


def told() -> list[tuple[str, dict[str, str]]]:
    """Table and line of every FLOPs cell but the unpruned 100 %: by the files' columns, not by their names."""
    found = []
    for path in sorted(FOLDER.glob("*.csv")):
        with path.open() as file:
            rows = [row for row in csv.DictReader(file) if "value" in row and "metric" in row]
        wanted = [row for row in rows if row["metric"] in ("tflops", "flops_ratio") and row["value"] != "100"]
        found += [(path.stem, row) for row in wanted]
    return found


def test_no_cell_is_left_out(cells) -> None:
    """Counted in the files."""
    assert Counter(cell.table for cell in cells) == Counter(table for table, _ in told())


def test_what_lies_beside_the_tables_is_not_read(accounts, tmp_path) -> None:
    columns = "paper,table,backbone,method,setting,benchmark,metric,value,unit\n"
    (tmp_path / "llm_vtp_table3.csv").write_text(
        columns + "llm_vtp,table3,pllava_7b,none,,vcgbench,tflops,26.8,TFLOPs\n"
    )
    (tmp_path / "anomalies.csv").write_text("table,where,printed\nkvtp_table2,here,3\n")
    assert [cell.value for cell in published(tmp_path, *accounts)] == [26.8]


def test_one_cell_is_as_in_the_list(cells) -> None:
    """From the repository's shapes, where the list here has those typed in metric/shapes.py; a cell or table that is
    not known is no error."""
    for cell, (table, row) in zip(cells, told(), strict=True):
        one = formula(table, row["method"], row["setting"], row["backbone"])
        assert (one.status, one.note) == (cell.formula.status, cell.formula.note)
        assert one.computed == pytest.approx(cell.formula.computed)
    nothing = Formula(None, "unexplained", "no formula is known")
    assert formula("vista_table1", "pool", "retention=25%", "llava_onevision_7b") == nothing
    assert formula("another_table1", "none", "", "tiny") == nothing


def test_what_follows_from_shapes_comes_out(cells) -> None:
    """Within 0.6 points for KVTP, which prints whole percents, 0.2 for Vista-LLM; and there are cells of each."""
    seen = Counter()
    for cell in cells:
        if cell.formula.status == "shapes":
            reach = 0.6 if cell.table.startswith("kvtp") else 0.2
            assert cell.formula.computed == pytest.approx(cell.value, abs=reach), cell
            seen[cell.table] += 1
    assert seen["kvtp_table2"] == 4
    assert seen["kvtp_table3"] == 4
    assert seen["kvtp_web_llava_video_7b"] == 5 + 1
    assert seen["vista_table1"] == 17
    assert seen["vista_table8"] == 5


def test_what_was_fitted_says_with_what(cells) -> None:
    for cell in cells:
        assert (cell.formula.status == "shapes") == (cell.formula.note == "")
        assert cell.formula.computed is not None or cell.formula.status == "unexplained"


def test_the_unexplained_stay_marked(cells) -> None:
    """The list of the specification: uniform rows of the paper, ToMe's two points, FastV at 72B, and FrameFusion."""
    marked = {(cell.table, cell.method) for cell in cells if cell.formula.status == "unexplained"}
    for key in (
        *(("kvtp_table2", method) for method in ("random", "tome", "prumerge", "tome_kvtp")),
        *(("kvtp_table3", method) for method in ("random", "tome", "prumerge", "fastv")),
        ("vista_table2", "framefusion"),
        ("llm_vtp_table3", "prumerge_plus"),
    ):
        assert key in marked


# table, method, backbone where the table has several: TFLOPs as printed, as computed here
LLM_VTP = {
    ("llm_vtp_table3", "none", None): (26.8, 26.802),
    ("llm_vtp_table3", "look_m", None): (26.7, 26.802),  # its prefill is the unpruned one
    ("llm_vtp_table3", "prumerge_plus", None): (9.2, 9.385),
    ("llm_vtp_table3", "llm_vtp", None): (8.8, 8.814),
    ("llm_vtp_table8", "none", 1.1): (1.1, 1.103),
    ("llm_vtp_table8", "look_m", 1.1): (1.1, 1.103),
    ("llm_vtp_table8", "llm_vtp", 0.5): (0.5, 0.504),
    ("llm_vtp_table8", "none", 5.4): (5.4, 5.397),
    ("llm_vtp_table8", "look_m", 5.4): (5.4, 5.397),
    ("llm_vtp_table8", "llm_vtp", 2.1): (2.1, 2.117),
}


def test_every_cell_of_llm_vtp(cells) -> None:
    """Tables 3 and 8, to the residuals of the specification."""
    mine = [cell for cell in cells if cell.table.startswith("llm_vtp")]
    assert len(mine) == len(LLM_VTP)
    for cell in mine:
        mark = cell.value if cell.table == "llm_vtp_table8" else None
        printed, computed = LLM_VTP[cell.table, cell.method, mark]
        assert (cell.value, cell.formula.computed) == (printed, pytest.approx(computed, abs=5e-4))


@pytest.mark.parametrize(
    ("backbone", "where", "text", "layer", "alpha", "full", "expected"),
    [
        ("pllava_7b", {"checkpoint": str(ROOT / "shapes/pllava_7b")}, 66, 5, 0.2, 26.802, 8.814),
        ("videochat2_7b", {"checkpoint": "not_there", "llm": VICUNA}, 13, 10, 0.1, 1.103, 0.504),
        ("st_llm_7b", {"llm": VICUNA}, 10, 10, 0.1, 5.397, 2.201),
    ],
)
def test_llm_vtp_itself_makes_its_rows(backbone, where, text, layer, alpha, full, expected) -> None:
    """The method on models of full size, 16 pictures: its own integers by the papers' formula. Of ST-LLM's 32 tokens a
    frame ⌈3.2⌉ stay, where the table's 2.1 has a tenth of the 512."""
    dry = DryBackbone(hosts.host(backbone, **where), text, 1)
    stages = {"scout": "none", "relevance": "uniform", "budget": "uniform"}
    made = {stage: component(stage, option) for stage, option in stages.items()}
    pruner = component("pruner", "llm_vtp", layer=layer, retention_ratio=alpha)
    line = Pipeline(Nothing(), Unseen(), dry, pruner=pruner, **made)
    pixels = torch.zeros(1, dtype=torch.uint8).expand(16, 360, 640, 3)
    frames = Frames(pixels, torch.arange(16).double(), torch.arange(16), 16.0, "none")
    answer, spent = line.answer(QUESTION, frames, dry.encode(frames, line.cues))
    told = Account(dry).flops(answer, 16, frames.size, spent, line.cues)
    assert told["full_fastv"] / 1e12 == pytest.approx(full, abs=5e-4)
    assert told["fastv"] / 1e12 == pytest.approx(expected, abs=5e-4)


def test_by_hand() -> None:
    """FastV's formula for three rows of Qwen2-7B's width, and SparseVLM's with one matrix more."""
    n, d, m = 3, 3584, 18944
    assert fastv(QWEN2_7B, [n, n]) == 2 * 2 * (4 * n * d**2 + 2 * n**2 * d + 2 * n * d * m)
    assert sparsevlm(QWEN2_7B, [n]) - fastv(QWEN2_7B, [n]) == 2 * n * d * m
