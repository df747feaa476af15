"""What rows of full size cost, against figures that are typed here (from specs of the models, or as printed)."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from thop import profile
from transformers import AutoConfig, SiglipModel

from kvtp.command import CONF, ROOT, groups
from kvtp.config import Row
from kvtp.metric.published import Formula, account, agreement, published
from kvtp.paper import computed as module
from kvtp.paper.computed import STAGES, Computed, as_published, completed, computed
from kvtp.paper.published import tables
from kvtp.paper.sheets import Rows, table

# GMACs as THOP counts: SigLIP's vision with its head per picture, its text tower per text of 64 tokens
SIGLIP_PICTURE, SIGLIP_TEXT = 300.36, 26.3
TOWER, PROJECTOR, QWEN2, HEAD = 289.24, 12.37, 6.5253, 0.545  # likewise LLaVA's, and of Qwen2-7B per token, per prompt
SMALL = ("backbone=llava_onevision_7b", "backbone.frames=8")


def row(method: str, *overrides: str) -> Row:
    """As of an experiment, its settings alone."""
    words = ["benchmark=shapes", f"method={method}", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        cfg = compose("eval", words, return_hydra_config=True)
    config = {stage: OmegaConf.to_container(cfg[stage], resolve=True) for stage in (*STAGES, "benchmark")}
    choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
    return Row(method, "id", Path("nowhere"), choices, tuple(words), config)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("computed") / "not" / "there"


@pytest.fixture(scope="module")
def told(cache) -> Callable[..., list[Computed]]:
    """Of rows on one backbone, whose network is then built once."""
    return lambda host, *rows: computed([row(method, *host, *own) for method, *own in rows], cache)


@pytest.fixture
def metered(monkeypatch) -> list[Row]:
    """The rows that are metered from now on."""
    rows, meter = [], module.meter

    def watch(given, *rest):
        rows.extend(given)
        return meter(given, *rest)

    monkeypatch.setattr(module, "meter", watch)
    return rows


# -- the predictor and the scout ---------------------------------------------------------------------------------------


def test_siglips_shape_is_the_released_one() -> None:
    """THOP on the whole model: 300.36 GMACs a picture, 26.3 a text; 38.4 TMACs for 128 pictures."""
    config = AutoConfig.from_pretrained(ROOT / "shapes/siglip_so400m")
    with torch.device("meta"):
        model, pixels = SiglipModel(config), torch.empty(1, 3, 384, 384)
        words = torch.zeros(1, config.text_config.max_position_embeddings, dtype=torch.long)
    picture = profile(model.vision_model, (pixels,), verbose=False)[0] / 1e9
    text = profile(model.text_model, (words,), verbose=False)[0] / 1e9
    assert words.shape == (1, 64)
    assert (picture, text) == (pytest.approx(SIGLIP_PICTURE, abs=0.01), pytest.approx(SIGLIP_TEXT, abs=0.05))
    assert 128 * picture / 1000 == pytest.approx(38.4, abs=0.05)


KVTP = ("backbone=llava_video_7b", "backbone.frames=128", "backbone.newline=one_token")


def test_kvtps_fifth_on_llava_video(told) -> None:
    """By THOP, 128 frames of 14 × 14 tokens: everything, a fifth of it (35.5 %, where the paper prints 36), and the
    predictor, which the paper leaves out: 38.4 TMACs, and what THOP does not see of it, by hand: attention's products,
    keys, values, query and output of the pooling head, and the fusion head. (It sees norms, which are 0.06 % of it.)"""
    full, fifth, alone = told(
        KVTP,
        ("none",),
        ("random_kvtp", "retention_ratio=0.2", "relevance.checkpoint=not/there"),
        ("random_kvtp", "retention_ratio=0.2", "relevance.fusion=none"),
    )
    seen, tokens = 128 * (TOWER + PROJECTOR), 128 * 196
    everything = seen + (tokens + 1 + 100) * QWEN2 + HEAD
    assert full.costs["flops/thop_tmacs"] == pytest.approx(everything / 1000, rel=1e-4)
    kept = seen + (tokens // 5 + 1 + 100) * QWEN2 + HEAD
    assert fifth.costs["flops/thop_ratio"] == pytest.approx(kept / everything, abs=1e-4)
    assert as_published("kvtp_table2", fifth, full) == pytest.approx(35.5, abs=0.1)
    assert as_published("kvtp_table2", full, full) == 100
    width = 1152
    attention = 27 * 2 * width * (128 * 729**2 + 64**2)
    pooling = 128 * (729 * (2 * width**2 + 2 * width) + 2 * width**2)
    fusion = 128 * width * (2 * 2 * 128 + 3)  # two attentions over all frames, three products with the text
    unseen = (attention + pooling + fusion) / 1e9
    predictor = (128 * SIGLIP_PICTURE + SIGLIP_TEXT + unseen) / 1000
    assert fifth.costs["flops/predictor_tflops"] / 2 == pytest.approx(predictor, rel=1e-3)
    spent = fifth.costs["flops/thop_ratio_with_predictor"] - fifth.costs["flops/thop_ratio"]
    assert spent == pytest.approx(predictor * 1000 / everything, rel=1e-3)
    apart = fifth.costs["flops/predictor_tflops"] - alone.costs["flops/predictor_tflops"]
    assert apart == pytest.approx(2 * 128 * width * (2 * 2 * 128 + 2) / 1e12)


TAU = {0.25: 0.8, 0.2: 0.8, 0.15: 0.95, 0.1: 0.95}  # Vista-LLM's, by the share that it keeps


@pytest.mark.parametrize(("backbone", "table", "printed"), [
    (("llava_onevision_7b", "one_token"), "vista_table1", {0.25: 25.6, 0.2: 20.6, 0.15: 15.6, 0.1: 10.6}),
    (("llava_video_7b", "grid"), "vista_table2", {0.25: 30.3, 0.2: 25.2, 0.15: 20.4, 0.1: 15.1}),
    (("llava_video_7b", "none"), "vista_table8", {0.25: 24.0, 0.1: 10.1}),
])  # fmt: skip
def test_vista_leaves_the_rows_that_it_prints(told, backbone, table, printed) -> None:
    """Percent of the unpruned rows, of which table 8's have newlines, too; and the scout, about 34 TFLOPs for 64
    frames, which is in none of them."""
    name, newline = backbone
    host = (f"backbone={name}", "backbone.frames=64")
    own = [("vista", f"retention_ratio={ratio}", f"budget.tau={TAU[ratio]}") for ratio in printed]
    (whole,) = told((*host, "backbone.newline=grid"), ("none",)) if newline == "none" else (None,)
    full, *cut = told((*host, f"backbone.newline={newline}"), ("none",), *own)
    whole = whole or full
    for expected, one in zip(printed.values(), cut, strict=True):
        assert as_published(table, one, whole) == pytest.approx(expected, abs=0.6)
        if newline != "none":
            assert 100 * one.costs["convention/vista_ratio"] == pytest.approx(expected, abs=0.6)
        assert one.costs["flops/predictor_tflops"] == pytest.approx(34, rel=0.02)


def test_vistas_table_3_is_of_the_prefill(told) -> None:
    """64 pictures at their own resolution; 21.5 and 13.0 printed."""
    host = ("backbone=qwen2_5_vl_7b", "backbone.frames=64")
    own = [("vista", f"retention_ratio={ratio}", f"budget.tau={TAU[ratio]}") for ratio in (0.25, 0.15)]
    whole, *cut = told(host, ("none",), *own)
    for one, printed in zip(cut, (21.5, 13.0), strict=True):
        assert as_published("vista_table3", one, whole) == pytest.approx(printed, abs=0.6)


@pytest.mark.parametrize(("backbone", "layer", "ratio", "printed"), [
    ("pllava_7b", 5, 0.2, (26.8, 8.8)), ("videochat2_7b", 10, 0.1, (1.1, 0.5)), ("st_llm_7b", 10, 0.1, (5.4, 2.2)),
])  # fmt: skip
def test_llm_vtps_teraflops(told, backbone, layer, ratio, printed) -> None:
    """Of tables 3 and 8, to 2 %; ST-LLM's 2.1 is of a tenth of all tokens, whole tokens per frame make it 2.2."""
    host = (f"backbone={backbone}", "backbone.frames=16")
    whole, cut = told(host, ("none",), ("llm_vtp", f"retention_ratio={ratio}", f"pruner.layer={layer}"))
    found = [as_published("llm_vtp_table3", one, whole) for one in (whole, cut)]
    assert found == [pytest.approx(each, rel=0.02) for each in printed]


