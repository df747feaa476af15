"""Qwen2.5-VL in the layout of its release, against `transformers`' own model and slow definitions."""

import json
from dataclasses import replace

import pytest
import torch
from backbone import hosts
from backbone.reference import decode
from backbone.test_mrope import WHOLE_SECONDS
from PIL import Image
from released import Listing, tiny_tensors, write_shards
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from kvtp.backbone import _siglip
from kvtp.backbone._qwen_vision import CUES, fitted, windows
from kvtp.backbone._weights import compare
from kvtp.metric.account import Account
from kvtp.metric.flops import vision, vision_cues
from kvtp.types import CUES as ALL_CUES
from kvtp.types import Frames, Selection

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
SIZES = [(90, 160), (90, 132), (118, 112), (30, 40)]  # 3×6, 3×5, 4×4, and 2×3 tokens of 28 pixels: the least allowed
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hosts.qwen2_5_vl(tmp_path_factory.mktemp("qwen2_5_vl"))


@pytest.fixture(scope="module")
def make(folder):
    """`make(attn="eager", …)`; with `like`, on the weights of another host."""

    def made(like=None, **changed):
        host = hosts.host("qwen2_5_vl_7b", **{"checkpoint": str(folder), "max_new_tokens": 16} | changed)
        if like is not None:
            vars(host)["model"] = like.model
        return host

    return made


@pytest.fixture(scope="module")
def backbone(make):
    return make()


@pytest.fixture(scope="module")
def start(backbone, frames, prompt):
    return backbone.embed(backbone.encode(frames, frozenset()), prompt)


def film(count, size, gap=1.0):
    generator = torch.Generator().manual_seed(sum(size) + count)
    pixels = torch.randint(0, 256, (count, *size, 3), generator=generator, dtype=torch.uint8)
    times = torch.arange(count, dtype=torch.float64) * gap
    return Frames(pixels, times, torch.arange(count), duration=count * gap, reader="none")


