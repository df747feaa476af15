"""The layer-wise engine against `transformers`: its full forward, its generate, and its layers under explicit masks."""

from dataclasses import replace

import pytest
import torch
from backbone.reference import decode, kept_rows, masked_reference
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2Model

from kvtp.backbone._decoder import Decoder
from kvtp.types import Selection


@pytest.fixture(scope="module")
def backbone(tiny):
    return tiny(newline="one_token", max_new_tokens=16)


@pytest.fixture(scope="module")
def start(backbone, frames, prompt):
    return backbone.embed(backbone.encode(frames, frozenset()), prompt)


def hf_inputs(backbone, frames, prompt):
    """What a user of plain `transformers` would feed: pixels by another road, ids with one placeholder per token."""
    pixels = F.interpolate(frames.pixels.permute(0, 3, 1, 2), (128, 128), mode="bicubic", antialias=True)
    pixels = ((pixels / 255.0) * 2 - 1)[None]
    video = "<video>" * (len(frames) * 8 * 8 + 1)
    text = f"<|im_start|>user\n{video}\n{prompt.text}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([backbone.tokenizer(text).input_ids])
    return {"input_ids": ids, "pixel_values_videos": pixels, "attention_mask": torch.ones_like(ids)}


@torch.inference_mode()
def test_features_equal_get_video_features(backbone, frames, prompt):
    expected = backbone.model.model.get_video_features(
        hf_inputs(backbone, frames, prompt)["pixel_values_videos"], return_dict=True
    ).pooler_output[0, :-1]
    torch.testing.assert_close(backbone.encode(frames, frozenset()).features, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_unpruned_logits_equal_transformers(backbone, frames, prompt, start):
    expected = backbone.model(**hf_inputs(backbone, frames, prompt)).logits[0, -1]
    done = backbone.prefill(start, backbone.shape.layers)
    torch.testing.assert_close(backbone.decoder.logits(done), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_prefill_in_pieces_is_prefill(backbone, start):
    whole = backbone.prefill(start, 4).hidden
    # a fresh cache: prefill extends the one it is given
    state = replace(start, cache=type(start.cache)())
    for upto, site in ((1, "layer"), (1, "attention"), (2, "attention"), (3, "layer"), (4, "layer")):
        state = backbone.prefill(state, upto, site)
    assert torch.equal(whole, state.hidden)
    assert state.counts == (start.count,) * 4


@torch.inference_mode()
def test_sixteen_greedy_tokens_equal_generate(backbone, frames, prompt):
    inputs = hf_inputs(backbone, frames, prompt)
    expected = backbone.model.generate(**inputs, max_new_tokens=16, do_sample=False, eos_token_id=10**6)
    new = expected[0, inputs["input_ids"].shape[1] :].tolist()
    state = backbone.embed(backbone.encode(frames, frozenset()), prompt)
    state = backbone.prefill(state, backbone.shape.layers)
    written = backbone.decoder.write(state, lambda logits: int(logits.argmax()), frozenset(), 16)
    assert written == new
    assert len(set(new)) > 1, "a constant reply would show nothing"


CUTS = [(0, "layer"), (2, "layer"), (3, "layer"), (0, "attention"), (2, "attention")]


@pytest.mark.parametrize("newline", ["one_token", "grid", "frame", "none"])
@pytest.mark.parametrize(("layer", "site"), CUTS)
@torch.inference_mode()
def test_cut_equals_explicit_mask(tiny, backbone, frames, prompt, layer, site, newline):
    host = tiny(newline=newline)
    host.__dict__["model"] = backbone.model  # the same weights, loaded once
    start = host.embed(host.encode(frames, frozenset()), prompt)
    kept = torch.randperm(len(start.tokens), generator=torch.Generator().manual_seed(layer)).sort().values
    kept = kept[torch.rand(len(kept), generator=torch.Generator().manual_seed(1)) < 0.2]
    state = host.prefill(start, layer, site).keep(Selection(kept), renumber=False, compress_cache=False)
    rows, dropped = kept_rows(start, kept.tolist())
    assert torch.equal(state.position, start.position[rows])

    first_masked = layer + (site == "attention")
    expected, _ = masked_reference(host, start, 5, lambda n: dropped if n >= first_masked else [])
    torch.testing.assert_close(decode(host, state, 5), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_two_cuts_equal_explicit_mask(backbone, start):
    first = torch.arange(0, len(start.tokens), 2)
    second = torch.arange(0, len(first), 3)
    state = replace(start, cache=type(start.cache)())
    state = backbone.prefill(state, 1).keep(Selection(first), renumber=False, compress_cache=False)
    state = backbone.prefill(state, 3).keep(Selection(second), renumber=False, compress_cache=False)
    assert state.visual.history == (len(start.tokens), len(first), len(second))
    assert torch.equal(state.visual.original, first[second])
    _, after_first = kept_rows(start, first.tolist())
    _, after_second = kept_rows(start, first[second].tolist())
    expected, _ = masked_reference(
        backbone, start, 3, lambda n: [] if n < 1 else after_first if n < 3 else after_second
    )
    torch.testing.assert_close(decode(backbone, state, 3), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_compressed_cache_after_an_attention(backbone, start):
    """The layer whose attention has run forgets the dropped rows, too."""
    state = backbone.prefill(replace(start, cache=type(start.cache)()), 1, "attention")
    state = state.keep(Selection(torch.arange(0, 320, 9)), renumber=False, compress_cache=True)
    state = backbone.prefill(state, 4)
    assert [layer.keys.shape[-2] for layer in state.cache.layers] == [len(state)] * 4


@torch.inference_mode()
def test_compressed_cache_equals_mask_on_new_tokens_only(backbone, start):
    """LLM-VTP: the prompt saw everything below the cut; written tokens see only kept rows, in every layer."""
    kept = torch.arange(3, len(start.tokens), 7)
    state = replace(start, cache=type(start.cache)())
    state = backbone.prefill(state, 2).keep(Selection(kept), renumber=False, compress_cache=True)
    state = backbone.prefill(state, 4)
    lengths = {layer.keys.shape[-2] for layer in state.cache.layers}
    assert lengths == {len(state)}
    engine = decode(backbone, state, 1)

    _, dropped = kept_rows(start, kept.tolist())
    model, size = backbone.model.model.language_model, len(start)
    first = int(engine[0].argmax())
    hidden = torch.cat([start.hidden, model.embed_tokens(torch.tensor([first]))])[None]
    position = torch.cat([start.position, start.position[-1:] + 1])
    rotary = model.rotary_emb(hidden, position[None])
    eager = [layer.self_attn.config._attn_implementation for layer in model.layers]
    for number, layer in enumerate(model.layers):
        mask = torch.full((size + 1, size + 1), float("-inf")).triu(1)
        mask[size, dropped] = float("-inf")
        if number >= 2:
            mask[:, dropped] = float("-inf")
            mask.fill_diagonal_(0)
        hidden = layer(hidden, attention_mask=mask[None, None], position_embeddings=rotary)
    assert set(eager) == {"sdpa"}
    expected = backbone.model.lm_head(model.norm(hidden[0, -1]))
    torch.testing.assert_close(engine[1], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_renumbered_cut_before_the_llm_is_a_shorter_prompt(backbone, start):
    kept = torch.arange(0, len(start.tokens), 5)
    rows, _ = kept_rows(start, kept.tolist())
    state = replace(start, cache=type(start.cache)()).keep(Selection(kept), renumber=True, compress_cache=False)
    embeddings = start.hidden[rows][None]
    mask = torch.ones(1, len(rows), dtype=torch.long)
    expected = backbone.model.model.language_model(inputs_embeds=embeddings, attention_mask=mask)
    expected = backbone.model.lm_head(expected.last_hidden_state[0, -1])
    torch.testing.assert_close(decode(backbone, state, 0)[0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_renumbered_cut_inside_the_llm_decodes_each_layer_at_its_own_position(backbone, start):
    """SparseVLM's convention: layers above the cut count 0 … S'−1. Reference: two stacks with their own positions."""
    kept = torch.arange(0, len(start.tokens), 5)
    rows, _ = kept_rows(start, kept.tolist())
    state = replace(start, cache=type(start.cache)())
    state = backbone.prefill(state, 2).keep(Selection(kept), renumber=True, compress_cache=False)
    engine = decode(backbone, state, 1)
    model = backbone.model.model.language_model
    first = int(engine[0].argmax())
    hidden = torch.cat([start.hidden, model.embed_tokens(torch.tensor([first]))])[None]
    for number, layer in enumerate(model.layers):
        if number == 2:
            hidden = hidden[:, [*rows, len(start)]]
        rotary = model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
    expected = backbone.model.lm_head(model.norm(hidden[0, -1]))
    torch.testing.assert_close(engine[1], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_merged_features_replace_hidden_states(backbone, start):
    """A selection with features, one row without a source: the rest of the network sees exactly those."""
    kept = torch.tensor([4, 9, -1, 130])
    features = torch.randn(4, start.hidden.shape[1], generator=torch.Generator().manual_seed(3))
    state = backbone.prefill(replace(start, cache=type(start.cache)()), 2)
    cut = state.keep(Selection(kept, features), renumber=False, compress_cache=False)
    assert cut.visual.original.tolist() == [4, 9, -1, 130]
    assert cut.visual.frame.tolist() == start.tokens.frame[[4, 9, 9, 130]].tolist()
    torch.testing.assert_close(cut.visual.features, features)
    rows = [
        *range(start.before),
        *start.visual_at[[4, 9, 9, 130]].tolist(),
        *range(len(start) - start.after - 1, len(start)),
    ]
    model = backbone.model.model.language_model
    hidden, at = state.hidden[rows][None], slice(start.before, start.before + 4)
    hidden[0, at] = features
    rotary = model.rotary_emb(hidden, start.position[rows][None])
    for layer in model.layers[2:]:
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
    expected = backbone.model.lm_head(model.norm(hidden[0, -1]))
    torch.testing.assert_close(decode(backbone, cut, 0)[0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_no_visual_token_left(backbone, start):
    state = replace(start, cache=type(start.cache)())
    state = state.keep(Selection(torch.empty(0, dtype=torch.int64)), renumber=True, compress_cache=False)
    assert state.count == (0, 0, start.before + start.after)
    assert backbone.generate(state).tokens_per_layer["visual"] == (0, 0, 0, 0)


@torch.inference_mode()
def test_likelihoods_equal_teacher_forcing(tiny, frames, prompt):
    host = tiny(answer="likelihood", newline="one_token")
    answer = host.generate(host.embed(host.encode(frames, frozenset()), prompt))
    inputs = hf_inputs(host, frames, prompt)
    for choice in prompt.choices:
        ids = host.tokenizer(choice, add_special_tokens=False).input_ids
        full = torch.cat([inputs["input_ids"], torch.tensor([ids])], 1)
        logits = host.model(**{**inputs, "input_ids": full, "attention_mask": torch.ones_like(full)}).logits[0]
        rows = logits[-len(ids) - 1 : -1].log_softmax(-1)
        expected = float(rows[range(len(ids)), ids].sum())
        assert answer.likelihoods[choice] == pytest.approx(expected, abs=1e-4)
    assert answer.text == max(answer.likelihoods, key=answer.likelihoods.get)
    assert any(len(host.tokenizer(c, add_special_tokens=False).input_ids) > 1 for c in prompt.choices)


def test_sampling_depends_on_seed_and_prompt_alone(tiny, frames, prompt):
    def reply(seed):
        host = tiny(temperature=1.5, top_p=0.9, seed=seed)
        return host.generate(host.embed(host.encode(frames, frozenset()), prompt)).text

    first = reply(0)
    torch.manual_seed(123)
    assert reply(0) == first
    assert reply(1) != first


@torch.inference_mode()
def test_eager_and_sdpa_agree(tiny, backbone, frames, prompt, start):
    eager = tiny(attn="eager", newline="one_token")
    kept = torch.arange(0, len(start.tokens), 5)

    def logits(host):
        state = host.prefill(host.embed(host.encode(frames, frozenset()), prompt), 2)
        return decode(host, state.keep(Selection(kept), renumber=False, compress_cache=False), 3)

    torch.testing.assert_close(logits(eager), logits(backbone), atol=1e-5, rtol=0)


def test_windowed_attention_is_refused(backbone):
    model = Qwen2Model(
        Qwen2Config(num_hidden_layers=1, layer_types=["sliding_attention"], hidden_size=32, vocab_size=8)
    )
    with pytest.raises(ValueError, match="must attend to the whole sequence"):
        Decoder(model, torch.nn.Identity())


def test_another_family_is_refused(tiny):
    with pytest.raises(ValueError, match=r"must be a llava_onevision model, .* is siglip;"):
        _ = tiny(checkpoint=tiny().head).shape


def test_stop_tokens_end_the_reply(backbone, start):
    state = backbone.prefill(replace(start, cache=type(start.cache)()), 4)
    every = backbone.decoder.write(state, lambda logits: int(logits.argmax()), frozenset(), 8)
    state = backbone.prefill(replace(start, cache=type(start.cache)()), 4)
    stop = every[3]
    written = backbone.decoder.write(state, lambda logits: int(logits.argmax()), frozenset({stop}), 8)
    assert written == every[: every.index(stop)]


def test_prefill_refuses_to_run_backwards_or_beyond(backbone, start):
    state = backbone.prefill(replace(start, cache=type(start.cache)()), 2)
    with pytest.raises(ValueError, match=r"upto must be in \[2, 4\]"):
        backbone.prefill(state, 1)
    with pytest.raises(ValueError, match="one less with site=attention"):
        backbone.prefill(state, 4, "attention")
