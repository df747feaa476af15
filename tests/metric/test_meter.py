"""Sizes told without weights against those of answers that were given."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from backbone import hosts
from omegaconf import OmegaConf
from toys import CONF, component

from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.metric.account import Account, MethodCost
from kvtp.metric.dry import Chance, DryBackbone
from kvtp.metric.flops import vision
from kvtp.metric.latency import Stopwatch
from kvtp.metric.meter import Line, Nothing, Unseen, meter
from kvtp.pipeline import Pipeline
from kvtp.report.costs import bars, shown, table
from kvtp.types import Frames, Prompt, Question

SIZE = (32, 32)
QUESTION = Question("q", "toy.mp4", "What?")
PROMPT = Prompt("What colour is it?", "What colour is it?", (0, 18), "none")


class Asked(Nothing):
    def prompt(self, question: Question, frames: Frames) -> Prompt:
        return PROMPT


def films(count: int) -> Frames:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(count).double(), torch.arange(count), float(count), "toy")


@pytest.mark.parametrize("pruner", ["none", "random", "pool", "frame_drop", "text_only", "tome", "prumerge"])
@pytest.mark.parametrize("newline", ["one_token", "frame", "none"])
def test_sizes_are_those_of_a_real_answer(tiny, pruner: str, newline: str) -> None:
    real = tiny(newline=newline)
    budget = component("budget", "full" if pruner == "none" else "uniform")
    stages = {
        "scout": component("scout", "none"),
        "budget": component("budget", "zero") if pruner == "text_only" else budget,
        "pruner": component("pruner", pruner),
    }
    frames, even = films(6), component("relevance", "uniform")
    line = Pipeline(benchmark=Asked(), frames=Unseen(), backbone=real, relevance=even, **stages)
    seen = real.encode(frames, line.cues)
    before, after = real.around(seen, PROMPT)
    answer, spent = line.answer(QUESTION, frames, seen)
    dry = DryBackbone(real, len(before) + len(after), answer.steps[0])
    idle = Pipeline(benchmark=Asked(), frames=Unseen(), backbone=dry, relevance=Chance(even), **stages)
    told, cost = idle.answer(QUESTION, frames, dry.encode(frames, idle.cues))
    assert told.tokens_per_layer == answer.tokens_per_layer
    assert (told.mlp_rows, told.full_rows, told.cache_rows) == (answer.mlp_rows, answer.full_rows, answer.cache_rows)
    account = Account(real)

    def flops(one):
        return account.flops(one, 6, frames.size, MethodCost(), line.cues)

    assert flops(told) == flops(answer)
    assert cost == spent


def section(group: str, option: str, **changed: str) -> dict:
    chosen = OmegaConf.merge(OmegaConf.load(CONF / group / f"{option}.yaml"), changed)
    parent = OmegaConf.create({"retention_ratio": 0.3, "seed": 0, group: chosen})
    return OmegaConf.to_container(parent[group], resolve=True)


def row(known, folder: Path, checkpoint: str, pruner: str, relevance: dict) -> Row:
    """A run with the settings of the backbone `known`, but for its checkpoint, and without a pooling head."""
    told = {name: getattr(known, name) for name in ("attn", "pool", "newline", "frame_chunk", "answer", "seed")}
    told |= {"max_new_tokens": 4, "temperature": 0, "top_p": 1.0, "dtype": "float32", "device": "cpu"}
    told |= {"checkpoint": checkpoint, "revision": None, "head": None, "head_revision": None}
    told |= {"frames": 8, "device_map": None}
    return row_of({"_target_": "kvtp.backbone.llava_onevision.LlavaOnevision", **told}, folder, pruner, relevance)


def row_of(backbone: dict, folder: Path, pruner: str, relevance: dict) -> Row:
    config = {
        "backbone": backbone,
        "scout": section("scout", "none"),
        "relevance": relevance,
        "budget": section("budget", "softmax"),
        "pruner": section("pruner", pruner),
    }
    return Row(pruner, "id", folder, {"pruner": pruner}, (), config)


def test_a_cue_that_cannot_be_given_is_refused_and_a_checkpoint_that_is_not_there_is_an_error(tiny, tmp_path) -> None:
    known, uniform, nowhere = tiny(), section("relevance", "uniform"), str(tmp_path / "nowhere")
    (line,) = meter([row(known, tmp_path, known.checkpoint, "prumerge", uniform)], [4], SIZE, 20, 2)
    assert line.costs is None
    assert "needs the cues probe_attention" in line.refused
    with pytest.raises(CommandError, match=r"backbone\.checkpoint .* neither a folder"):
        meter([row(known, tmp_path, nowhere, "prumerge", uniform)], [4], SIZE, 20, 2)
    predictor = section("relevance", "siglip", checkpoint=nowhere)
    with pytest.raises(CommandError, match=r"random: relevance\.checkpoint .* neither a folder"):
        meter([row(known, tmp_path, known.checkpoint, "random", predictor)], [4], SIZE, 20, 2)


def test_a_predictor_that_shares_the_tower_costs_its_pooling_head(tiny, random_checkpoints, tmp_path) -> None:
    """Instead of a look of its own; and a backbone without such a head cannot give what it needs."""
    siglip = str(random_checkpoints / "tiny_siglip")
    own, shared = (component("relevance", "siglip", checkpoint=siglip, tower=tower) for tower in ("own", "backbone"))
    real = tiny(head=siglip)
    account = Account(real)

    def spent(relevance) -> float:
        stages = {"scout": "none", "budget": "softmax", "pruner": "random"}
        made = {stage: component(stage, option) for stage, option in stages.items()}
        line = Pipeline(Nothing(), Unseen(), DryBackbone(real, 20, 2), relevance=Chance(relevance), **made)
        seen = films(4)
        answer, cost = line.answer(QUESTION, seen, line.backbone.encode(seen, line.cues))
        told = account.flops(answer, 4, seen.size, cost, line.cues)
        return told["cues"] + told["predictor"]

    seeing, _ = account.seeing((32, 32))
    head = vision(seeing, 4, pooled=True) - vision(seeing, 4)
    assert spent(own) - spent(shared) == pytest.approx(own.checkpoint.look_flops(4) - head)
    sharing = section("relevance", "siglip", checkpoint=siglip, tower="backbone")
    (line,) = meter([row(real, tmp_path, real.checkpoint, "random", sharing)], [4], SIZE, 20, 2)
    assert "needs the cues frame_feature" in line.refused


def test_pictures_have_a_size(tmp_path) -> None:
    """Qwen2.5-VL makes a token of 28 × 28 pixels of two pictures."""
    host = hosts.host("qwen2_5_vl_7b", checkpoint=str(hosts.qwen2_5_vl(tmp_path)), min_pixels=28**2)
    target = {"_target_": "kvtp.backbone.qwen2_5_vl.Qwen2_5VL"}
    settings = {field.name: getattr(host, field.name) for field in fields(host)}
    one = row_of(target | settings, tmp_path, "none", section("relevance", "uniform"))
    tokens = [
        line.costs["tokens/mean_over_layers"]
        for size in ((56, 84), (112, 84))
        for line in meter([one], [4], size, 20, 2)
    ]
    assert tokens == [2 * 2 * 3, 2 * 4 * 3]


def test_choosing_is_told_in_products(tiny, tmp_path, monkeypatch) -> None:
    """Products that take 1, 2 and 4 s, choices that take 3, 2 and 8 s: ratios 3, 1 and 2, whose median is 2."""
    known, uniform = tiny(), section("relevance", "uniform")
    now = iter([0, 1, 10, 12, 20, 24])
    monkeypatch.setattr("kvtp.metric.meter.perf_counter", lambda: next(now))
    chosen = iter([0.0, 3000.0, 0.0, 2000.0, 0.0, 8000.0])
    monkeypatch.setattr(Stopwatch, "take", lambda clock: {"prune": next(chosen)})
    answered, answer = [], Pipeline.answer
    monkeypatch.setattr(Pipeline, "answer", lambda *given: answered.append(len(given)) or answer(*given))
    (line,) = meter([row(known, tmp_path, known.checkpoint, "random", uniform)], [4], SIZE, 20, 2, repeats=3)
    assert line.costs["selection/products"] == 2
    assert len(answered) == 1 + 3, "what is counted is not timed"
    assert "selection" in shown([line])
    monkeypatch.undo()
    (line,) = meter([row(known, tmp_path, known.checkpoint, "random", uniform)], [4], SIZE, 20, 2)
    assert "selection/products" not in line.costs
    assert "selection" not in shown([line])


def test_no_weights_are_read(tiny) -> None:
    real = tiny()
    dry = DryBackbone(real, 20, 3)
    dry.encode(films(4), frozenset({"received_attention", "tower_keys", "frame_feature"}))
    Account(real).seeing((32, 32))
    assert "model" not in vars(real)


LINES = [
    Line("none", None, 8, {"tokens/mean_over_layers": 512.0, **dict.fromkeys(("flops/analytic_ratio",), 1.0)}),
    Line("tome", 0.2, 8, None, "retention_ratio must be in [0.5, 1], got 0.2"),
]


def test_table_tells_what_is_refused() -> None:
    rows = table(LINES)
    assert [row["refused"] for row in rows] == ["", "retention_ratio must be in [0.5, 1], got 0.2"]
    said = shown(LINES)
    assert "512.0" in said
    assert "tome 0.2, 8 frames: retention_ratio must be in [0.5, 1], got 0.2" in said


def test_bars_add_up() -> None:
    parts = ("vision", "method", "prefill", "decode")
    costs = {f"flops/{part}_tflops": float(nth) for nth, part in enumerate(parts, 1)}
    (panel,) = bars([Line("tome", 0.2, 8, costs), LINES[1]]).axes
    assert [bar.get_width() for bar in panel.patches] == [1, 2, 3, 4]
    assert [bar.get_x() for bar in panel.patches] == [0, 1, 3, 6]