def patched(pixels, height, width):
    """What `transformers` wants: pictures resized and normalised, in pairs (the last one repeated), patch by patch:
    cells of 2 × 2 patches in raster order, in each its patches in raster order, in each channel, picture, row, column.
    """
    resized = F.interpolate(pixels.permute(0, 3, 1, 2), (height, width), mode="bicubic", antialias=True)
    pictures = [(picture / 255 - CLIP_MEAN) / CLIP_STD for picture in resized]
    pictures += pictures[-1:] * (len(pictures) % 2)
    patches = []
    for pair in zip(pictures[::2], pictures[1::2], strict=True):
        both = torch.stack(pair, 1)  # channel, picture, height, width
        for top in range(0, height, 28):
            for left in range(0, width, 28):
                for y in (top, top + 14):
                    patches += [both[:, :, y : y + 14, x : x + 14].flatten() for x in (left, left + 14)]
    return torch.stack(patches), torch.tensor([[len(pictures) // 2, height // 14, width // 14]])


def hf_inputs(backbone, frames, prompt):
    """What a user of plain `transformers` would feed."""
    patches, grid = patched(frames.pixels, *smart_resize(*frames.size, min_pixels=3136, max_pixels=12845056))
    pads = "<|video_pad|>" * (int(grid.prod()) // 4)
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
    text += f"{pads}<|vision_end|>{prompt.text}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([backbone.tokenizer(text).input_ids])
    return {
        "input_ids": ids,
        "pixel_values_videos": patches,
        "video_grid_thw": grid,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": 2 * (ids == backbone.config.video_token_id).int(),
        "second_per_grid_ts": torch.tensor([2 * float(frames.timestamps[1] - frames.timestamps[0])]),
    }


# -- weights -----------------------------------------------------------------------------------------------------------


def test_released_names_and_shapes_are_a_full_size_model(project_root):
    host = hosts.host("qwen2_5_vl_7b", checkpoint=str(project_root / "shapes/qwen2_5_vl_7b"))
    assert str(compare(host.bare_model(), Listing("qwen2_5_vl"), host.layout)) == "none"


def test_tensors_arrive_under_their_names(backbone):
    """Every number of the release is somewhere in the model, and nothing else is."""
    released = tiny_tensors("qwen2_5_vl", hosts.QWEN_VL_SIZES, hosts.QWEN_VL_DEPTHS)
    model = backbone.model.state_dict()
    assert len(model) == len(released)
    for name in ("visual.blocks.2.attn.qkv.bias", "visual.merger.mlp.0.weight", "visual.patch_embed.proj.weight"):
        assert torch.equal(model[f"model.{name}"], released[name])
    for name in ("embed_tokens.weight", "layers.3.self_attn.k_proj.bias", "norm.weight"):
        assert torch.equal(model[f"model.language_model.{name}"], released[f"model.{name}"])
    assert torch.equal(model["lm_head.weight"], released["lm_head.weight"])


def test_what_transformers_saves_loads(make, backbone, tmp_path):
    backbone.model.save_pretrained(tmp_path)
    again = make(checkpoint=str(tmp_path)).model.state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in backbone.model.state_dict().items())


def test_its_names_inside_a_model_load(make, backbone, folder, tmp_path):
    """`model.language_model.*`, `model.visual.*`: as fine-tuned checkpoints of newer versions have them."""
    write_shards(tmp_path, backbone.model.state_dict())
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    again = make(checkpoint=str(tmp_path)).model.state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in backbone.model.state_dict().items())


def test_tied_head(make, tmp_path):
    """3B has no lm_head: it is the word embedding, once in memory."""
    folder = hosts.qwen2_5_vl(tmp_path, tie_word_embeddings=True)
    tensors = tiny_tensors("qwen2_5_vl", hosts.QWEN_VL_SIZES, hosts.QWEN_VL_DEPTHS)
    del tensors["lm_head.weight"]
    write_shards(folder, tensors)
    model = make(checkpoint=str(folder)).model
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, tensors["model.embed_tokens.weight"])


def test_other_weights_are_refused(make, tmp_path):
    folder = hosts.qwen2_5_vl(tmp_path)
    tensors = tiny_tensors("qwen2_5_vl", hosts.QWEN_VL_SIZES, hosts.QWEN_VL_DEPTHS)
    tensors["visual.blocks.0.norm3.weight"] = tensors.pop("visual.blocks.0.norm2.weight")
    write_shards(folder, tensors)
    with pytest.raises(ValueError, match=r"1 missing: model\.visual\.blocks\.0\.norm2\.weight; 1 unexpected: visual"):
        _ = make(checkpoint=str(folder)).model


# -- the tower ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [28, 30])
def test_sizes_are_transformers(side):
    random = torch.Generator().manual_seed(side)
    for height, width in torch.randint(10, 3000, (500, 2), generator=random).tolist():
        if max(height, width) / min(height, width) <= 200:
            bounds = {"min_pixels": 40_000, "max_pixels": 700_000}
            expected = smart_resize(height, width, factor=side, **bounds)
            assert fitted((height, width), side, *bounds.values()) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@torch.inference_mode()
def test_features_equal_get_video_features(make, size, attn):
    host, frames = make(attn=attn), film(5, size)
    tokens = host.encode(frames, frozenset())
    patches, grid = patched(frames.pixels, *smart_resize(*size, min_pixels=3136, max_pixels=12845056))
    (expected,) = host.model.get_video_features(patches, grid).pooler_output
    torch.testing.assert_close(tokens.features, expected, **CLOSE)
    assert (tokens.frames, *tokens.grid) == (3, int(grid[0, 1]) // 2, int(grid[0, 2]) // 2)


@torch.inference_mode()
def test_one_picture_is_transformers_image(backbone):
    """Through its image processor, pixels and all: it takes a single picture twice, too."""
    frames = film(1, (84, 168))  # a size that stays: PIL resizes to within a grey level only
    picture = Image.fromarray(frames.pixels[0].numpy())
    processed = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12845056})(picture)
    pixels = torch.as_tensor(processed["pixel_values"]), torch.as_tensor(processed["image_grid_thw"])
    (expected,) = backbone.model.get_image_features(*pixels).pooler_output
    torch.testing.assert_close(backbone.encode(frames, frozenset()).features, expected, **CLOSE)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_chunks_do_not_change_anything(make, backbone, count):
    """Pairs stay together in chunks of any length."""
    frames = film(count, (90, 132))
    whole = backbone.encode(frames, CUES)
    for chunk in (1, 2, 3, 6):
        parts = make(like=backbone, frame_chunk=chunk).encode(frames, CUES)
        torch.testing.assert_close(parts.features, whole.features, **CLOSE)
        for cue in CUES:
            torch.testing.assert_close(getattr(parts.cues, cue), getattr(whole.cues, cue), **CLOSE)


