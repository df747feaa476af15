"""Patches that merge inside CLIP, in Tarsier's layout, against slow definitions."""

import pytest
import torch
from backbone import hosts
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from toys import ToyBenchmark, ToyFilm, component
from transformers import CLIPVisionConfig, CLIPVisionModel

from kvtp.backbone._clip import ClipTower
from kvtp.backbone.base import VisionShape
from kvtp.errors import Refused
from kvtp.metric.account import Account
from kvtp.metric.flops import matching, vision
from kvtp.pipeline import Pipeline
from kvtp.pruner.tome_vit import BipartiteMerging
from kvtp.scout.none import NoScout
from kvtp.types import Question

QUESTION = Question("q", "film.mp4", "What colour is the circle?")


class NeedsStates(NoScout):
    cues = frozenset({"tower_states"})


def line(backbone, pruner, ratio=0.5, **stages):
    parts = {"scout": NoScout(), "relevance": component("relevance", "uniform")} | stages
    budget = component("budget", "uniform", retention_ratio=ratio)
    return Pipeline(
        benchmark=ToyBenchmark(QUESTION), frames=ToyFilm(5), backbone=backbone, budget=budget, pruner=pruner, **parts
    )


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    folder = str(hosts.tarsier(tmp_path_factory.mktemp("tarsier")))
    return lambda **changed: hosts.host("tarsier_7b", **{"checkpoint": folder, "newline": "frame"} | changed)


def tower_pruner(ratio, **keys):
    return component("pruner", "tome_vit", retention_ratio=ratio, **keys).tower


