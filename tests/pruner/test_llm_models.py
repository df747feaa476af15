"""FastV and LLM-VTP in the engine against runs of the released models: the same tokens kept, the same hidden states.

Each fixture holds a tiny Llama's weights, the embeddings of a prompt, and what the released code made of them: `kept`
rows of the sequence, hidden states after the last norm, and for LLM-VTP those of one token decoded on.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import component, toy_budget
from transformers import LlamaConfig, LlamaModel

from kvtp.backbone._decoder import Decoder
from kvtp.backbone._state import Prefill
from kvtp.types import Prompt, VisualTokens

FIXTURES = Path(__file__).parent.parent / "fixtures"


def released(name: str, heads: int, shared: int) -> tuple[dict[str, Any], Decoder]:
    """The numbers, and the model that they are of."""
    with np.load(FIXTURES / f"{name}.npz") as file:
        given = {key: torch.from_numpy(file[key]) for key in file}
    weights = {key.removeprefix("w."): value for key, value in given.items() if key.startswith("w.")}
    weights = {key: value for key, value in weights.items() if not key.endswith("inv_freq")}  # of older releases
    vocabulary, width = weights["embed_tokens.weight"].shape
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(weights["layers.0.mlp.up_proj.weight"]),
        num_hidden_layers=1 + max(int(key.split(".")[1]) for key in weights if key.startswith("layers.")),
        num_attention_heads=heads,
        num_key_value_heads=shared,
        rms_norm_eps=float(given["rms_eps"]),
    )
    model = LlamaModel(config).eval()
    model.load_state_dict(weights)  # strict
    return given, Decoder(model, torch.nn.Identity())


def laid_out(x: torch.Tensor, before: int, frames: int, size: int, cue: str) -> Prefill:
    """Text, `frames` of `size` tokens, text."""
    stop = before + frames * size
    place = torch.arange(frames * size)
    visual = VisualTokens(
        features=x[before:stop],
        frame=place // size,
        row=torch.zeros_like(place),
        column=place % size,
        frames=frames,
        grid=(1, size),
        timestamps=torch.arange(frames, dtype=torch.float64),
        position=place,
        original=place,
        asked=frozenset({cue}),
    )
    return Prefill.lay_out(Prompt("", "", (0, 0), ""), x[:before], visual, x[stop:], "none", x[:0])


def cut(decoder: Decoder, state: Prefill, pruner: Any) -> tuple[Prefill, list[int]]:
    """Run to the pruner's layer and cut there; which rows of the sequence are left."""
    (layer,) = pruner.layers
    state = decoder.prefill(state, layer)
    selection = pruner(state.visual, toy_budget([0] * state.tokens.frames, state.tokens))
    stop = len(state) - state.after
    rows = [*range(state.before), *(selection.index + state.before).tolist(), *range(stop, len(state))]
    return state.keep(selection, renumber=pruner.positions == "renumber", compress_cache=pruner.compress_cache), rows


def lengths(state: Prefill) -> list[int]:
    """Rows that each layer's cache holds."""
    return [held.keys.shape[2] for held in state.cache.layers]


@torch.inference_mode()
def test_fastv() -> None:
    meta = np.load(FIXTURES / "fastv_model.npz")["meta"].tolist()
    before, count, after, kept, layer, heads, shared = meta
    given, decoder = released("fastv_model", heads, shared)
    start = laid_out(given["x"][0], before, 1, count, "last_attention")
    assert start.after == after
    pruner = component("pruner", "fastv", layer=layer, retention_ratio=kept / count)
    told = decoder.prefill(start, layer).visual.cues.last_attention
    torch.testing.assert_close(told.mean(0), given["score"], atol=1e-6, rtol=0)

    state, rows = cut(decoder, laid_out(given["x"][0], before, 1, count, "last_attention"), pruner)
    assert rows == given["kept"].tolist()
    assert state.position.tolist() == rows
    done = decoder.prefill(state, 4)
    torch.testing.assert_close(decoder.model.norm(done.hidden), given["last_hidden"][0], atol=1e-5, rtol=0)
    whole, rest = len(start), len(rows)
    assert lengths(done) == [whole] * layer + [rest] * (4 - layer)
    assert done.next_position == whole


@torch.inference_mode()
def test_llm_vtp_as_released() -> None:
    meta = np.load(FIXTURES / "llmvtp_model.npz")["meta"].tolist()
    frames, size, before, after, index, heads = meta
    given, decoder = released("llmvtp_model", heads, heads)
    start = laid_out(given["x"][0], before, frames, size, "question_attention_plain")
    assert start.after == after
    pruner = component("pruner", "llm_vtp_prunevid", layer=index + 1, retention_ratio=float(given["alpha"]))
    state, rows = cut(decoder, start, pruner)
    assert rows == given["kept"].tolist()
    assert len(start) == 27
    assert state.position.tolist() == [0, 1, 2, 3, 7, 8, 9, 10, 13, 15, 16, 19, 21, 22, 23, 24, 25, 26]
    assert lengths(state) == [18] * (index + 1)
    done = decoder.prefill(state, 4)
    torch.testing.assert_close(decoder.model.norm(done.hidden), given["last_hidden"][0], atol=1e-5, rtol=0)
    assert lengths(done) == [18] * 4

    assert done.starts == (len(start),) * 4  # the next token stands where it would have stood
    hidden = given["y"]
    rotary = decoder.model.rotary_emb(hidden, torch.tensor([[len(start)]]))
    for layer in range(4):
        hidden = decoder._feed(layer, decoder._attend(layer, hidden, rotary, done.cache))
    torch.testing.assert_close(decoder.model.norm(hidden), given["decode_hidden"], atol=1e-5, rtol=0)
    assert lengths(done) == [19] * 4


@torch.inference_mode()
@pytest.mark.parametrize(
    "changed", [{"attention": "rope"}, {"layer": 1}, {"layer": 3}, {"scope": "video"}, {"retention_ratio": 0.34}]
)
def test_llm_vtp_depends_on_its_options(changed: dict[str, Any]) -> None:
    """The released numbers are met by these settings alone."""
    frames, size, before, _, index, heads = np.load(FIXTURES / "llmvtp_model.npz")["meta"].tolist()
    given, decoder = released("llmvtp_model", heads, heads)
    settings = {"layer": index + 1, "retention_ratio": float(given["alpha"]), **changed}
    pruner = component("pruner", "llm_vtp_prunevid", **settings)
    (cue,) = pruner.cues
    assert cut(decoder, laid_out(given["x"][0], before, frames, size, cue), pruner)[1] != given["kept"].tolist()
