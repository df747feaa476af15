"""LLaVA-Video in the layout of its release: names, sequence, prompt; logits against `transformers`' own forward."""

import json

import pytest
import torch
from backbone import hosts
from released import Listing, tiny_tensors
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import LlavaOnevisionForConditionalGeneration

from kvtp.backbone._weights import compare
from kvtp.types import Prompt

RELEASED = {  # config.json of LLaVA-Video-7B-Qwen2, the fields that matter
    "model_type": "llava",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_newline_position": "grid",
    "mm_spatial_pool_mode": "bilinear",
    "add_time_instruction": True,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hosts.llava_video(tmp_path_factory.mktemp("llava_video"))


@pytest.fixture(scope="module")
def make(folder):
    return lambda **changed: hosts.host("llava_video_7b", **{"checkpoint": str(folder), "head": None} | changed)


@pytest.fixture
def full_size(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RELEASED))
    return lambda **changed: hosts.host("llava_video_7b", **{"checkpoint": str(tmp_path)} | changed)


def test_released_names_and_shapes_are_those_of_the_model(full_size):
    backbone = full_size()
    assert not compare(backbone.bare_model(), Listing("llava_video"), backbone.layout)


@pytest.mark.parametrize(
    ("pool", "newline", "rows"),
    [(None, None, 13_440), (None, "none", 12_544), ("average", "none", 10_816), ("average", None, 11_648)],
)
def test_sixty_four_frames(full_size, pool, newline, rows):
    """14 × 14 bilinear tokens and a newline per row are the release's own; 13 × 13 is lmms-eval's choice."""
    backbone = full_size(pool=pool, newline=newline)
    tokens = backbone.blank(backbone.frames, (360, 640))
    assert backbone.frames == 64
    assert len(tokens) + 64 * tokens.grid[0] * (backbone.newlines == "grid") == rows


def reference(folder) -> LlavaOnevisionForConditionalGeneration:
    """A model of `transformers` with the same tensors, renamed by a table of its own, loaded by itself."""
    table = {
        "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
        "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
        "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
        "model.layers.": "model.language_model.layers.",
        "model.norm.": "model.language_model.norm.",
        "model.embed_tokens.": "model.language_model.embed_tokens.",
    }
    model = LlavaOnevisionForConditionalGeneration(hosts.host("llava_video_7b", checkpoint=str(folder)).config)
    named = {}
    for name, weight in tiny_tensors("llava_video", hosts.LLAVA_VIDEO_SIZES, hosts.LLAVA_VIDEO_DEPTHS).items():
        prefix = next((old for old in table if name.startswith(old)), "")
        named[table.get(prefix, "") + name.removeprefix(prefix)] = weight
    nested = {name for name in model.state_dict() if "vision_tower.vision_model." in name}
    if nested:  # transformers up to 5.17
        named = {name.replace("vision_tower.", "vision_tower.vision_model."): weight for name, weight in named.items()}
    model.load_state_dict(named, strict=True)
    return model.eval()


@torch.inference_mode()
def test_full_logits_equal_transformers(make, folder, frames, prompt):
    """Pixels, pooling and newlines by another road: the released code's chain of permutations."""
    backbone, model = make(), reference(folder)
    pixels = F.interpolate(frames.pixels.permute(0, 3, 1, 2), (28, 28), mode="bicubic", antialias=True) / 127.5 - 1
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    pooled = model.model.apply_pooling(model.model.multi_modal_projector(states))  # [T, 16, D]
    channels = pooled.reshape(5, 4, 4, -1).permute(3, 0, 1, 2).flatten(1, 2)  # [D, T · rows, columns]
    column = model.model.image_newline[:, None, None].expand(-1, channels.shape[1], 1)
    video = torch.cat([channels, column], 2).flatten(1, 2).T

    tokens = backbone.encode(frames, frozenset())
    state = backbone.embed(tokens, prompt)
    before, after = (backbone.words(ids) for ids in backbone.around(tokens, prompt))
    rows = torch.cat([before, video, after])
    torch.testing.assert_close(state.hidden, rows, atol=1e-4, rtol=0)
    assert state.count == (80, 20, len(before) + len(after))
    expected = model(inputs_embeds=rows[None], attention_mask=torch.ones(1, len(rows), dtype=torch.long)).logits[0]
    hidden = backbone.prefill(state, 3).hidden
    torch.testing.assert_close(model.lm_head(model.model.language_model.norm(hidden)), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1, "logits that hardly differ would show nothing"


def test_the_sentence_about_times(make, frames, prompt):
    asked = Prompt("What?", "What?", (0, 5), "none")
    backbone = make()
    tokens = backbone.encode(frames, frozenset())
    before, after = (backbone.tokenizer.decode(ids) for ids in backbone.around(tokens, asked))
    assert before == "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    assert after == (
        "The video lasts for 5.00 seconds, and 5 frames are uniformly sampled from it. These frames are located at "
        "0.00s,1.00s,2.00s,3.00s,4.00s.Please answer the following questions related to this video.\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    _, plain = make(time_instruction=False).around(tokens, asked)
    assert backbone.tokenizer.decode(plain) == "\nWhat?<|im_end|>\n<|im_start|>assistant\n"


def test_its_configuration_decides_unless_told_otherwise(make, tmp_path):
    told = {"mm_newline_position": "no_token", "mm_spatial_pool_mode": "average", "add_time_instruction": False}
    other = make(checkpoint=str(hosts.llava_video(tmp_path, **told)))
    assert (other.newlines, other.pooling, other.tells_times) == ("none", "average", False)
    assert (make().newlines, make().pooling, make().tells_times) == ("grid", "bilinear", True)
    chosen = make(newline="frame", pool="average", time_instruction=False)
    assert (chosen.newlines, chosen.pooling, chosen.tells_times) == ("frame", "average", False)


@pytest.mark.parametrize(("key", "value"), [
    ("mm_newline_position", "weird"), ("mm_spatial_pool_mode", "max"), ("mm_spatial_pool_stride", 4),
    ("add_faster_video", True),
])  # fmt: skip
def test_what_is_not_made_here_is_refused(make, tmp_path, key, value):
    other = make(checkpoint=str(hosts.llava_video(tmp_path, **{key: value})))
    with pytest.raises(ValueError, match=rf"{key} of .* must be .*, it is {value!r}"):
        _ = other.shape


def test_a_head_that_is_not_there_is_missing(make, tmp_path):
    """The configuration says that it is not the embedding."""
    folder = hosts.llava_video(tmp_path)
    for path in folder.glob("*.safetensors"):
        held = load_file(path)
        held.pop("lm_head.weight", None)
        save_file(held, path)
    with pytest.raises(ValueError, match=r"do not fit the model, 1 missing: lm_head\.weight"):
        make(checkpoint=str(folder)).load()


def test_another_rule_for_pictures_is_told(make, tmp_path, caplog):
    _ = make(checkpoint=str(hosts.llava_video(tmp_path, force_sample=False))).shape
    assert "frames=fps" in caplog.text


def test_another_layout_is_refused(make, tiny):
    with pytest.raises(ValueError, match=r"must be in LLaVA-NeXT's layout, whose config\.json names a mm_vision_tower"):
        _ = make(checkpoint=tiny().checkpoint).shape


def test_a_pooling_head_gives_its_cues(make, folder, frames):
    backbone = make(head=str(folder / "siglip"))
    assert backbone.supplies >= {"probe_attention", "frame_feature"}
    cues = backbone.encode(frames, frozenset({"probe_attention", "frame_feature"})).cues
    assert cues.probe_attention.shape == (80,)
    assert cues.frame_feature.shape == (5, 32)
