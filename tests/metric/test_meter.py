"""Sizes told without weights against those of answers that were given; films against their definition in numpy."""

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from backbone import hosts
from omegaconf import OmegaConf
from toys import CONF, component

from kvtp.backbone._random import with_random_weights
from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.metric.account import Account, MethodCost
from kvtp.metric.dry import Chance, Deaf, DryBackbone
from kvtp.metric.flops import vision
from kvtp.metric.latency import Stopwatch
from kvtp.metric.meter import Line, Nothing, Unseen, choosing, meter, networks
from kvtp.metric.timing import beside_unpruned
from kvtp.pipeline import Pipeline
from kvtp.pruner.look_m import LookMCache
from kvtp.relevance.base import AbstractRelevance
from kvtp.relevance.uniform import Uniform
from kvtp.report.costs import bars, shown, table
from kvtp.scout.base import AbstractScout
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


INSIDE = [
    ("fastv", {}),
    ("llm_vtp", {"layer": 2}),
    ("llm_vtp_prunevid", {"layer": 2}),
    ("look_m", {}),
    ("dycoke", {"merge_ratio": 0.7, "decode_layer": None}),
]


@pytest.mark.parametrize(("pruner", "changed"), INSIDE, ids=[name for name, _ in INSIDE])
@pytest.mark.parametrize("newline", ["one_token", "frame"])
def test_methods_inside_the_llm_cost_what_they_do_with_weights(tiny, pruner: str, changed: dict, newline: str) -> None:
    """Rows, caches, what the policy tells, and FLOPs of the choice: a host of random weights has as many words."""
    real, text, reply = tiny(newline=newline), 21, 3
    pair = with_random_weights(real, text, reply), DryBackbone(real, text, reply)
    stages = {"scout": component("scout", "none"), "budget": component("budget", "uniform")}
    stages |= {"relevance": component("relevance", "uniform"), "pruner": component("pruner", pruner, **changed)}
    frames, found = films(6), []
    for backbone in pair:
        line = Pipeline(benchmark=Asked(), frames=Unseen(), backbone=backbone, **stages)
        found.append(line.answer(QUESTION, frames, backbone.encode(frames, line.cues)))
    (answer, spent), (told, cost) = found
    assert replace(told, text=answer.text) == answer
    assert cost == spent
    assert cost.selection > 0 or pruner == "dycoke"
    assert min(told.cache_rows) < told.full_rows
    assert set(told.told) == ({"cache_share", "cache_rows_over_budget"} if pruner == "look_m" else set())


def test_patches_merged_in_the_tower_are_as_many_as_a_real_tower_leaves(tmp_path) -> None:
    host = hosts.host("tarsier_7b", checkpoint=str(hosts.tarsier(tmp_path)), newline="frame")
    real, dry = with_random_weights(host, 20, 3), DryBackbone(host, 20, 3)
    pruner = component("pruner", "tome_vit", retention_ratio=0.5)
    stages = {"scout": component("scout", "none"), "budget": component("budget", "uniform")}
    stages |= {"relevance": component("relevance", "uniform"), "pruner": pruner}
    frames, found = films(3), []
    for backbone in (real, dry):
        line = Pipeline(benchmark=Asked(), frames=Unseen(), backbone=backbone, **stages)
        answer, spent = line.answer(QUESTION, frames, backbone.encode_merging(frames, pruner.tower))
        found.append(Account(host).flops(answer, 3, frames.size, spent, line.cues))
        assert answer.tokens_per_layer["visual"] == (3 * 18,) * 3
    assert found[0] == found[1]
    target = {"_target_": "kvtp.backbone.tarsier.Tarsier"}
    settings = {field.name: getattr(host, field.name) for field in fields(host)}
    uniform = section("relevance", "uniform")
    none, merged = (
        meter([row_of(target | settings, tmp_path, option, uniform)], [3], SIZE, 20, 3)[0].costs
        for option in ("none", "tome_vit")
    )
    assert merged["tokens/mean_over_layers"] < none["tokens/mean_over_layers"] / 2
    assert merged["flops/vision_tflops"] < none["flops/vision_tflops"]


