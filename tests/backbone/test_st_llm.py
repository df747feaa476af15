"""ST-LLM in the layout of its release, against plain formulas and loops, `transformers`' InstructBLIP and Llama."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbone import vicunas, vit_reference
from backbone.hosts import host
from backbone.reference import decode, kept_rows, masked_reference
from released import Listing
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import InstructBlipVisionConfig, InstructBlipVisionModel, LlamaConfig, LlamaForCausalLM

from kvtp.backbone._random import with_random_weights
from kvtp.backbone._weights import compare
from kvtp.backbone.st_llm import RELEASED, picked
from kvtp.errors import Refused
from kvtp.metric.account import Account
from kvtp.metric.conventions import fastv
from kvtp.metric.flops import vision
from kvtp.types import Frames, Prompt, Selection

VICUNA = str(Path(__file__).resolve().parents[2] / "shapes" / "llm" / "vicuna_7b")
OWN = "model.stllm_model."
OPTIONS = {"QA_weight": "st_llm_7b", "conversation_weight": "st_llm_7b_conversation"}
KEYS = {"QA_weight": "st_llm", "conversation_weight": "st_llm_conversation"}
CLOSE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return {part: vicunas.st_llm(tmp_path_factory.mktemp(family), family) for part, family in KEYS.items()}


@pytest.fixture(scope="module")
def make(keys):
    """`make("QA_weight", frames=4, …)`; with `like`, on the weights of another host."""

    def made(part, like=None, **changed):
        backbone = host(OPTIONS[part], **keys[part] | {"max_new_tokens": 4} | changed)
        if like is not None:
            vars(backbone)["model"] = like.model
        return backbone

    return made


@pytest.fixture(scope="module")
def answering(make):
    """The weights for questions: BT-Adapter, tokens of all pictures."""
    return make("QA_weight")


@pytest.fixture(scope="module")
def talking(make):
    """The weights for conversation: no adapter, sixteen pictures and the mean of all."""
    return make("conversation_weight")


def full(part, **changed):
    return host(OPTIONS[part], llm=VICUNA, **changed)


def film(count, seed=3):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 40, 50, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(count).double() * 2, torch.arange(count), 60.0, "none")


def states(pixels, told):
    """Of the plain tower: `transformers`' of InstructBLIP, with the norm after it at BLIP-2's 1e-5."""
    name = f"{OWN}visual_encoder."
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = InstructBlipVisionModel(
        InstructBlipVisionConfig(**sizes, image_size=24, patch_size=8, layer_norm_eps=1e-6, qkv_bias=True)
    )
    model.post_layernorm.eps = 1e-5
    renamed = {
        "embeddings.class_embedding": told[f"{name}cls_token"],
        "embeddings.position_embedding": told[f"{name}pos_embed"],
        "embeddings.patch_embedding.weight": told[f"{name}patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": told[f"{name}patch_embed.proj.bias"],
        "post_layernorm.weight": told[f"{OWN}ln_vision.weight"],
        "post_layernorm.bias": told[f"{OWN}ln_vision.bias"],
    }
    for number in range(4):
        old, new = f"{name}blocks.{number}.", f"encoder.layers.{number}."
        q, v = told[f"{old}attn.q_bias"], told[f"{old}attn.v_bias"]
        renamed[f"{new}self_attn.qkv.bias"] = torch.cat([q, torch.zeros(32), v])
        renamed[f"{new}self_attn.qkv.weight"] = told[f"{old}attn.qkv.weight"]
        parts = ("attn.proj", "self_attn.projection"), ("norm1", "layer_norm1"), ("norm2", "layer_norm2")
        for mine, theirs in (*parts, ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
            for kind in ("weight", "bias"):
                renamed[f"{new}{theirs}.{kind}"] = told[f"{old}{mine}.{kind}"]
    model.load_state_dict(renamed, strict=True)
    return model.eval()(pixels).last_hidden_state


def tokens_of(seen, told, backbone, question):
    """Picture by picture: InstructBLIP's Q-Former, then a matrix. [T, 4, D]"""
    words = backbone.reader(question, return_tensors="pt").input_ids
    qformer, made = vicunas.qformer(told, f"{OWN}Qformer.bert.", 32), []
    for picture in seen:
        out = qformer(words, query_embeds=told[f"{OWN}query_tokens"], encoder_hidden_states=picture[None])
        made.append(vit_reference.linear(out.last_hidden_state[0, :4], told, f"{OWN}llama_proj"))
    return torch.stack(made)


# -- the release ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", OPTIONS)
def test_released_names_and_shapes_are_those_of_the_model(part):
    backbone = full(part)
    listing = Listing(KEYS[part])
    assert not compare(backbone.bare_model(), listing, backbone.layout)
    other = next(name for name in KEYS if name != part)
    assert compare(backbone.bare_model(), Listing(KEYS[other]), backbone.layout), "the two are not alike"
    assert backbone._measure(listing) == backbone.sizes == RELEASED[part]


