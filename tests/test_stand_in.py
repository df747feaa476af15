"""What debug=tiny asks instead of what an experiment's rows say: from the real configuration, nothing runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import composed_rows

from kvtp.command import CONF
from kvtp.config import Row

DEEP = "{method: llm_vtp, backbone: pllava_7b, benchmark: mvbench, frames: segments, retention_ratio: 0.3"


def one(*words: str) -> Row:
    (row,) = composed_rows(*words)
    return row


def test_a_row_of_a_paper_is_another_run() -> None:
    """Backbone, frames and layer are the small world's, the set is its miniature, what is left stays; the entry is
    still the experiment's."""
    words = f"rows=[{DEEP}, pruner.layer: 10, backbone.frames: 16}}]"
    full, small = one(words, "benchmark.root=miniature"), one(words, "debug=tiny")
    assert [full.choices[group] for group in ("backbone", "frames", "method")] == ["pllava_7b", "segments", "llm_vtp"]
    assert [small.choices[group] for group in ("backbone", "frames", "method")] == ["tiny", "uniform", "llm_vtp"]
    assert (full.config["pruner"]["layer"], small.config["pruner"]["layer"]) == (10, 2)
    assert (full.config["backbone"]["frames"], small.config["frames"]["count"]) == (16, 4)
    assert full.config["pruner"]["alpha"] == small.config["pruner"]["alpha"] == 0.3
    assert small.choices["benchmark"] == "mvbench"
    assert small.config["benchmark"]["root"] == "miniature"
    assert full.run_id != small.run_id
    assert full.entry == small.entry
    said = {"method": "llm_vtp", "backbone": "pllava_7b", "benchmark": "mvbench", "frames": "segments"}
    assert small.entry == said | {"retention_ratio": 0.3, "pruner.layer": 10, "backbone.frames": 16}


@pytest.mark.parametrize(("layer", "instead"), [(1, 1), (2, 2), (5, 1), (10, 2), (15, 2), (20, 3), (25, 3)])
def test_layers_of_32_are_layers_of_4(layer: int, instead: int) -> None:
    row = one(f"rows=[{DEEP}, pruner.layer: {layer}}}]", "debug=tiny")
    assert row.config["pruner"]["layer"] == instead
    assert row.entry["pruner.layer"] == layer


def test_no_layer_of_the_papers_is_too_deep() -> None:
    """The tiny model's number of layers is that of its checkpoint."""
    depth = yaml.safe_load((CONF.parent / "checkpoints" / "tiny" / "config.json").read_text())["text_config"]
    instead = yaml.safe_load((CONF / "debug" / "tiny.yaml").read_text())["stand_in"]["instead"]["pruner.layer"]
    asked = {
        row["pruner.layer"]
        for path in (CONF / "experiment").glob("*.yaml")
        if path.stem.startswith(("kvtp_", "llm_vtp_", "vista_"))
        for row in yaml.safe_load(path.read_text())["rows"]
        if "pruner.layer" in row
    }
    assert len(asked) >= 5
    assert {
        layer: stood for layer in asked if not 0 <= (stood := instead.get(layer, layer)) < depth["num_hidden_layers"]
    } == {}


VISTA = "method: vista, backbone: llava_video_7b, benchmark: mlvu, retention_ratio: 0.25"
KVTP = "method: tome_kvtp, backbone: llava_video_7b, benchmark: sparsekv_qa_nextqa, retention_ratio: 0.2"
TRAINED = "'${paths.outputs}/train/any/model'"


@pytest.mark.parametrize(("said", "section", "name"), [
    (f"{VISTA}, scout.checkpoint: Salesforce/blip2-itm-vit-g", "scout", "tiny_qformer_itm"),
    (f"{VISTA}, scout.checkpoint: {TRAINED}", "scout", "tiny_qformer"),
    (VISTA, "scout", "tiny_qformer"),
    (f"{KVTP}, relevance.checkpoint: {TRAINED}", "relevance", "tiny_kvtp"),
    (f"{KVTP}, backbone.checkpoint: {TRAINED}", "backbone", "tiny"),
])  # fmt: skip
def test_checkpoints_are_the_small_world_s(said: str, section: str, name: str) -> None:
    row = one(f"rows=[{{{said}}}]", "debug=tiny")
    assert Path(row.config[section]["checkpoint"]) == CONF.parent / "checkpoints" / name