def test_every_backbone_of_the_published_tables_has_a_shape(cache) -> None:
    """The names are those of the tables, which also have models that are no option here."""
    names = set()
    for path in (ROOT / "published").glob("*_table*.csv"):
        with path.open() as file:
            names |= {line["backbone"] for line in csv.DictReader(file)}
    names &= set(groups()["backbone"])
    assert {"llava_video_72b", "tarsier_7b", "pllava_7b", "qwen2_5_vl_7b", "st_llm_7b"} < names
    for name in sorted(names):
        (one,) = computed([row("none", f"backbone={name}", "backbone.frames=4")], cache)
        assert one.refused == ""
        assert one.costs["flops/analytic_ratio"] == 1


HOLITOM = Formula(None, "unexplained", "depends on the film")


def test_a_method_without_a_formula_has_what_it_leaves_here(told) -> None:
    """HoliTom keeps about r·K tokens, a few percent more as it rounds up, and 13 to 14 newlines a frame of those that
    have some; printed are 30.2 and 15.1 %. A formula stays as it is; what was refused says why."""
    host = ("backbone=llava_video_7b", "backbone.frames=64", "backbone.newline=grid")
    whole, *cut = told(host, ("none",), *(("holitom", f"retention_ratio={ratio}") for ratio in (0.25, 0.1)))
    for one, ratio, printed in zip(cut, (0.25, 0.1), (30.2, 15.1), strict=True):
        found = completed(HOLITOM, "vista_table2", one, whole)
        tokens, rest = ratio * 64 * 196, 64 * 14 + 100
        assert (
            100 * (tokens + 100) / (64 * 210 + 100) < found.computed < 100 * (1.06 * tokens + rest) / (64 * 210 + 100)
        )
        assert found.computed == pytest.approx(printed, abs=1)
        assert found.status == "metered"
        assert found.note.startswith("depends on the film; here")
    known = Formula(30.0, "shapes")
    assert completed(known, "vista_table2", cut[0], whole) is known
    refused = completed(HOLITOM, "vista_table2", Computed(None, "a ratio of 2"), whole)
    assert (refused.computed, refused.reason) == (None, "depends on the film; a ratio of 2")
    assert completed(HOLITOM, "vista_table2", None, whole).reason.endswith("none of the experiment's")