def test_an_odd_picture_is_taken_twice(backbone):
    odd = film(5, (90, 160))
    even = replace(
        odd,
        pixels=torch.cat([odd.pixels, odd.pixels[-1:]]),
        timestamps=torch.cat([odd.timestamps, odd.timestamps[-1:]]),
        indices=torch.arange(6),
    )
    three, also = backbone.encode(odd, frozenset()), backbone.encode(even, frozenset())
    assert torch.equal(three.features, also.features)
    assert three.timestamps.tolist() == also.timestamps.tolist() == [0.5, 2.5, 4.0]
    assert three.frames == backbone.blank(5, (90, 160)).frames == 3
    assert torch.equal(three.original, three.frame * 18 + three.row * 6 + three.column)


def test_pictures_are_capped(make, backbone):
    small = make(like=backbone, max_pixels=8_000)
    assert small.fitted((90, 160)) == (56, 112)
    tokens = small.encode(film(2, (90, 160)), frozenset())
    assert tokens.grid == (2, 4)
    assert len(tokens) == len(small.blank(2, (90, 160))) == 8


@pytest.fixture(scope="module")
def told(backbone):
    """Cues by another road: the last block's input and output as they pass through `transformers`' own forward, its
    attention recomputed patch by patch order and all, cells put back in raster order by their slow definition."""
    frames, last = film(5, (90, 132)), backbone.model.model.visual.blocks[-1]
    seen = {}
    hooks = [
        last.attn.register_forward_pre_hook(
            lambda _, args, kwargs: seen.update(normed=args[0], rotary=kwargs["position_embeddings"]), with_kwargs=True
        ),
        last.register_forward_hook(lambda _, args, out: seen.update(states=out)),
    ]
    with torch.inference_mode():
        (tokens,) = backbone.model.get_video_features(*patched(frames.pixels, 84, 140)).pooler_output
        for hook in hooks:
            hook.remove()
        query, key, _ = last.attn.qkv(seen["normed"]).split(48, 1)
        turned = [each.reshape(-1, 4, 12) for each in (query, key)]
        cos, sin = (each[:, None] for each in seen["rotary"])
        turned = [x * cos + torch.cat([-x[..., 6:], x[..., :6]], -1) * sin for x in turned]
        received, probed = [], []
        for rows in torch.arange(3 * 60).split(60):  # a token frame: 3 × 5 cells of four patches
            probe = torch.stack([turned[0][row] for row in rows]).mean(0)  # heads × 12
            cells = [turned[1][four].mean(0) for four in rows.split(4)]
            logits = torch.tensor([[head @ key for head, key in zip(probe, cell, strict=True)] for cell in cells])
            probed.append((logits / 12**0.5).softmax(0).mean(1))
            scores = torch.einsum("qhd,khd->hqk", turned[0][rows], turned[1][rows]) / 12**0.5
            received.append(scores.softmax(-1).mean((0, 1)))
    order = [
        frame * 15 + row * 5 + column
        for frame in range(3)
        for top in (0, 2)
        for left in (0, 2, 4)
        for row in range(top, min(top + 2, 3))
        for column in range(left, min(left + 2, 5))
    ]
    cues = {
        "received_attention": torch.cat(received),
        "tower_keys_full": key,
        "tower_keys": key.reshape(-1, 4, 12).mean(1),
        "tower_states": seen["states"],
        "probe_attention": torch.cat(probed).repeat_interleave(4),
    }
    found = {"frame_feature": torch.stack([frame.mean(0) for frame in tokens.split(15)])}
    for name, cue in cues.items():
        found[name] = torch.empty(45, *cue.shape[1:])
        found[name][order] = cue.reshape(45, 4, *cue.shape[1:]).mean(1)
    return frames, found