def test_two_rows_may_be_one_small_run() -> None:
    """The tiny tower has no class token: PruMerge+ is PruMerge, and so is one backbone any other."""
    both = composed_rows(
        "rows=[{method: prumerge_plus, backbone: pllava_7b, benchmark: mvbench},"
        "{method: prumerge, backbone: tarsier_7b, benchmark: mvbench}]",
        "debug=tiny",
    )
    assert [row.choices["method"] for row in both] == ["prumerge"]
    assert [entry["method"] for entry in (both[0].entry, *both[0].same)] == ["prumerge_plus", "prumerge"]
    assert [entry["backbone"] for entry in (both[0].entry, *both[0].same)] == ["pllava_7b", "tarsier_7b"]


def test_the_command_line_wins() -> None:
    row = one(f"rows=[{{{VISTA}}}]", "debug=tiny", "benchmark.root=mine", "benchmark.limit=3", "frames.count=6")
    assert (row.config["benchmark"]["root"], row.config["benchmark"]["limit"]) == ("mine", 3)
    assert row.config["frames"]["count"] == 6
    assert one(f"rows=[{{{VISTA}}}]", "debug=tiny", "backbone=qwen2_5_vl_7b").choices["backbone"] == "qwen2_5_vl_7b"


def test_what_holds_for_all_rows_is_given_and_the_entries_stay() -> None:
    """So a report finds the table's line, and tells by which words its run is another; but a benchmark is the one that
    is asked."""
    rows = composed_rows("experiment=llm_vtp_table4", "retention_ratio=0.5")
    assert [(row.entry["pruner.merge"], row.entry["retention_ratio"]) for row in rows] == [(False, 0.1), (True, 0.1)]
    assert {row.retention_ratio for row in rows} == {0.5}
    assert all("retention_ratio=0.5" in row.given for row in rows)
    assert one(f"rows=[{{{VISTA}}}]", "benchmark=mlvu").entry["benchmark"] == "mlvu"


SEEDS = "rows=[{method: tome, seed: 1},{method: tome, seed: 2},{method: tome, seed: 3},{method: tome, seed: 4}]"


@pytest.mark.parametrize(("instead", "seeds"), [
    ("{}", (1, 2, 3, 4)),
    ("{seed: 9}", (9,)),
    ("{seed: null}", (0,)),  # conf/eval.yaml's
    ("{seed: {1: 5, 3: 6}}", (5, 2, 6, 4)),
    ("{seed: {1: 5, otherwise: 7}}", (5, 7)),
    ("{seed: {1: null, 2: 8, otherwise: 7}}", (0, 8, 7)),
    ("{method: {tome: random}}", (1, 2, 3, 4)),
])  # fmt: skip
def test_values_by_hand(instead: str, seeds: tuple[int, ...]) -> None:
    """A value for all, none for all, values by what is said, `otherwise`; and every entry is kept."""
    found = composed_rows(
        SEEDS, f"+stand_in={{instead: {instead}, beside: {{seed: {{retention_ratio: 0.7}}}}}}", "benchmark=shapes"
    )
    assert tuple(row.config["seed"] for row in found) == seeds
    assert {row.choices["method"] for row in found} == {"random" if "random" in instead else "tome"}
    for row in found:
        assert row.config["budget"]["retention_ratio"] == (0.7 if row.config["seed"] else 0.2), "of keys that stay"
    told: list[Any] = [entry["seed"] for row in found for entry in (row.entry, *row.same)]
    assert sorted(told) == [1, 2, 3, 4]