def test_what_merges_across_frames_has_something_to_merge(tiny) -> None:
    """FrameFusion meets its cost: it merges, then prunes. Half of the tokens look as in the frame before."""
    dry = DryBackbone(tiny(newline="none"), 20, 2)
    frames, budget = films(6), component("budget", "uniform", retention_ratio=0.5)
    tokens = dry.encode(frames, frozenset())
    film = tokens.features.unflatten(0, (6, 64))
    alike = (torch.cosine_similarity(film[1:], film[:-1], dim=-1) > 0.5).double().mean()
    assert alike == pytest.approx(0.5, abs=0.1)
    stages = {"scout": component("scout", "none"), "relevance": component("relevance", "uniform"), "budget": budget}
    pruner = component("pruner", "framefusion", retention_ratio=0.5)
    line = Pipeline(benchmark=Asked(), frames=Unseen(), backbone=dry, pruner=pruner, **stages)
    answer, cost = line.answer(QUESTION, frames, tokens)
    visual = answer.tokens_per_layer["visual"]
    assert 0.4 * 384 < visual[0] < 0.7 * 384, "merged before the first layer"
    assert visual[-1] < visual[0], "pruned later"
    assert sum(visual) / 4 == pytest.approx(0.5 * 384, abs=1)
    assert cost.selection > 0


@pytest.mark.parametrize("count", [32, 19])
def test_a_film_has_scenes(tiny, count: int) -> None:
    """Eight of them; in each 60 % of the cells stay but for noise of 1 %, the others go 0.7 a frame, each its own way;
    a new scene has nothing of the one before."""
    dry = DryBackbone(tiny(newline="none"), 20, 2, film="scenes")
    tokens = dry.encode(films(count), frozenset({"frame_feature"}))
    film = tokens.features.unflatten(0, (count, 64)).double().numpy()
    bounds = np.linspace(0, count, 9).astype(int)
    moved = np.sqrt(((film[1:] - film[:-1]) ** 2).mean(2))
    first = film[bounds[:-1]]
    assert np.sqrt((first**2).mean()) == pytest.approx(1, abs=0.02)
    stays, drifts = [], []
    for start, stop in pairwise(bounds):
        steps = moved[start : stop - 1]
        still = steps.max(0) < 0.05
        assert ((steps < 0.05) == still).all(), "a cell stays over the whole scene, or drifts over all of it"
        stays.append(still.mean())
        assert np.sqrt((steps[:, still] ** 2).mean()) == pytest.approx(0.01 * 2**0.5, rel=0.05)
        drifts.append(film[stop - 1][~still] - film[start][~still])
        assert np.sqrt((drifts[-1] ** 2).mean()) == pytest.approx(0.7 * (stop - start - 1) ** 0.5, rel=0.06)
    assert np.mean(stays) == pytest.approx(0.6, abs=0.06)
    assert len(set(stays)) > 1, "other cells in each"
    cuts = bounds[1:-1] - 1
    assert np.sqrt((moved[cuts] ** 2).mean(1)) == pytest.approx(
        np.sqrt((film[cuts] ** 2).mean((1, 2)) + 1), rel=0.05
    ), "as far apart as what has nothing in common"
    whole = tokens.cues.frame_feature
    near = torch.cosine_similarity(whole[1:], whole[:-1]).numpy()
    assert set(np.flatnonzero(near < 0.9)) == set(cuts), "FastVID's segments (τ = 0.9) are the scenes"


@pytest.mark.parametrize("count", [1, 5, 8])
def test_of_few_frames_each_is_a_scene(tiny, count: int) -> None:
    dry = DryBackbone(tiny(newline="none"), 20, 2, film="scenes")
    tokens = dry.encode(films(count), frozenset({"frame_feature"}))
    film = tokens.features.unflatten(0, (count, 64))
    assert torch.cosine_similarity(film[1:], film[:-1], dim=2).abs().mean() < 0.2 or count == 1
    assert tokens.cues.frame_feature.shape == (count, dry.vision_shape((32, 32)).width)
    assert tokens.cues.frame_feature.isfinite().all()