@pytest.mark.parametrize("cue", sorted(CUES))
def test_cue_equals_eager_reference(backbone, told, cue):
    frames, expected = told
    cues = backbone.encode(frames, frozenset({cue})).cues
    torch.testing.assert_close(getattr(cues, cue), expected[cue], atol=1e-5, rtol=1e-5)
    assert {name for name in ALL_CUES if getattr(cues, name) is not None} == {cue}, "only what was asked for"


def test_received_attention_in_parts(monkeypatch):
    """Not even one token frame's map is held whole where it is too large."""
    queries, keys = torch.randn(2, 3, 36, 8, generator=torch.Generator().manual_seed(0)).unbind()
    whole = _siglip.received_attention(queries, keys, heads=2)
    monkeypatch.setattr(_siglip, "ATTENTION_CELLS", 2 * 36 * 5)
    torch.testing.assert_close(_siglip.received_attention(queries, keys, heads=2), whole)


def test_supplies_is_what_encode_and_ask_give(make, backbone, frames, prompt, tmp_path):
    tokens = backbone.ask(backbone.encode(frames, backbone.supplies), prompt)
    assert {name for name in ALL_CUES if getattr(tokens.cues, name) is not None} == backbone.supplies
    windowed = make(checkpoint=str(hosts.qwen2_5_vl(tmp_path, {"fullatt_block_indexes": [1, 2]})))
    assert backbone.supplies - windowed.supplies == {"received_attention", "probe_attention"}
    tokens = windowed.ask(windowed.encode(frames, backbone.supplies), prompt)
    assert {name for name in ALL_CUES if getattr(tokens.cues, name) is not None} == windowed.supplies


# -- the sequence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1.0, 0.35])
@torch.inference_mode()
def test_unpruned_logits_equal_transformers(make, backbone, prompt, gap):
    """By its rule. The last frame's time, 8 · gap, lies behind the six columns for gap 1."""
    if WHOLE_SECONDS and gap % 0.5:
        pytest.skip("this version truncates the seconds between token frames before the product")
    frames, host = film(5, (90, 160), gap), make(like=backbone, mrope="transformers")
    inputs = hf_inputs(host, frames, prompt)
    state = host.embed(host.encode(frames, frozenset()), prompt)
    position, delta = host.model.model.get_rope_index(**{k: v for k, v in inputs.items() if "pixel" not in k})
    assert torch.equal(state.position, position[:, 0])
    assert state.next_position == int(delta) + len(state)
    expected = host.model(**inputs).logits[0, -1]
    logits = host.decoder.logits(host.prefill(state, 4))
    torch.testing.assert_close(logits, expected, **CLOSE)