def one_picture(tower, pixels, removed, proportional):
    """CLIP's first blocks on one picture: heads and rows one after the other; a merged row attends and is attended to
    like all of its parts. Rows [n, C] after each block, without the class token's."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixels[None]))[0]
    size = [1.0] * len(hidden)
    for layer, gone in zip(tower.encoder.layers[: len(removed)], removed, strict=True):
        attention, normed = layer.self_attn, layer.layer_norm1(hidden)
        query, keys, values = (each(normed) for each in (attention.q_proj, attention.k_proj, attention.v_proj))
        heads = []
        for q, k, v in zip(*(each.split(attention.head_dim, 1) for each in (query, keys, values)), strict=True):
            times = torch.tensor(size if proportional else [1.0] * len(size))
            weight = (q @ k.T / attention.head_dim**0.5).exp() * times
            heads.append(weight @ v / weight.sum(1, keepdim=True))
        hidden = hidden + attention.out_proj(torch.cat(heads, 1))
        mean = torch.stack(keys.split(attention.head_dim, 1)).mean(0)
        hidden, size = merge(hidden, mean, size, gone)
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    return hidden[1:], size[1:]


def merge(hidden, keys, size, gone):
    """The `gone` most similar pairs of an even row (not the first) and its nearest odd one, in lists."""
    pairs = []
    for i in range(2, len(keys), 2):
        likeness = [(float(torch.cosine_similarity(keys[i], keys[j], dim=0)), j) for j in range(1, len(keys), 2)]
        best, partner = max(likeness)
        pairs.append((best, i, partner))
    accepted = sorted(pairs, reverse=True)[:gone]
    left = {i for i in range(len(keys))} - {i for _, i, _ in accepted}
    order = [*(i for i in sorted(left) if i % 2 == 0), *(j for j in sorted(left) if j % 2 == 1)]
    rows, sizes = [], []
    for row in order:
        group = [row, *(i for _, i, partner in accepted if partner == row)]
        sizes.append(sum(size[member] for member in group))
        rows.append(sum(size[member] * hidden[member] for member in group) / sizes[-1])
    return torch.stack(rows), sizes


@torch.inference_mode()
def test_nothing_merged_is_the_plain_tower(make, frames):
    backbone = make()
    pixels = backbone.prepare(frames.pixels)
    policy = BipartiteMerging(1.0, True, (0, 0))
    plain, _ = backbone.tower(pixels, frozenset())
    torch.testing.assert_close(backbone.tower.merging(pixels, policy), plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("proportional", [True, False])
@pytest.mark.parametrize("ratio", [0.25, 0.4, 0.7])
@torch.inference_mode()
def test_merging_equals_one_picture_at_a_time(make, frames, ratio, proportional):
    """Two of CLIP's three layers run, on 36 patches and a class token."""
    backbone = make()
    pruner = tower_pruner(ratio, proportional=proportional)
    removed = pruner.fit(36, 2).removed
    pictures = backbone.prepare(frames.pixels)
    found = [one_picture(backbone.tower.tower, picture, removed, proportional) for picture in pictures]
    states = torch.stack([rows for rows, _ in found])
    assert all(sum(size) == 36 for _, size in found)
    assert states.shape[1] == int(36 * ratio)
    torch.testing.assert_close(backbone.tower.merging(pictures, pruner.fit(36, 2)), states, atol=1e-5, rtol=0)

    tokens = backbone.encode_merging(frames, pruner)
    expected = backbone.model.model.multi_modal_projector(states).flatten(0, 1)
    torch.testing.assert_close(tokens.features, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_weighing_matters(make, frames):
    backbone = make()
    weighed, plain = (
        backbone.encode_merging(frames, tower_pruner(0.3, proportional=told)).features for told in (True, False)
    )
    assert (weighed - plain).abs().max() > 1e-4


@torch.inference_mode()
def test_tokens(make, frames):
    backbone = make()
    tokens = backbone.encode_merging(frames, tower_pruner(0.4))
    assert (tokens.frames, tokens.grid, tokens.tower_rows) == (5, (1, 14), (37, 26, 15))
    assert tokens.frame.tolist() == [t for t in range(5) for _ in range(14)]
    assert tokens.row.tolist() == [0] * 70
    assert tokens.column.tolist() == list(range(14)) * 5
    assert tokens.original.tolist() == list(range(70))
    assert tokens.timestamps.tolist() == frames.timestamps.tolist()
    blank = backbone.blank_merging(5, frames.size, tower_pruner(0.4))
    for name in ("frames", "grid", "tower_rows", "depth"):
        assert getattr(blank, name) == getattr(tokens, name)
    for name in ("frame", "row", "column", "position", "original"):
        assert torch.equal(getattr(blank, name), getattr(tokens, name))
    assert blank.features.shape == (70, 0)
    few = make(frame_chunk=2).encode_merging(frames, tower_pruner(0.4))
    torch.testing.assert_close(few.features, tokens.features, atol=1e-5, rtol=0)
    half = make(dtype="bfloat16").encode_merging(frames, tower_pruner(0.4))
    assert (half.features.dtype, half.features.shape) == (torch.bfloat16, tokens.features.shape)


@pytest.mark.parametrize("newline", ["frame", "none"])
@torch.inference_mode()
def test_from_pictures_to_a_reply(make, frames, prompt, newline):
    """Nine tokens a picture, word 391 after each, laid out by a loop."""
    backbone = make(newline=newline, max_new_tokens=3)
    tokens = backbone.encode_merging(frames, tower_pruner(0.25))
    assert tokens.tower_rows == (37, 19, 10)
    state = backbone.embed(backbone.ask(tokens, prompt), prompt)
    before, after = (backbone.words(ids) for ids in backbone.around(tokens, prompt))
    ends = backbone.words([391] if newline == "frame" else [])
    video = [row for picture in tokens.features.split(9) for row in (picture, ends)]
    torch.testing.assert_close(state.hidden, torch.cat([before, *video, after]))
    assert state.count[:2] == (45, 5 * len(ends))
    answer = backbone.generate(state)
    assert answer.tokens_per_layer["visual"] == (45, 45, 45)
    assert answer.kept.tolist() == list(range(45))
    assert answer.tower_rows == (37, 19, 10)


def test_where_all_is_granted_nothing_merges(make):
    pruner = component("pruner", "tome_vit", retention_ratio=0.5)
    answer = line(make(max_new_tokens=1), pruner, ratio=1.0)(QUESTION)
    assert answer.tower_rows == ()
    assert answer.tokens_per_layer["visual"][0] == 5 * 36


def test_refusals(make, frames, tmp_path):
    for newline in ("grid", "grid_frame", None):
        backbone = make(newline=newline)
        assert not backbone.prunes_tower
        with pytest.raises(ValueError, match=r"cannot merge patches in its tower, .* backbone\.newline=frame"):
            backbone.encode_merging(frames, tower_pruner(0.5))
    pooling = hosts.host("pllava_7b", checkpoint=str(hosts.pllava(tmp_path)), side=3, frames=5)
    with pytest.raises(ValueError, match="Pllava with newline=none cannot merge patches in its tower"):
        pooling.encode_merging(frames, tower_pruner(0.5))
    told = make(newline="frame"), component("pruner", "tome_vit")
    with pytest.raises(ValueError, match="gives no cues then; tower_states were asked for: choose another relevance"):
        line(*told, scout=NeedsStates())
    with pytest.raises(ValueError, match=r"needs their grid, .*; use backbone=tarsier_7b backbone\.newline=frame"):
        line(pooling, told[1])
    assert "model" not in vars(told[0])
    with pytest.raises(Refused, match=r"retention_ratio must be in \[0\.25, 1\], got 0\.2: 2 blocks"):
        make().encode_merging(frames, tower_pruner(0.2))


LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "image_size": 336, "patch_size": 14}
SMALL = {"hidden_size": 32, "intermediate_size": 80, "num_attention_heads": 4, "image_size": 24, "patch_size": 4}


