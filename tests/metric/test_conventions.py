"""The papers' own formulas against the papers' own cells."""

import csv
from pathlib import Path

import pytest
from metric.shapes import LLAMA_7B, QWEN2_7B

from kvtp.metric.conventions import fastv, kvtp_ratio, sparsevlm, vista_attention_ratio, vista_ratio

PUBLISHED = Path(__file__).resolve().parents[2] / "published"
SEEN = {"7b": 128 * 301.61e9, "72b": 128 * 345.04e9}  # THOP MACs of tower and projector, 128 frames
LLM = {"7b": 6.5253e9, "72b": 70.2126e9}  # per row, all layers
VIDEO, TEXT = 128 * 182, 100  # rows: 13 × 13 pooled, and a newline after each row


def cell(table: str, method: str, setting: str = "", metric: str = "flops_ratio") -> float:
    with (PUBLISHED / f"{table}.csv").open() as file:
        found = [
            row["value"]
            for row in csv.DictReader(file)
            if row["method"] == method and row["metric"] == metric and setting in row["setting"]
        ]
    (value,) = found
    return float(value)


@pytest.mark.parametrize(
    ("table", "method"),
    [
        ("kvtp_table2", "random_kvtp"),
        ("kvtp_table2", "prumerge_kvtp"),
        ("kvtp_table2", "keyvideollm"),
        ("kvtp_web_llava_video_7b", "random"),
        ("kvtp_web_llava_video_7b", "prumerge"),
        ("kvtp_table3", "random_kvtp"),
        ("kvtp_table3", "prumerge_kvtp"),
        ("kvtp_web_llava_video_72b", "random"),
        ("kvtp_web_llava_video_72b", "prumerge"),
    ],
)
def test_kvtp_at_a_fifth(table, method):
    size = "72b" if "72b" in table or "table3" in table else "7b"
    ratio = kvtp_ratio(SEEN[size], LLM[size], [0.2 * VIDEO + TEXT], VIDEO + TEXT)
    assert ratio == pytest.approx(cell(table, method), abs=0.6)


def test_fastv_in_kvtp():
    """Three layers of 28 whole, half of the tokens after."""
    kept = [VIDEO + TEXT] * 3 + [VIDEO / 2 + TEXT] * 25
    ratio = kvtp_ratio(SEEN["7b"], LLM["7b"], kept, VIDEO + TEXT)
    assert ratio == pytest.approx(cell("kvtp_table2", "fastv"), abs=0.6)


@pytest.mark.parametrize("percent", [25, 20, 15, 10])
def test_vista_without_newlines(percent):
    """64 frames of 196 tokens, one newline, 100 text tokens: tables 1 and 8."""
    full = 64 * 196 + 1 + 100
    kept = percent / 100 * 64 * 196 + 1 + 100
    setting = f"retention={percent}%"
    assert vista_ratio(kept, full) == pytest.approx(cell("vista_table1", "vista", setting), abs=0.2)
    kept, grid = percent / 100 * 64 * 196 + 100, 64 * 210 + 100  # against the baseline with a newline per row
    assert vista_ratio(kept, grid) == pytest.approx(cell("vista_table8", "vista", setting), abs=0.2)


def test_dycoke_in_vista():
    """17 of 64 frames whole: tables 1 and 8."""
    assert vista_ratio(17 * 196 + 101, 64 * 196 + 101) == pytest.approx(cell("vista_table1", "dycoke"), abs=0.2)
    assert vista_ratio(17 * 196 + 100, 64 * 210 + 100) == pytest.approx(cell("vista_table8", "dycoke"), abs=0.2)


@pytest.mark.parametrize("percent", [25, 20, 15, 10])
def test_visionzip_with_all_newlines(percent):
    """⌊196 r⌋ tokens and all 14 newlines of every frame: table 2."""
    kept = 64 * (196 * percent // 100 + 14) + 100
    published = cell("vista_table2", "visionzip", f"retention={percent}%")
    assert vista_ratio(kept, 64 * 210 + 100) == pytest.approx(published, abs=0.6)


@pytest.mark.parametrize("percent", [25, 15])
def test_vista_with_attention(percent):
    """Table 3; the number of rows is fitted: 32 · 13 · 23 of video, 120 of text."""
    video = 32 * 13 * 23
    ratio = vista_attention_ratio(QWEN2_7B, round(percent / 100 * video) + 120, video + 120)
    assert ratio == pytest.approx(cell("vista_table3", "vista", f"retention={percent}%"), abs=0.06)


def test_llm_vtp():
    """PLLaVA, 16 frames of 144 tokens and 66 of text; a fifth of each frame after layer 5: table 3."""
    full, kept = 2304 + 66, 16 * 29 + 66
    assert fastv(LLAMA_7B, [full] * 32) / 1e12 == pytest.approx(
        cell("llm_vtp_table3", "none", metric="tflops"), abs=0.05
    )
    cut = fastv(LLAMA_7B, [full] * 5 + [kept] * 27) / 1e12
    assert cut == pytest.approx(cell("llm_vtp_table3", "llm_vtp", metric="tflops"), abs=0.05)


def test_sparsevlm_counts_the_third_matrix():
    """T·(4nd² + 2n²d + 3ndm) MACs by hand: n = 3, d = 4096, m = 11008."""
    n, d, m = 3, 4096, 11008
    assert sparsevlm(LLAMA_7B, [n] * 32) == 2 * 32 * (4 * n * d * d + 2 * n * n * d + 3 * n * d * m)