def test_names_that_may_be_there_are_left_out():
    """An alias, buffers, and what only training needs."""
    listing = Listing("st_llm")
    listing.shapes |= {
        f"{OWN}embed_tokens.weight": (32001, 4096),
        "model.layers.0.self_attn.rotary_emb.inv_freq": (64,),
        f"{OWN}residual_index": (16,),
    }
    assert f"{OWN}mvm_decoder.head.weight" in listing.shapes
    backbone = full("QA_weight")
    assert not compare(backbone.bare_model(), listing, backbone.layout)


def test_512_tokens():
    """16 pictures of 32; 16 of 64 pictures."""
    for part, pictures in (("QA_weight", 16), ("conversation_weight", 64)):
        tokens = full(part).blank(pictures, (360, 640))
        assert (len(tokens), tokens.frames, tokens.grid) == (512, 16, (1, 32))
    assert len(full("QA_weight").blank(64, (360, 640))) == 2048


def test_vocabulary_is_the_weights_own(answering):
    """Vicuna's has one word less."""
    assert answering.config.vocab_size == vicunas.VOCABULARY - 1
    assert answering.shape.vocabulary == len(answering.language[1].weight) == vicunas.VOCABULARY


def test_sizes_of_unknown_weights_are_asked_for():
    with pytest.raises(ValueError, match="must be a folder with weights, or end in QA_weight or conversation_weight"):
        _ = full("QA_weight", checkpoint="nowhere").sizes


def test_residual_needs_its_matrices(make):
    with pytest.raises(
        ValueError, match="needs down_proj and up_proj, which these weights have not; use video_input=all"
    ):
        _ = make("QA_weight", video_input="residual").sizes
    with pytest.raises(Exception, match="frames must be a multiple of 16 with video_input=residual, got 40"):
        make("conversation_weight", frames=40)
    with pytest.raises(Exception, match=r"backbone.video_input must be one of all, residual, got 'mean'"):
        make("QA_weight", video_input="mean")


# -- towers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [2, 16])
@torch.inference_mode()
def test_plain_tower_equals_instructblips(make, talking, chunk):
    told, seen = vicunas.shards("st_llm_conversation"), film(16)
    expected = states(vicunas.pictures(seen.pixels), told)
    found = make("conversation_weight", like=talking, frame_chunk=chunk).encode(seen, frozenset()).states
    torch.testing.assert_close(talking.model.connector.ln_vision(found), expected, **CLOSE)


@pytest.mark.parametrize(("count", "chunk"), [(5, 2), (5, 16), (1, 16)])
@torch.inference_mode()
def test_tower_with_adapter_equals_loops(make, answering, count, chunk):
    told, seen = vicunas.shards("st_llm"), film(count)
    expected = vit_reference.eva_with_adapter(vicunas.pictures(seen.pixels), told, 4, 2)
    found = make("QA_weight", like=answering, frame_chunk=chunk).encode(seen, frozenset()).states
    torch.testing.assert_close(found, expected, **CLOSE)
    told[f"{OWN}visual_encoder.BTAdapter_position.weight"] += 0.5
    moved = vit_reference.eva_with_adapter(vicunas.pictures(seen.pixels), told, 4, 2)
    assert (moved - expected).abs().max() > 0.01, "places in time must matter for this to show anything"


# -- tokens --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_features_equal_references(answering, prompt):
    """All of them in time order, made when the question is known."""
    told, seen = vicunas.shards("st_llm"), film(5)
    found = answering.encode(seen, frozenset())
    assert found.features.shape == (5 * 4, 0)
    norm = (32,), told[f"{OWN}ln_vision.weight"], told[f"{OWN}ln_vision.bias"], 1e-5
    pictures = F.layer_norm(vit_reference.eva_with_adapter(vicunas.pictures(seen.pixels), told, 4, 2), *norm)
    expected = tokens_of(pictures, told, answering, prompt.bare).flatten(0, 1)
    asked = answering.ask(found, prompt)
    torch.testing.assert_close(asked.features, expected, **CLOSE)
    assert asked.features.std() > 0.1
    assert asked.timestamps.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("count", [16, 23, 32])
@torch.inference_mode()
def test_residual_equals_reference(talking, prompt, count):
    """The mean over all pictures through two matrices, added to each of the sixteen."""
    told, seen = vicunas.shards("st_llm_conversation"), film(count)
    every = tokens_of(states(vicunas.pictures(seen.pixels), told), told, talking, prompt.bare)
    down = vit_reference.linear(sum(every) / count, told, f"{OWN}down_proj")
    change = vit_reference.linear(down.clamp_min(0), told, f"{OWN}up_proj")
    index = [int(count / 16 / 2 + round(count / 16 * i)) for i in range(16)]
    expected = torch.cat([every[i] + change for i in index])
    asked = talking.ask(talking.encode(seen, frozenset()), prompt)
    torch.testing.assert_close(asked.features, expected, **CLOSE)
    assert change.abs().max() > 0.1
    assert asked.timestamps.tolist() == [2 * i for i in index]