def test_the_film_is_the_one_asked_for(tiny, tmp_path) -> None:
    """FrameFusion at 0.5 of 16 frames: where every second token is alike it merges these and prunes later; in scenes
    more is alike than has to go, so that from the first layer on half of the tokens are there."""
    known = tiny(newline="none")
    one = row(known, tmp_path, known.checkpoint, "framefusion", section("relevance", "uniform"))
    one.config["pruner"]["cost"] = 0.5
    one.config["budget"] = section("budget", "uniform", retention_ratio=0.5)
    seen, work = [], DryBackbone.generate

    def telling(dry, state):
        answer = work(dry, state)
        seen.append(answer.tokens_per_layer["visual"])
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DryBackbone, "generate", telling)
        for film in ("alike", "scenes"):
            meter([one], [16], SIZE, 20, 2, film=film)
    alike, scenes = seen
    assert scenes == (512,) * 4
    assert len(set(alike)) > 1


def test_caches_are_of_true_size_where_cues_are_asked_for_alone(tiny) -> None:
    """Views of one noise, which nothing else needs, nor the matrix that makes queries."""
    real = tiny(newline="none")
    dry, shape = DryBackbone(real, 20, 2), real.shape
    plain = dry.encode(films(2), frozenset())
    small = dry.prefill(dry.embed(plain, PROMPT), 2).cache.layers
    assert [layer.keys.shape for layer in small] == [(1, 1, 148, 1)] * 2
    assert dry.stored is None
    assert "_block" not in vars(dry)
    state = dry.prefill(dry.embed(replace(plain, asked=frozenset({"question_attention"})), PROMPT), 2)
    first, second = state.cache.layers
    assert first.keys.shape == second.values.shape == (1, shape.kv_heads, 148, shape.head_dim)
    assert first.keys.data_ptr() == second.keys.data_ptr() != second.values.data_ptr()
    told = state.visual.cues.question_attention
    assert told.shape == (shape.heads, 10, 128)
    assert len(told.unique()) > 1000
    seen = dry.stored[0].shape[2]
    dry.prefill(
        dry.embed(replace(dry.encode(films(3), frozenset()), asked=plain.asked | {"last_attention"}), PROMPT), 1
    )
    assert dry.stored[0].shape[2] == seen + 64, "more rows, more noise"


def test_a_cache_policy_is_told_once_and_not_timed(tiny, tmp_path, monkeypatch) -> None:
    """Its four layers are alike; the rounds that time the choice leave it out."""
    called, work = [], LookMCache.after_prefill

    def compress(policy, layer, queries, keys, values, visual):
        called.append((layer, keys.device.type))
        return work(policy, layer, queries, keys, values, visual)

    monkeypatch.setattr(LookMCache, "after_prefill", compress)
    known = tiny()
    one = row(known, tmp_path, known.checkpoint, "look_m", section("relevance", "uniform"))
    one.config["budget"] = section("budget", "uniform")
    (line,) = meter([one], [4], SIZE, 20, 2, repeats=2)
    assert called == [(0, "meta")]
    assert line.costs["cache/cache_share"] == pytest.approx(0.3, abs=0.02)
    assert line.costs["memory/kv_cache_ratio"] == pytest.approx(line.costs["cache/cache_share"])
    assert line.costs["flops/selection_tflops"] > 0
    assert "selection/products" in line.costs


def section(group: str, option: str, **changed: str) -> dict:
    chosen = OmegaConf.merge(OmegaConf.load(CONF / group / f"{option}.yaml"), changed)
    parent = OmegaConf.create({"retention_ratio": 0.3, "seed": 0, group: chosen})
    return OmegaConf.to_container(parent[group], resolve=True)


def row(known, folder: Path, checkpoint: str, pruner: str, relevance: dict) -> Row:
    """A run with the settings of the backbone `known`, but for its checkpoint, and without a pooling head."""
    told = {
        name: getattr(known, name) for name in ("attn", "pool", "newline", "frame_chunk", "question", "answer", "seed")
    }
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


class Glance(Uniform):
    """A relevance that runs no network."""

    reads_tokens = True


class Guess(AbstractScout):
    """A scout with a grid and a configuration of its own."""

    supplies = frozenset({"scout", "scout_patches"})
    patches = 9

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint, self.host = checkpoint, None

    @property
    def identity(self) -> str:
        if self.checkpoint == "nowhere":
            raise ValueError("scout.checkpoint must be a folder")
        return self.checkpoint

    def meet(self, backbone) -> None:
        self.host = backbone

    def __call__(self, frames, question, tokens):
        raise AssertionError("its network is not run")

    def flops(self, frames, question):
        return 2e12 * len(frames)