@pytest.mark.parametrize(("sizes", "layers"), [(LARGE, 23), (SMALL, 3)], ids=["CLIP-L", "small"])
@pytest.mark.parametrize("ratio", [0.14, 0.5, 0.95, 1.0])
def test_flops_equal_torch_counter(sizes, layers, ratio):
    """Tower and projector on meta tensors; the comparison of keys is told apart."""
    config = CLIPVisionConfig(num_hidden_layers=layers + 1, **sizes)
    width, patches = config.hidden_size, (config.image_size // config.patch_size) ** 2
    policy = BipartiteMerging(ratio, True).fit(patches, layers)
    with torch.device("meta"):
        tower, projector = ClipTower(CLIPVisionModel(config), layers), torch.nn.Linear(width, 96)
    rows = [patches + 1]
    for gone in policy.removed:
        rows.append(rows[-1] - gone)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        projector(tower.merging(torch.zeros(2, 3, config.image_size, config.image_size), policy))
    shape = VisionShape(
        rows=patches + 1,
        patches=patches,
        patch_values=3 * config.patch_size**2,
        width=width,
        ffn=config.intermediate_size,
        ffn_matrices=2,
        layers=layers,
        pairs=layers * (patches + 1) ** 2,
        connector=patches * width * 96,
    )
    compared = matching(rows, width // config.num_attention_heads, 2)
    assert vision(shape, 2, rows=rows) + compared == counter.get_total_flops()
    if ratio == 1:
        assert vision(shape, 2, rows=rows) == vision(shape, 2)
        assert compared == 0
    else:
        assert vision(shape, 2, rows=rows) < vision(shape, 2)
        assert compared < 0.01 * vision(shape, 2)


def test_mean_of_keys_is_what_the_merging_sees():
    """A policy that only looks: keys of the block, before anything merged."""
    config = CLIPVisionConfig(num_hidden_layers=2, **SMALL)
    torch.manual_seed(0)
    model = CLIPVisionModel(config).eval()
    seen = {}

    class Watching(BipartiteMerging):
        def __call__(self, states, keys, size, block, protected=0):
            seen[block] = (keys, protected)
            return super().__call__(states, keys, size, block, protected)

    pixels = torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        ClipTower(model, 2).merging(pixels, Watching(0.5, True, (9, 0)))
        tower = getattr(model, "vision_model", model)
        hidden, layer = tower.pre_layrnorm(tower.embeddings(pixels)), tower.encoder.layers[0]
        keys = F.linear(layer.layer_norm1(hidden), layer.self_attn.k_proj.weight, layer.self_attn.k_proj.bias)
    assert set(seen) == {0}, "where nothing merges nothing is asked"
    torch.testing.assert_close(seen[0][0], keys.reshape(2, 37, 4, 8).mean(2))
    assert seen[0][1] == 1


def test_a_question_from_pixels_to_costs(make):
    """What is left is a shorter prompt and a cheaper tower; ratios are to the model without merging."""
    backbone = make(max_new_tokens=2)
    costs = []
    for pruner in (component("pruner", "tome_vit", retention_ratio=0.5), component("pruner", "none")):
        answer, spent = line(backbone, pruner).answer(QUESTION, *line(backbone, pruner).watch("film.mp4", frozenset()))
        costs.append((answer, Account(backbone).flops(answer, 5, (64, 96), spent, frozenset())))
    (merged, cheaper), (plain, full) = costs
    assert merged.tokens_per_layer["visual"][0] * 2 == plain.tokens_per_layer["visual"][0]
    assert merged.full_rows == plain.full_rows
    assert cheaper["vision"] < full["vision"] == cheaper["full_vision"] == full["full_vision"]
    assert cheaper["full_thop"] == full["thop"] > cheaper["thop"]
    assert cheaper["selection"] == matching(merged.tower_rows, 8, 5) > 0