@torch.inference_mode()
def test_original_positions_give_transformers_logits(backbone, frames, prompt, start):
    """By the original rule, positions written down by hand: pairs are 2 s apart, 2 · 2 places a second."""
    before, count = start.before, 54
    assert len(start) == before + count + start.after
    frame, cell = torch.arange(count) // 18, torch.arange(count) % 18
    video = before + torch.stack([4 * frame, cell // 6, cell % 6])
    text = before + 9 + torch.arange(start.after)  # the last frame is at before + 8
    position = torch.cat([torch.arange(before).expand(3, -1), video, text.expand(3, -1)], 1)
    assert torch.equal(start.position, position)
    assert torch.equal(start.tokens.position, video)
    assert start.next_position == before + 9 + start.after
    inputs = hf_inputs(backbone, frames, prompt)
    expected = backbone.model(**inputs, position_ids=position[:, None]).logits[0, -1]
    other = backbone.model(**inputs).logits[0, -1]
    assert (expected - other).abs().max() > 1e-3, "the rules would not show"
    logits = backbone.decoder.logits(backbone.prefill(replace(start, cache=type(start.cache)()), 4))
    torch.testing.assert_close(logits, expected, **CLOSE)


@pytest.mark.parametrize("mrope", ["transformers", "original"])
@torch.inference_mode()
def test_a_conversation_of_several_turns(make, backbone, frames, prompt, mrope):
    """One exchange before the film, one after it, then a question: positions and logits of all rows are theirs, for
    `original` with the text after the film moved behind the greatest place on any axis."""
    host = make(like=backbone, mrope=mrope)
    end, begin = "<|im_end|>\n", "<|im_start|>"
    before = f"{begin}user\nWhat is red?{end}{begin}assistant\nA circle.{end}{begin}user\n<|vision_start|>"
    after = (
        f"<|vision_end|>And here?{end}{begin}assistant\nA square.{end}{begin}user\n{prompt.text}{end}{begin}assistant\n"
    )
    host.around = lambda tokens, prompt: (host.ids(before), host.ids(after))
    inputs = hf_inputs(host, frames, prompt)
    pads = [host.config.video_token_id] * int(inputs["mm_token_type_ids"].bool().sum())
    ids = torch.tensor([[*host.ids(before), *pads, *host.ids(after)]])
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["mm_token_type_ids"] = 2 * (ids == host.config.video_token_id).int()
    position, _ = host.model.model.get_rope_index(**{k: v for k, v in inputs.items() if "pixel" not in k})
    if mrope == "original":
        behind = len(host.ids(before)) + len(pads)
        last = int(position[..., :behind].max()) + 1
        position[..., behind:] = last + torch.arange(ids.shape[1] - behind)
    state = host.embed(host.encode(frames, frozenset()), prompt)
    assert torch.equal(state.position, position[:, 0])
    expected = host.model(**inputs, position_ids=position).logits[0]
    hidden = host.prefill(state, host.shape.layers).hidden
    logits = host.model.lm_head(host.model.model.language_model.norm(hidden))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_sixteen_greedy_tokens_equal_generate(make, backbone, frames, prompt):
    host = make(like=backbone, mrope="transformers")
    inputs = hf_inputs(host, frames, prompt)
    expected = host.model.generate(**inputs, max_new_tokens=16, do_sample=False, eos_token_id=10**6)
    new = expected[0, inputs["input_ids"].shape[1] :].tolist()
    state = host.prefill(host.embed(host.encode(frames, frozenset()), prompt), 4)
    assert host.decoder.write(state, lambda logits: int(logits.argmax()), frozenset(), 16) == new
    assert len(set(new)) > 4, "a constant reply would show nothing"


def masked(backbone, state, steps, dropped_at):
    """Logits of `steps` + 1 tokens: the whole sequence, never shortened, under explicit masks, without a cache.
    Angles by the definition of M-RoPE: of the 8 frequencies 2 turn with time, 3 with the row, 3 with the column; a
    new token has the next position on all axes. `dropped_at(layer)` -> rows that nobody sees there."""
    model, head = backbone.language
    hidden, position = state.hidden, state.position
    frequency = 1e6 ** (-torch.arange(0, 16, 2) / 16)
    axis = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])
    logits = []
    for step in range(steps + 1):
        x, size = hidden, len(hidden)
        angle = (position[axis].T * frequency).repeat(1, 2)[:, None]

        def heads(projected, turn, angle=angle):
            y = projected.unflatten(1, (-1, 16))
            half = torch.cat([-y[..., 8:], y[..., :8]], -1)
            return (y * angle.cos() + half * angle.sin() if turn else y).repeat_interleave(4 // y.shape[1], 1)

        for number, layer in enumerate(model.layers):
            seen = torch.full((size, size), float("-inf")).triu(1)
            seen[:, dropped_at(number)] = float("-inf")
            seen.fill_diagonal_(0)  # a dropped row sees itself, so that its own (unused) output is no NaN
            a, normed = layer.self_attn, layer.input_layernorm(x)
            query, key, value = heads(a.q_proj(normed), 1), heads(a.k_proj(normed), 1), heads(a.v_proj(normed), 0)
            weights = (torch.einsum("qhd,khd->hqk", query, key) / 4 + seen).softmax(-1)
            x = x + a.o_proj(torch.einsum("hqk,khd->qhd", weights, value).flatten(1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        logits.append(head(model.norm(x[-1])))
        hidden = torch.cat([hidden, model.embed_tokens.weight[logits[-1].argmax()][None]])
        position = torch.cat([position, torch.full((3, 1), state.next_position + step)], 1)
    return torch.stack(logits)


@pytest.mark.parametrize("mrope", ["original", "transformers"])
@pytest.mark.parametrize(("layer", "site"), [(0, "layer"), (2, "layer"), (3, "layer"), (1, "attention")])
@torch.inference_mode()
def test_cut_equals_explicit_mask(make, backbone, frames, prompt, layer, site, mrope):
    """And every token keeps its three positions, whatever the pruner asks for; replies go on where they would."""
    host = make(like=backbone, mrope=mrope)
    start = host.embed(host.encode(frames, frozenset()), prompt)
    kept = (torch.rand(len(start.tokens), generator=torch.Generator().manual_seed(layer)) < 0.25).nonzero()[:, 0]
    state = host.prefill(start, layer, site).keep(Selection(kept), renumber=True, compress_cache=False)
    assert torch.equal(state.visual.position, start.tokens.position[:, kept])
    assert torch.equal(state.tokens.position, start.tokens.position[:, kept])
    assert state.next_position == start.next_position
    visible = set(kept.tolist())
    dropped = [start.before + row for row in range(len(start.tokens)) if row not in visible]
    first = layer + (site == "attention")
    expected = masked(host, start, 5, lambda number: dropped if number >= first else [])
    torch.testing.assert_close(decode(host, state, 5), expected, **CLOSE)


@torch.inference_mode()
def test_no_visual_token_left(backbone, frames, prompt):
    start = backbone.embed(backbone.encode(frames, frozenset()), prompt)
    state = start.keep(Selection(torch.empty(0, dtype=torch.int64)), renumber=True, compress_cache=False)
    dropped = list(range(start.before, start.before + len(start.tokens)))
    torch.testing.assert_close(decode(backbone, state, 2), masked(backbone, start, 2, lambda _: dropped), **CLOSE)


def test_seconds_between_token_frames(make, backbone, prompt):
    """As told, or as the pictures were sampled: 7 pictures, 0.35 s apart, are 4 token frames 0.7 s apart."""
    frames = film(7, (90, 160), 0.35)

    def times(**changed):
        host = make(like=backbone, **changed)
        state = host.embed(host.encode(frames, frozenset()), prompt)
        return (state.tokens.position[0] - state.before).unique().tolist()

    assert times() == [0, 1, 2, 4]
    assert times(seconds_per_grid=1.0) == [0, 2, 4, 6]
    assert backbone.encode(film(1, (90, 160)), frozenset()).position[0].unique().tolist() == [0]


def test_prompt_is_the_releases(backbone, frames, prompt):
    before, after = backbone.around(backbone.blank(5, frames.size), prompt)
    ids = hf_inputs(backbone, frames, prompt)["input_ids"][0].tolist()
    video = backbone.config.video_token_id
    assert [*before, *[video] * 54, *after] == ids


@pytest.mark.parametrize(("changed", "message"), [
    ({"newline": "grid"}, r"backbone\.newline must be one of None, none, got 'grid'"),
    ({"max_pixels": 3000}, r"backbone\.max_pixels must be a whole number in \[3136, inf\], got 3000"),
    ({"mrope": "orignal"}, r"backbone\.mrope must be one of original, transformers, got 'orignal'; nearest: original"),
    ({"seconds_per_grid": -1.0}, r"backbone\.seconds_per_grid must be in \[0, inf\], got -1"),
])  # fmt: skip
def test_wrong_values_name_the_rule(make, changed, message):
    with pytest.raises(Exception, match=message):
        make(**changed)
    assert make(newline="none").newlines == make().newlines == "none"


# -- costs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(90, 160), (90, 132), (200, 310)])
@torch.inference_mode()
def test_vision_flops_equal_the_counter(make, size):
    """All matrix products of three token frames, as torch counts them. Eager: the counter knows no formula for the
    CPU's fused attention. Rotary angles are made by broadcasting, and resizing is no product: neither is counted,
    by the one or by the other."""
    host, frames = make(attn="eager"), film(6, size)
    shape = host.vision_shape(size)

    def counted(cues):
        with FlopCounterMode(display=False) as counter:
            host.encode(frames, cues)
        return counter.get_total_flops()

    seen = counted(frozenset())
    assert seen == vision(shape, 3)
    pooled = {"probe_attention", "frame_feature"}
    for cues in (*({cue} for cue in CUES), pooled, pooled | {"tower_keys"}, CUES):
        assert counted(frozenset(cues)) - seen == vision_cues(shape, 3, cues)


def test_windows_by_hand():
    """3 × 5 cells, windows of 2 × 2: two whole ones, one cut off on the right, two below, the corner."""
    order, kinds = windows(3, 5, 2)
    assert order.tolist() == [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]
    assert kinds == ((2, 4), (1, 2), (2, 2), (1, 1))
    assert windows(1, 1, 4)[1] == ((1, 1),)


@pytest.mark.parametrize(("size", "tower_ffn"), [("7b", 3420), ("72b", 3456)])
def test_full_size(project_root, size, tower_ffn):
    """640 × 360 is 13 × 23 tokens: 3 × 5 whole windows of 4 × 4, five of 1 × 4 below, three of 4 × 3, one of 1 × 3."""
    host = hosts.host(f"qwen2_5_vl_{size}", checkpoint=str(project_root / f"shapes/qwen2_5_vl_{size}"))
    shape, macs = Account(host).seeing((360, 640))
    patches, width = 13 * 23 * 4, host.shape.width
    windowed = 15 * 64**2 + 5 * 16**2 + 3 * 48**2 + 12**2
    assert shape.rows == shape.patches == patches
    assert shape.pairs == 4 * patches**2 + 28 * windowed
    linear = patches * 1176 * 1280 + 32 * patches * 1280 * (4 * 1280 + 3 * tower_ffn)
    merger = 13 * 23 * 5120 * (5120 + width)
    assert shape.connector == merger
    assert macs.frame == linear + merger, "THOP sees all but the products of attention"
    assert len(host.blank(64, (360, 640))) == 32 * 299


def test_configuration_keeps_what_the_release_says(project_root):
    """transformers' defaults differ from the release in these; its flat file must win."""
    for size, width in (("7b", 3584), ("72b", 8192)):
        folder = project_root / f"shapes/qwen2_5_vl_{size}"
        config = hosts.host("qwen2_5_vl_7b", checkpoint=str(folder)).config
        vision, text = config.vision_config, config.text_config
        assert (vision.tokens_per_second, vision.hidden_size, vision.out_hidden_size) == (2, 1280, width)
        assert (text.rms_norm_eps, text.hidden_size) == (1e-6, width)
        assert text.rope_parameters["mrope_section"] == [16, 24, 24]
        assert text.rope_parameters["rope_theta"] == 1e6
        assert json.loads((folder / "config.json").read_text())["vocab_size"] == text.vocab_size