def test_the_sixteen_of_64_and_of_16():
    assert picked(64).tolist() == list(range(2, 64, 4))
    assert picked(16).tolist() == list(range(16))


@torch.inference_mode()
def test_conversation_weights_can_show_all(make, talking, prompt):
    told, seen = vicunas.shards("st_llm_conversation"), film(3)
    backbone = make("conversation_weight", video_input="all")
    every = tokens_of(states(vicunas.pictures(seen.pixels), told), told, talking, prompt.bare)
    asked = backbone.ask(backbone.encode(seen, frozenset()), prompt)
    torch.testing.assert_close(asked.features, every.flatten(0, 1), **CLOSE)


def test_questions_share_one_look(answering, prompt, frames):
    """Each question has its own features, from states that no question changes; cuts keep them."""
    found = answering.encode(frames, frozenset())
    before = found.states.clone()
    one, other = (answering.ask(found, replace(prompt, bare=text)) for text in (prompt.bare, "why?"))
    again = answering.ask(found, prompt)
    assert torch.equal(one.features, again.features)
    assert (one.features - other.features).abs().max() > 1e-3
    assert torch.equal(found.states, before)
    assert one.keep(Selection(torch.tensor([0, 3]))).states is found.states
    words = answering.words(answering.ids(prompt.bare))
    assert torch.equal(one.cues.text_features, words)


def test_counts_that_cannot_be_are_refused(answering, talking):
    with pytest.raises(Refused, match=r"BT-Adapter has places for 20 pictures, got 21; give fewer with frames.count"):
        answering.encode(film(21), frozenset())
    with pytest.raises(Refused, match="residual keeps 16 pictures, got 15; give more, or take video_input=all"):
        talking.encode(film(15), frozenset())


# -- the LLM -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama():
    told = vicunas.shards("st_llm")
    model = LlamaForCausalLM(LlamaConfig(**vicunas.LLAMA, vocab_size=vicunas.VOCABULARY))
    model.load_state_dict({name: told[name] for name in model.state_dict()}, strict=True)
    return model.eval()


def begun(backbone, seen, prompt):
    tokens = backbone.ask(backbone.encode(seen, frozenset()), prompt)
    return tokens, backbone.embed(tokens, prompt)


@torch.inference_mode()
def test_logits_equal_transformers(answering, llama, frames, prompt):
    """The video first, then the end of a text, then the prompt."""
    tokens, state = begun(answering, frames, prompt)
    before, after = answering.around(tokens, prompt)
    assert before == []
    assert after[0] == answering.tokenizer.eos_token_id
    rows = torch.cat([tokens.features, llama.get_input_embeddings().weight[after]])
    torch.testing.assert_close(state.hidden, rows)
    expected = llama(inputs_embeds=rows[None]).logits[0]
    hidden = answering.prefill(state, 3).hidden
    torch.testing.assert_close(llama.lm_head(llama.model.norm(hidden)), expected, **CLOSE)
    assert expected.std() > 0.1


@pytest.mark.parametrize(("layer", "site"), [(0, "layer"), (2, "layer"), (1, "attention")])
@torch.inference_mode()
def test_cut_equals_explicit_mask(answering, frames, prompt, layer, site):
    _, start = begun(answering, frames, prompt)
    kept = torch.tensor([1, 4, 5, 11, 17, 18])
    state = answering.prefill(start, layer, site).keep(Selection(kept), renumber=False, compress_cache=False)
    rows, dropped = kept_rows(start, kept.tolist())
    assert torch.equal(state.position, start.position[rows])
    masked = layer + (site == "attention")
    expected, _ = masked_reference(answering, start, 3, lambda n: dropped if n >= masked else [])
    torch.testing.assert_close(decode(answering, state, 3), expected, **CLOSE)


# -- words ---------------------------------------------------------------------------------------------------------


def written(backbone, prompt):
    before, after = backbone.around(backbone.blank(16, (9, 16)), prompt)
    assert before == []
    assert backbone.tokenizer.decode(after[:1]) == "</s>"
    return backbone.tokenizer.decode(after[1:])


def test_prompt_of_mvbench(answering, talking):
    """The system sentence once, within the turn."""
    system = host("videochat2_7b", llm=VICUNA, checkpoint="nowhere").system
    text = f"{system}Question: what?\nOptions:\n(A) this\n(B) that\nOnly give the best option."
    prompt = Prompt(text, "what?", (0, 0), "mvbench", ("A", "B"))
    for backbone in (answering, talking):
        assert written(backbone, prompt) == f"###Human: {text}\n###Assistant: Best option:("


