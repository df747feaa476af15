"""PLLaVA and Tarsier in the layout of their releases, against `transformers`' LLaVA and slow definitions."""

import json

import pytest
import torch
from backbone import hosts
from backbone.reference import decode, kept_rows, masked_reference
from released import Listing, tiny_tensors
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaForConditionalGeneration

from kvtp.backbone._clip import CUES
from kvtp.backbone._weights import compare
from kvtp.metric.flops import vision, vision_cues
from kvtp.types import Frames, Prompt, Selection

CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
ASKED = Prompt("What?", "What?", (0, 5), "none")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: getattr(hosts, name)(tmp_path_factory.mktemp(name)) for name in ("pllava", "tarsier")}


@pytest.fixture(scope="module")
def make(folders):
    def made(family, **changed):
        small = {"side": 3, "frames": 5} if family == "pllava" else {}
        return hosts.host(f"{family}_7b", **{"checkpoint": str(folders[family]), **small} | changed)

    return made


def tensors(family):
    return tiny_tensors(family, hosts.LLAVA_SIZES, hosts.LLAVA_DEPTHS)


def merged(alpha):
    """PLLaVA's weights by hand: W + alpha / rank · B A, prefixes taken away."""
    told, plain = tensors("pllava"), {}
    for name, weight in told.items():
        short = name.replace("language_model.base_model.model.", "language_model.")
        if "lora_" in name:
            continue
        if ".base_layer." in name:
            down = told[name.replace("base_layer", "lora_A.default")]
            up = told[name.replace("base_layer", "lora_B.default")]
            weight = weight + alpha / down.shape[0] * (up @ down)
        plain[short.replace(".base_layer.", ".")] = weight
    return plain


def reference(backbone, named):
    """A model of `transformers` with these tensors, read by its own converter of old names."""
    model = LlavaForConditionalGeneration(backbone.config)
    table = {"language_model.lm_head": "lm_head", "language_model.model": "model.language_model"}
    table |= {"vision_tower.vision_model": "model.vision_tower", "multi_modal_proj": "model.multi_modal_proj"}
    renamed = {}
    for name, weight in named.items():
        old = next(prefix for prefix in table if name.startswith(prefix))
        renamed[table[old] + name.removeprefix(old)] = weight
    if any("vision_tower.vision_model." in name for name in model.state_dict()):  # transformers up to 5.17
        renamed = {name.replace("vision_tower.", "vision_tower.vision_model."): each for name, each in renamed.items()}
    model.load_state_dict(renamed, strict=True)
    return model.eval()


FULL = {  # what releases tell; the rest is as transformers has it for Llama and CLIP
    "text_config": {"vocab_size": 32064, "rms_norm_eps": 1e-5},
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "model_type": "clip_vision_model",
    },
}


@pytest.mark.parametrize("family", ["pllava", "tarsier"])
def test_released_names_and_shapes_are_those_of_the_model(family, tmp_path):
    """Vicuna-7B and CLIP-L/14 at 336 pixels are what LlavaConfig starts from."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", **FULL}))
    backbone = hosts.host(f"{family}_7b", checkpoint=str(tmp_path))
    assert not compare(backbone.bare_model(), Listing(family), backbone.layout)
    tokens = backbone.blank(backbone.frames, (360, 640))
    assert (tokens.frames, tokens.grid) == {"pllava": (16, (12, 12)), "tarsier": (8, (24, 24))}[family]


def look(model, pixels):
    """CLIP's states before its last layer, through the projector; eagerly, with its attention."""
    model.set_attn_implementation("eager")
    out = model.model.vision_tower(pixels, output_hidden_states=True, output_attentions=True)
    return model.model.multi_modal_projector(out.hidden_states[-2][:, 1:]), out