def with_scout(known, folder: Path, pruner: str, checkpoint: str) -> Row:
    one = row(known, folder, known.checkpoint, pruner, section("relevance", "uniform"))
    one.config["scout"] = {"_target_": f"{__name__}.Guess", "checkpoint": checkpoint}
    return one


def test_a_relevance_that_reads_tokens_is_run_and_no_other(tiny, tmp_path, monkeypatch) -> None:
    known = tiny()
    asked = []
    monkeypatch.setattr(Uniform, "__call__", lambda self, frames, tokens, question: asked.append(1) or torch.zeros(4))
    assert not AbstractRelevance.reads_tokens
    for target, times in (("kvtp.relevance.uniform.Uniform", 0), (f"{__name__}.Glance", 1 + 2)):
        one = row(known, tmp_path, known.checkpoint, "random", {"_target_": target})
        assert type(choosing(one)["relevance"]) is (Glance if times else Chance)
        asked.clear()
        (line,) = meter([one], [4], SIZE, 20, 2, repeats=2)
        assert len(asked) == times
        assert line.costs["selection/products"] > 0


def test_a_scouts_cues_are_drawn_in_their_sizes_at_its_price(tiny, tmp_path) -> None:
    known = tiny()
    one = with_scout(known, tmp_path, "random", "some")
    plain = row(known, tmp_path, known.checkpoint, "random", section("relevance", "uniform"))
    deaf = choosing(one)["scout"]
    assert isinstance(deaf, Deaf)
    dry = DryBackbone(known, 20, 2)
    tokens = dry.encode(films(3), frozenset())
    first, again = (deaf(films(3), QUESTION, tokens).cues for _ in range(2))
    assert first.scout.shape == (3 * 64,)
    assert first.scout_patches.shape == (3, 9)
    for cue in ("scout", "scout_patches"):
        told = getattr(first, cue)
        assert torch.equal(told, getattr(again, cue))
        assert len(told.unique()) == told.numel()
        assert 0 < told.min() < told.max() < 1
    deaf.meet(dry)
    assert deaf.real.host is dry
    with_it, without = (meter([each], [4], SIZE, 20, 2)[0].costs["flops/method_tflops"] for each in (one, plain))
    assert with_it - without == pytest.approx(8)


def test_networks_that_are_not_run_are_told_by_name(tiny, tmp_path) -> None:
    known = tiny()
    with pytest.raises(CommandError, match=r"random: scout\.checkpoint must be a folder"):
        meter([with_scout(known, tmp_path, "random", "nowhere")], [4], SIZE, 20, 2)
    plain = row(known, tmp_path, known.checkpoint, "none", section("relevance", "uniform"))
    scouted, both = (with_scout(known, tmp_path, pruner, "some") for pruner in ("random", "tome"))
    both.config["relevance"] = section("relevance", "siglip", checkpoint="siglip_here")
    assert [networks(one) for one in (plain, scouted, both)] == [
        {},
        {"scout": "some"},
        {"predictor": "siglip_here", "scout": "some"},
    ]
    (told,) = beside_unpruned([plain, scouted, both])
    assert [one.name for one in told] == [
        "none",
        "random (without its scout)",
        "tome (without its predictor and its scout)",
    ]


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
    """Products that take 1, 2 and 4 s, choices that take 3, 2 and 8 s (with scores that come from tokens in them):
    ratios 3, 1 and 2, whose median is 2."""
    known, uniform = tiny(), section("relevance", "uniform")
    now = iter([0, 1, 10, 12, 20, 24])
    monkeypatch.setattr("kvtp.metric.meter.perf_counter", lambda: next(now))
    spent = [{}, {"relevance": 1000.0, "prune": 2000.0}, {}, {"relevance": 2000.0, "prune": 0.0}, {}]
    chosen = iter([*spent, {"scout": 9000.0, "relevance": 500.0, "prune": 7500.0}])
    monkeypatch.setattr(Stopwatch, "take", lambda clock: next(chosen))
    answered, answer = [], Pipeline.answer
    monkeypatch.setattr(Pipeline, "answer", lambda *given: answered.append(len(given)) or answer(*given))
    (line,) = meter([row(known, tmp_path, known.checkpoint, "random", uniform)], [4], SIZE, 20, 2, repeats=3)
    assert line.costs["selection/products"] == 2
    assert len(answered) == 1 + 3, "the first tells what it costs, the others how long it takes"
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