def test_prompt_of_open_questions(answering, talking):
    """Of the question benchmarks, and of conversations."""
    prompt = Prompt("Why?", "Why?", (0, 4), "open")
    assert written(answering, prompt) == "###Human: Why? ###Assistant: "
    told = (
        "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
        "objects, and the action and pose of persons. Based on your observations, give your answer that best addresses "
        "the question.\n###Human: Why? ###Assistant: "
    )
    assert written(talking, prompt) == told


# -- costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", OPTIONS)
def test_vision_equals_torch_counter(make, part):
    """A whole video on the meta device, where torch's counter sees fused attention: 16 pictures, or 64, of which a
    video has one mean. Sixteen token frames."""
    backbone = make(part)
    shape, model = backbone.vision_shape((40, 50)), backbone.bare_model().to("meta")
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        seen = model.tower(torch.empty(backbone.frames, 3, 24, 24), 5)
        tokens = model.connector(seen, torch.zeros(16, dtype=torch.long))
    assert tokens.shape == (16, 4, 64)
    assert model.connector.residual == (part == "conversation_weight")
    assert vision(shape, 16) == counter.get_total_flops()


@pytest.mark.parametrize("part", OPTIONS)
def test_full_size_accounts_without_weights(part):
    began = time.perf_counter()
    backbone = full(part)
    shape, macs = Account(backbone).seeing((360, 640))
    assert time.perf_counter() - began < 20
    pictures = 1 if part == "QA_weight" else 4
    blocks = 42 if part == "QA_weight" else 39
    linear = pictures * (blocks * 257 * 1408 * (4 * 1408 + 2 * 6144) + 256 * 588 * 1408)
    attention = pictures * 2 * 1408 * (blocks * 257**2 + (3 * 256 * 16 if blocks == 42 else 0))
    assert vision(shape, 1) / 2 - shape.connector == linear + attention
    assert macs.frame == pytest.approx(linear + shape.connector, rel=0.03), "THOP sees no attention, but norms"


def test_norms_are_the_releases(answering):
    """Too small a thing to be seen in what comes out."""
    model = answering.model

    def eps(part):
        return {norm.eps for norm in part.modules() if isinstance(norm, torch.nn.LayerNorm)}

    assert (eps(model.tower.blocks), eps(model.tower.adapter.time), eps(model.tower.adapter.space)) == (
        {1e-6},
        {1e-6},
        {1e-5},
    )
    assert (model.connector.ln_vision.eps, eps(model.connector.qformer)) == (1e-5, {1e-12})


def test_prefill_in_llm_vtps_table_8():
    """512 tokens and 10 of text: 5.4 TFLOPs; 52 left after the tenth layer: 2.1."""
    shape = full("QA_weight").shape
    assert fastv(shape, [522] * 32) / 1e12 == pytest.approx(5.397, abs=5e-4)
    assert fastv(shape, [522] * 10 + [62] * 22) / 1e12 == pytest.approx(2.117, abs=5e-4)


# -- the line ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "left"), [("none", 64), ("random", 32), ("pool", 32), ("frame_drop", 32), ("text_only", 0)]
)
@pytest.mark.parametrize("part", OPTIONS)
def test_one_question_end_to_end(answering, talking, part, method, left):
    backbone = answering if part == "QA_weight" else talking
    answer = vicunas.pipeline(backbone, method, 0.5)(vicunas.QUESTION)
    assert answer.tokens_per_layer["visual"] == (left,) * 3
    if method == "frame_drop":
        assert set((answer.kept // 4).bincount().tolist()) == {0, 4}, "whole frames"


@pytest.mark.parametrize(("method", "cue"), [("prumerge", "probe_attention, tower_states"), ("tome", "tower_states")])
def test_cues_of_the_tower_are_refused(make, method, cue):
    untouched = make("QA_weight")
    with pytest.raises(ValueError, match=f"needs the cues {cue}, but TinyStLlm as configured gives question_feature"):
        vicunas.pipeline(untouched, method, 0.5)
    assert "model" not in vars(untouched)


@torch.inference_mode()
def test_random_weights_need_no_words(make, frames):
    """Neither tokenizer is there; of an empty question the Q-Former reads nothing."""
    noise = with_random_weights(make("QA_weight", bert="nowhere", opening=None), 6, 2)
    prompt = Prompt("", "", (0, 0), "none")
    tokens = noise.ask(noise.encode(frames, frozenset()), prompt)
    answer = noise.generate(noise.embed(tokens, prompt))
    assert (answer.tokens_per_layer["visual"], answer.tokens_per_layer["text"]) == ((20,) * 3, (6,) * 3)