@torch.inference_mode()
def test_pllava_logits_equal_transformers(make, frames, prompt):
    """The middle square of each picture; means over 2 × 2 cells by reshaping; adapters merged by hand."""
    backbone = make("pllava", lora_alpha=14)
    model = reference(backbone, merged(14))
    pixels = F.interpolate(frames.pixels.permute(0, 3, 1, 2), (24, 42), mode="bicubic", antialias=True)[..., 9:33]
    features, _ = look(model, (pixels / 255.0 - CLIP_MEAN) / CLIP_STD)
    video = features.reshape(5, 3, 2, 3, 2, -1).mean((2, 4)).reshape(45, -1)
    tokens = backbone.encode(frames, frozenset())
    torch.testing.assert_close(tokens.features, video, atol=1e-4, rtol=0)
    state = backbone.embed(tokens, prompt)
    before, after = (backbone.words(ids) for ids in backbone.around(tokens, prompt))
    rows = torch.cat([before, video, after])[None]
    expected = model(inputs_embeds=rows, attention_mask=torch.ones(rows.shape[:2], dtype=torch.long)).logits[0]
    hidden = backbone.prefill(state, 3).hidden
    torch.testing.assert_close(model.lm_head(model.model.language_model.norm(hidden)), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


@torch.inference_mode()
def test_tarsier_logits_equal_transformers(make, frames, prompt):
    """Rows of 6 with word 390 after each, word 391 after each picture, laid out by loops."""
    backbone = make("tarsier")
    model = reference(backbone, tensors("tarsier"))
    pixels = F.interpolate(frames.pixels.permute(0, 3, 1, 2), (24, 24), mode="bicubic", antialias=True)
    features, _ = look(model, (pixels / 255.0 - CLIP_MEAN) / CLIP_STD)
    words, rows = model.get_input_embeddings().weight, []
    for picture in features:
        for row in range(6):
            rows += [*picture[6 * row : 6 * row + 6], words[390]]
        rows.append(words[391])
    tokens = backbone.encode(frames, frozenset())
    state = backbone.embed(tokens, prompt)
    before, after = (backbone.words(ids) for ids in backbone.around(tokens, prompt))
    whole = torch.cat([before, torch.stack(rows), after])
    torch.testing.assert_close(state.hidden, whole, atol=1e-4, rtol=0)
    assert state.count[:2] == (5 * 36, 5 * 7)
    mask = torch.ones(1, len(whole), dtype=torch.long)
    expected = model(inputs_embeds=whole[None], attention_mask=mask).logits[0]
    hidden = backbone.prefill(state, 3).hidden
    torch.testing.assert_close(model.lm_head(model.model.language_model.norm(hidden)), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


@pytest.mark.parametrize("family", ["pllava", "tarsier"])
@pytest.mark.parametrize(("layer", "site"), [(0, "layer"), (2, "layer"), (1, "attention")])
@torch.inference_mode()
def test_cut_equals_explicit_mask(make, frames, prompt, family, layer, site):
    backbone = make(family)
    start = backbone.embed(backbone.encode(frames, frozenset()), prompt)
    kept = (torch.rand(len(start.tokens), generator=torch.Generator().manual_seed(1)) < 0.15).nonzero()[:, 0]
    state = backbone.prefill(start, layer, site).keep(Selection(kept), renumber=False, compress_cache=False)
    rows, dropped = kept_rows(start, kept.tolist())
    assert torch.equal(state.position, start.position[rows])
    masked = layer + (site == "attention")
    expected, _ = masked_reference(backbone, start, 3, lambda n: dropped if n >= masked else [])
    torch.testing.assert_close(decode(backbone, state, 3), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_cues_equal_eager_reference(make, frames):
    """Attention weights as `transformers` returns them; Tarsier has one token per patch."""
    backbone = make("tarsier", frame_chunk=2)
    model = reference(backbone, tensors("tarsier"))
    pixels = F.interpolate(frames.pixels.permute(0, 3, 1, 2), (24, 24), mode="bicubic", antialias=True)
    _, out = look(model, (pixels / 255.0 - CLIP_MEAN) / CLIP_STD)
    attention, hidden = out.attentions[-2], out.hidden_states[-3]  # of the last layer that runs, and before it
    tower = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    layer = tower.encoder.layers[-2]
    normed = layer.layer_norm1(hidden)
    query, keys = layer.self_attn.q_proj(normed[:, 0]), layer.self_attn.k_proj(normed)
    one_head = (torch.einsum("tc,tpc->tp", query, keys) / 32**0.5).softmax(-1)[:, 1:]
    keys = keys[:, 1:]
    expected = {
        "cls_attention": one_head.flatten(),
        "cls_attention_heads": attention[:, :, 0, 1:].transpose(0, 1).flatten(1),
        "received_attention": attention.mean((1, 2))[:, 1:].flatten(),
        "tower_keys_full": keys.flatten(0, 1),
        "tower_keys": keys.reshape(5, 36, 4, 8).mean(2).flatten(0, 1),
        "tower_states": out.hidden_states[-2][:, 1:].flatten(0, 1),
    }
    assert expected.keys() == CUES
    cues = backbone.encode(frames, CUES).cues
    for name, value in expected.items():
        torch.testing.assert_close(getattr(cues, name), value, atol=1e-5, rtol=1e-5)
        (alone,) = (one for one in vars(backbone.encode(frames, frozenset({name})).cues).items() if one[1] is not None)
        assert alone[0] == name, "only what was asked for"


@torch.inference_mode()
def test_pllava_cues_are_pooled_as_tokens_are(make, frames):
    fine = make("pllava", side=6).encode(frames, CUES).cues
    coarse = make("pllava").encode(frames, CUES).cues
    for name in ("cls_attention", "received_attention"):
        cells = getattr(fine, name).reshape(5, 3, 2, 3, 2).mean((2, 4)).flatten()
        torch.testing.assert_close(getattr(coarse, name), cells)
    heads = fine.cls_attention_heads.reshape(4, 5, 3, 2, 3, 2).mean((3, 5)).flatten(1)
    torch.testing.assert_close(coarse.cls_attention_heads, heads)


def film(pictures):
    generator = torch.Generator().manual_seed(pictures)
    pixels = torch.randint(0, 256, (pictures, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(pictures).double(), torch.arange(pictures), float(pictures), "none")


@torch.inference_mode()
def test_pllava_averages_many_pictures(make):
    """torch's 3-D adaptive mean over time, rows and columns at once."""
    whole = make("pllava", side=6, frames=11).encode(film(11), frozenset()).features
    cells = whole.reshape(11, 6, 6, -1).permute(3, 0, 1, 2)
    expected = F.adaptive_avg_pool3d(cells, (5, 3, 3)).permute(1, 2, 3, 0).flatten(0, 2)
    tokens = make("pllava").encode(film(11), frozenset())
    assert (tokens.frames, tokens.grid, len(tokens.timestamps)) == (5, (3, 3), 5)
    torch.testing.assert_close(tokens.features, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("pictures", "shown"), [(1, [0] * 5), (2, [0, 0, 0, 1, 1]), (3, [0, 0, 1, 1, 2])])
@torch.inference_mode()
def test_pllava_repeats_few_pictures(make, pictures, shown):
    """Each as often, the end cut off, as the release has it."""
    tokens = make("pllava").encode(film(pictures), CUES)
    alone = make("pllava", frames=pictures).encode(film(pictures), CUES)
    assert tokens.timestamps.tolist() == shown
    rows = [9 * picture + cell for picture in shown for cell in range(9)]
    torch.testing.assert_close(tokens.features, alone.features[rows])
    torch.testing.assert_close(tokens.cues.cls_attention, alone.cues.cls_attention[rows])


@pytest.mark.parametrize("pictures", [2, 5, 11])
@torch.inference_mode()
def test_pllavas_tower_is_paid_for_every_picture(make, pictures):
    backbone = make("pllava", attn="eager")
    backbone.load()
    with FlopCounterMode(display=False) as counter:
        backbone.encode(film(pictures), frozenset())
    shape = backbone.vision_shape((32, 32))
    assert vision(shape, backbone.looks(pictures)) == counter.get_total_flops()


def test_prompts(make, frames):
    told = {"pllava": "USER: <image>\n USER: What? ASSISTANT:", "tarsier": "USER: <image>\nWhat? ASSISTANT:"}
    for family, text in told.items():
        backbone = make(family)
        sides = backbone.around(backbone.blank(5, (90, 160)), ASKED)
        assert "<image>".join(backbone.tokenizer.decode(ids) for ids in sides) == text
    backbone, chosen = make("pllava", system="Watch."), Prompt("What?", "What?", (0, 5), "none", ("A", "B"))
    sides = backbone.around(backbone.blank(5, (90, 160)), chosen)
    assert "<image>".join(backbone.tokenizer.decode(ids) for ids in sides) == f"Watch. {told['pllava']}"


def test_kinds_of_newlines_that_there_are_not(make):
    with pytest.raises(Exception, match=r"backbone\.newline must be one of None, none, got 'grid'"):
        make("pllava", newline="grid")
    with pytest.raises(Exception, match=r"backbone\.newline must be one of None, grid, frame, grid_frame, none, got"):
        make("tarsier", newline="one_token")


@pytest.mark.parametrize("family", ["pllava", "tarsier"])
@pytest.mark.parametrize("cues", [frozenset(), frozenset({"cls_attention"}), frozenset({"received_attention"}), CUES])
def test_vision_equals_torch_counter(make, frames, family, cues):
    """Eagerly, for on a CPU torch counts nothing of its fused attention. The merging of heads is no product."""
    backbone = make(family, attn="eager")
    backbone.load()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone.encode(frames, cues)
    shape = backbone.vision_shape(frames.size)
    assert vision(shape, 5) + vision_cues(shape, 5, cues) == counter.get_total_flops()


def test_another_family_is_refused(make, tiny):
    with pytest.raises(ValueError, match=r"must be a llava or pllava with a llama inside, .* is llava_onevision"):
        _ = make("pllava", checkpoint=tiny().checkpoint).shape