def test_below_a_table_stands_what_is_told_of_all_together() -> None:
    """The notes of scripts/report.py's tables, and what scripts/meter.py says of the same, in each table the same
    words: here without rows, so of formulas alone."""
    cells = published(ROOT / "published", account("7b"), account("72b"))
    names = [name for name in tables(ROOT / "published") if any(cell.table == name for cell in cells)]
    assert len(names) == 10
    for name in names:
        mine = [cell for cell in cells if cell.table == name]
        notes = table(ROOT / "published", name, Rows((), ()), lambda rows: []).notes
        assert notes[0] == agreement(mine)[0]
        assert [note.partition(":")[0] for note in notes] == [note.partition(":")[0] for note in agreement(mine)]


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_costs_do_not_hang_on_the_rows_asked_with(tmp_path: Path) -> None:
    """HoliTom's, which merges what looks alike: alone, and after a row whose cues are drawn, too."""
    one, other = row("holitom", *SMALL, "retention_ratio=0.2"), row("visionzip", *SMALL)
    (alone,) = computed([one], tmp_path / "alone")
    assert computed([other, one], tmp_path / "both")[1] == alone


def test_what_was_metered_is_not_metered_again(cache, metered) -> None:
    """A second call, as of another process, reads files; a setting, the accounting or a shape makes it another row."""
    one, other = row("tome", *SMALL), row("tome", *SMALL, "retention_ratio=0.5")
    (before,) = computed([one], cache)
    assert len(metered) == 1
    assert computed([one, other, one], cache) == [before, computed([other], cache)[0], before]
    assert len(metered) == 2
    assert before.costs["tokens/mean_over_layers"] < computed([other], cache)[0].costs["tokens/mean_over_layers"]
    fresh = cache.with_name("fresh")
    assert computed([one], fresh) == [before]
    assert len(metered) == 3
    (path,) = fresh.iterdir()
    assert json.loads(path.read_text()) == {"costs": before.costs, "refused": ""}


