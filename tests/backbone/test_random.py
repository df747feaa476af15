"""Hosts of noise against hosts whose weights were read: the same model, but for its numbers and words."""

import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from backbone import hosts

from kvtp.backbone._random import with_random_weights
from kvtp.types import Frames, Prompt

PROMPT = Prompt("What comes after the red square?", "What comes after the red square?", (0, 32), "none")
FAMILIES = ("tiny", "llava_video", "pllava", "tarsier", "qwen2_5_vl")


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny):
    """`real(family)`: a host on a tiny checkpoint, which is read once."""
    made = {}

    def known(family):
        if family not in made:
            if family == "tiny":
                made[family] = tiny()
            else:
                folder = getattr(hosts, family)(tmp_path_factory.mktemp(family))
                changed = {"llava_video": {"head": str(folder / "siglip")}, "pllava": {"side": 3, "frames": 4}}
                made[family] = hosts.host(f"{family}_7b", checkpoint=str(folder), **changed.get(family, {}))
        return made[family]

    return known


@pytest.fixture
def bare(real, tmp_path):
    """`bare(family)`: the same host where of the checkpoint there is nothing but config.json."""

    def known(family):
        host = real(family)
        shutil.copy(Path(host.checkpoint) / "config.json", tmp_path)
        told = {field.name: getattr(host, field.name) for field in fields(host)}
        if getattr(host, "head", None):
            told["head"] = "nobody/has-this"
        return type(host)(**{**told, "checkpoint": str(tmp_path)})

    return known


def films(count: int) -> Frames:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 64, 96, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(count).double(), torch.arange(count), float(count), "none")


def described(tensors) -> dict[str, tuple]:
    return {name: (tuple(tensor.shape), tensor.dtype, tensor.device.type) for name, tensor in tensors}


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_and_buffers_are_those_of_the_release(real, bare, family) -> None:
    """Name for name; and buffers hold what a model that was read holds, in its precision."""
    host, noise = real(family), with_random_weights(bare(family), text=12, reply=3)
    assert described(noise.model.named_parameters()) == described(host.model.named_parameters())
    assert all(weight.isfinite().all() and weight.any() for weight in noise.model.parameters())
    buffers, expected = dict(noise.model.named_buffers()), dict(host.model.named_buffers())
    assert buffers.keys() == expected.keys()
    assert any("inv_freq" in name for name in buffers)
    assert all(torch.equal(buffers[name], buffer) for name, buffer in expected.items())
    assert not noise.model.training


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_lengths_are_as_asked(real, bare, family) -> None:
    """Of the prompt and of the reply, which a stop token would end sooner or later; visual tokens as the real host
    makes them, with the cues that it supplies."""
    host, noise = real(family), with_random_weights(bare(family), text=12, reply=3)
    frames = films(4)
    tokens, expected = (one.encode(frames, one.supplies) for one in (noise, host))
    assert noise.supplies == host.supplies
    for name, cue in vars(expected.cues).items():
        made = getattr(tokens.cues, name)
        assert (made is None) == (cue is None), name
        assert cue is None or (made.shape == cue.shape and made.isfinite().all()), name
    tokens = noise.ask(tokens, PROMPT)
    assert len(tokens.cues.text_features) == 6, "words"
    state = noise.embed(tokens, PROMPT)
    assert (state.before, state.after, len(state.visual_at)) == (6, 6, len(expected))
    answer = noise.generate(state)
    assert len(answer.text.split()) == 3
    assert answer.steps == (3,), "the third token, too, is run: a real host learns by it that the reply ends"
    assert noise.first_token > 0
    assert noise.generate(noise.embed(tokens, PROMPT)).text == answer.text


@torch.inference_mode()
def test_a_reply_may_be_empty_and_settings_of_replies_do_not_matter(tiny) -> None:
    noise = with_random_weights(tiny(answer="likelihood", temperature=1.0, max_new_tokens=2), text=5, reply=0)
    state = noise.embed(noise.encode(films(2), frozenset()), PROMPT)
    assert (state.before, state.after) == (2, 3)
    answer = noise.generate(state)
    assert (answer.text, answer.steps) == ("", (0,))


def test_half_precision_leaves_rotary_frequencies_alone(tiny) -> None:
    noise = with_random_weights(tiny(dtype="bfloat16"), text=12, reply=3)
    assert {weight.dtype for weight in noise.model.parameters()} == {torch.bfloat16}
    frequencies = noise.model.model.language_model.rotary_emb.inv_freq
    assert frequencies.dtype == torch.float32
    width = noise.shape.head_dim
    theta = noise.config.text_config.rope_parameters["rope_theta"]
    torch.testing.assert_close(frequencies, theta ** (-torch.arange(0, width, 2) / width))


def test_the_pooling_head_has_the_shapes_of_the_stock_one(tiny) -> None:
    host = tiny()
    noise = with_random_weights(host, text=12, reply=3)
    assert described(noise.pooling_head().named_parameters()) == described(host.pooling_head().named_parameters())


def test_weights_that_are_shared_stay_so(tiny, tmp_path) -> None:
    """As in LLaVA-OneVision 0.5B: the LM head is the word embedding."""
    host = tiny()
    text = host.config.text_config.to_dict() | {"tie_word_embeddings": True}
    config = type(host.config)(**host.config.to_dict() | {"text_config": text, "tie_word_embeddings": True})
    config.save_pretrained(tmp_path)
    for shared, checkpoint in ((True, str(tmp_path)), (False, host.checkpoint)):
        model = with_random_weights(tiny(checkpoint=checkpoint), text=12, reply=3).model
        assert (model.lm_head.weight is model.model.language_model.embed_tokens.weight) == shared


def test_noise_is_that_of_the_seed_and_keeps_signals_their_size(tiny) -> None:
    first, again, other = (with_random_weights(tiny(seed=seed), text=12, reply=3).model for seed in (0, 0, 1))
    name = "model.language_model.layers.1.mlp.down_proj.weight"
    matrix = first.get_parameter(name)
    assert torch.equal(matrix, again.get_parameter(name))
    assert not torch.equal(matrix, other.get_parameter(name))
    assert float(matrix.std()) == pytest.approx(matrix.shape[1] ** -0.5, rel=0.05)
    assert float(first.get_parameter("model.language_model.norm.weight").mean()) == pytest.approx(1, abs=0.02)
