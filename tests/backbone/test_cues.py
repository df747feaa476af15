"""Cues of the tower against `transformers`' own modules with eager attention; pooling against its micro-examples."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from transformers import SiglipVisionModel

from kvtp.backbone import _siglip
from kvtp.backbone._pool import pool_patches
from kvtp.types import CUES

VIDEO = frozenset(
    {"probe_attention", "received_attention", "tower_keys", "tower_keys_full", "tower_states", "frame_feature"}
)


@pytest.fixture(scope="module")
def backbone(tiny):
    return tiny(frame_chunk=2)


@pytest.fixture(scope="module")
def reference(backbone, frames):
    """The stock SigLIP run whole; the tiny tower holds the same weights."""
    stock = SiglipVisionModel.from_pretrained(backbone.head, attn_implementation="eager").eval()
    pixels = F.interpolate(frames.pixels.permute(0, 3, 1, 2), (128, 128), mode="bicubic", antialias=True) / 127.5 - 1
    with torch.inference_mode():
        out = stock(pixels, output_hidden_states=True, output_attentions=True)
        hidden = stock.encoder.layers[-1].layer_norm1(out.hidden_states[-2])
        keys = stock.encoder.layers[-1].self_attn.k_proj(hidden)
        probe = stock.head.probe.expand(len(pixels), -1, -1)
        _, weights = stock.head.attention(probe, out.last_hidden_state, out.last_hidden_state)
    return {
        "received_attention": out.attentions[-1].mean((1, 2)),
        "tower_keys_full": keys,
        "tower_keys": keys.reshape(*keys.shape[:2], 4, -1).mean(2),
        "tower_states": out.last_hidden_state,
        "probe_attention": weights[:, 0],
        "frame_feature": out.pooler_output,
    }


def pooled(values):
    """16×16 patches → 8×8: bilinear at exactly half the side is the mean of 2×2."""
    grid = values.reshape(len(values), 8, 2, 8, 2, -1).mean((2, 4))
    return grid.reshape(len(values) * 64, -1).squeeze(-1)


@pytest.mark.parametrize("cue", sorted(VIDEO))
def test_cue_equals_eager_reference(backbone, frames, reference, cue):
    cues = backbone.encode(frames, frozenset({cue})).cues
    expected = reference[cue] if cue == "frame_feature" else pooled(reference[cue])
    torch.testing.assert_close(getattr(cues, cue), expected, atol=2e-6, rtol=1e-5)
    assert {name for name in VIDEO if getattr(cues, name) is not None} == {cue}, "only what was asked for"


def test_only_what_is_asked_for_is_computed(backbone, frames):
    """Calls of the pooling attention and of the tower's key projection outside its own layer."""
    calls = []
    pooling, keys = backbone.tower.head.head.attention, backbone.tower.layers[-1].self_attn.k_proj
    hooks = [
        pooling.register_forward_hook(lambda *_: calls.append("pooling")),
        keys.register_forward_hook(lambda *_: calls.append("keys")),
    ]
    counted = {}
    for cues in ((), ("probe_attention",), ("frame_feature", "probe_attention"), ("tower_states",), ("tower_keys",)):
        calls.clear()
        backbone.encode(frames, frozenset(cues))
        chunks = 3  # of two frames each
        counted[cues] = (calls.count("pooling") // chunks, calls.count("keys") // chunks - 1)
    for hook in hooks:
        hook.remove()
    assert list(counted.values()) == [(0, 0), (1, 0), (1, 0), (0, 0), (0, 1)]


def test_identity_changes_with_the_weights(tiny, tmp_path):
    host = tiny()
    moved = shutil.copytree(host.checkpoint, tmp_path / "tiny")
    assert tiny(checkpoint=str(moved)).identity == host.identity, "wherever the folder lies"
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert tiny(checkpoint=str(moved)).identity != host.identity
    assert tiny(head=None).identity != host.identity
    assert "model" not in host.__dict__


def test_the_processors_template_is_the_one(tiny, tmp_path, prompt):
    """Older checkpoints have two: their tokenizer's knows no videos."""
    moved = shutil.copytree(tiny().checkpoint, tmp_path / "tiny")
    told = "{% for part in messages[0]['content'] %}{{ part['text'] or '<video>!' }}{% endfor %}"
    (moved / "chat_template.json").write_text(json.dumps({"chat_template": told}))
    host = tiny(checkpoint=str(moved))
    before, after = host.around(host.blank(2, (90, 160)), prompt)
    assert (before, host.tokenizer.decode(after)) == ([], f"!{prompt.text}")


def test_a_tokenizer_that_is_not_there_is_missing(tiny, tmp_path):
    """`transformers` would make up an empty one, and every question would be read as nothing."""
    moved = shutil.copytree(tiny().checkpoint, tmp_path / "tiny")
    (moved / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"backbone\.checkpoint .* must hold a tokenizer \(tokenizer\.json or"):
        tiny(checkpoint=str(moved)).load()


def test_chunks_do_not_change_anything(tiny, frames):
    def encoded(chunk):
        return tiny(frame_chunk=chunk).encode(frames, VIDEO)

    one, many = encoded(1), encoded(16)
    torch.testing.assert_close(one.features, many.features, atol=1e-5, rtol=0)
    for cue in VIDEO:
        torch.testing.assert_close(getattr(one.cues, cue), getattr(many.cues, cue), atol=1e-5, rtol=0)


def test_received_attention_holds_no_whole_map(monkeypatch):
    queries, keys = torch.randn(2, 7, 36, 8, generator=torch.Generator().manual_seed(0)).unbind()
    whole = _siglip.received_attention(queries, keys, heads=2)
    monkeypatch.setattr(_siglip, "ATTENTION_CELLS", 2 * 36 * 36 * 2)
    torch.testing.assert_close(_siglip.received_attention(queries, keys, heads=2), whole)
    assert whole.sum(-1).allclose(torch.ones(7)), "each query hands out one unit"


def test_question_cues_are_word_embeddings(backbone, frames, prompt):
    tokens = backbone.ask(backbone.encode(frames, frozenset()), prompt)
    ids = backbone.tokenizer(prompt.bare, add_special_tokens=False, return_tensors="pt").input_ids[0]
    expected = backbone.model.model.language_model.embed_tokens.weight[ids]
    torch.testing.assert_close(tokens.cues.text_features, expected)
    torch.testing.assert_close(tokens.cues.question_feature, expected.mean(0))


def test_supplies_is_what_encode_and_ask_give(tiny, frames, prompt):
    for head in (None, tiny().head):
        backbone = tiny(head=head)
        tokens = backbone.ask(backbone.encode(frames, backbone.supplies), prompt)
        given = {name for name in CUES if getattr(tokens.cues, name) is not None}
        assert given == backbone.supplies
        assert ("probe_attention" in given) == (head is not None)


def test_states_without_a_head_are_raw(tiny, frames, reference):
    states = tiny(head=None).encode(frames, frozenset({"tower_states"})).cues.tower_states
    assert not torch.allclose(states, pooled(reference["tower_states"]), atol=1e-3)


def test_average_pool_drops_the_odd_edge():
    """M12: 5×5 arange → [3, 5, 13, 15]."""
    values = torch.arange(25.0).reshape(1, 25)
    assert pool_patches(values, "average").tolist() == [[3, 5, 13, 15]]


def test_keys_are_pooled_as_tokens_are():
    """M13: patch t of 4 × 4 has the key [t, 100 + t]. (The released code mixes patches with channels.)"""
    patch = torch.arange(16.0)
    keys = torch.stack([patch, 100 + patch], -1)[None]
    assert pool_patches(keys, "average").tolist() == [[[2.5, 102.5], [4.5, 104.5], [10.5, 110.5], [12.5, 112.5]]]


@pytest.mark.parametrize(("pool", "side"), [("average", 13), ("bilinear", 14)])
def test_twenty_seven_patches(pool, side):
    """M12: 27 → 13 average, 14 bilinear; features and cues by the same road."""
    values = torch.randn(2, 729, 3, generator=torch.Generator().manual_seed(0))
    tokens = pool_patches(values, pool)
    assert tokens.shape == (2, side * side, 3)
    torch.testing.assert_close(pool_patches(values[..., 1], pool), tokens[..., 1])
    grid = values[1, :, 2].reshape(27, 27)
    if pool == "average":
        torch.testing.assert_close(tokens[1, 14, 2], grid[2:4, 2:4].mean())
    else:  # token (0, 0) of 14 samples at 27/14/2 − 1/2 = 0.464 on both axes
        near = 27 / 14 / 2 - 0.5
        rows = grid[:2, :2]
        expected = torch.lerp(torch.lerp(rows[0, 0], rows[0, 1], near), torch.lerp(rows[1, 0], rows[1, 1], near), near)
        torch.testing.assert_close(tokens[1, 0, 2], expected)


def test_wrong_choices_name_the_rule(tiny):
    with pytest.raises(
        Exception, match=r"backbone.pool must be one of None, bilinear, average, got 'bilinaer'; nearest: bilinear"
    ):
        tiny(pool="bilinaer")
    with pytest.raises(Exception, match=r"backbone.temperature must be in \[0, inf\], got -1"):
        tiny(temperature=-1)


def test_missing_checkpoint_says_so(tiny):
    with pytest.raises(ValueError, match=r"neither a folder with a config\.json nor a hub id"):
        _ = tiny(checkpoint="nobody/nothing").shape


def test_timestamps_and_places(backbone, frames):
    tokens = backbone.encode(replace(frames, timestamps=frames.timestamps * 2), frozenset())
    assert (tokens.frames, tokens.grid, len(tokens)) == (5, (8, 8), 320)
    assert tokens.timestamps.tolist() == [0, 2, 4, 6, 8]
    assert torch.equal(tokens.frame * 64 + tokens.row * 8 + tokens.column, tokens.original)