@pytest.mark.parametrize("what", ["ACCOUNTING", "VERSION"])
def test_costs_of_another_accounting_are_not_taken(cache, metered, monkeypatch, what) -> None:
    computed([row("random", *SMALL)], cache)
    before = len(metered)
    monkeypatch.setattr(module, what, 1000)
    computed([row("random", *SMALL)], cache)
    assert len(metered) == before + 1


def test_rows_of_several_benchmarks_are_metered_once(cache, metered) -> None:
    one = row("visionzip", *SMALL)
    several = [replace(one, config={**one.config, "benchmark": {"of": name}}) for name in ("mvbench", "mlvu")]
    found = computed([several[0], row("none", *SMALL), several[1]], cache)
    assert [one.choices["method"] for one in metered] == ["visionzip", "none"]
    assert found[0] == found[2] != found[1]


def test_what_lies_on_the_machine_does_not_matter(cache, metered, random_checkpoints) -> None:
    """A checkpoint that is there, and a device: both rows are the shapes'."""
    words = ("retention_ratio=0.2", *SMALL)
    tiny, siglip = random_checkpoints / "tiny", random_checkpoints / "tiny_siglip"
    here = (f"backbone.checkpoint={tiny}", f"relevance.checkpoint={siglip}", "relevance.device=cuda")
    there = ("backbone.checkpoint=not/there", "relevance.checkpoint=not/there", "backbone.device_map=auto")
    first, second = computed([row("keyvideollm", *words, *own) for own in (here, there)], cache)
    assert first == second
    assert len(metered) == 1
    assert first.costs["flops/vision_tflops"] == pytest.approx(2 * 8 * (TOWER + PROJECTOR) / 1000, rel=0.15)


def test_a_refused_row_stops_no_other(cache, metered) -> None:
    """DyCoke keeps more than a tenth; PruMerge+ wants a class token; LLM-VTP cannot act after layer 40 of 28, a ratio
    cannot be 2; of a model of half a billion and of CLIP there are no shapes."""
    bad = {
        "[0.375, 1]": row("dycoke", "retention_ratio=0.1", *SMALL),
        "cls_attention": row("prumerge_plus", *SMALL),
        "28": row("llm_vtp", "pruner.layer=40", *SMALL),
        "got 2": row("random", "budget.retention_ratio=2", *SMALL),
        "backbone=llava_onevision_0_5b": row("random", "backbone=llava_onevision_0_5b"),
        "relevance=clip": row("random_kvtp", "relevance=clip", *SMALL),
    }
    *refused, last = computed([*bad.values(), row("random", *SMALL)], cache)
    for word, one in zip(bad, refused, strict=True):
        assert one.costs is None
        assert word in one.refused
    assert last.costs is not None
    known = len(metered)
    assert computed(list(bad.values()), cache) == refused
    assert len(metered) == known, "refusals are kept, too"
    assert as_published("vista_table1", refused[0], last) is None
