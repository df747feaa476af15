"""FastV and LLM-VTP on a whole backbone against another road: eager S×S maps of the whole sequence, which is never
shortened but masked, and scores ranked one by one."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from backbone.reference import decode, kept_rows, rotate
from toys import ToyBenchmark, ToyFilm, component, toy_question

from kvtp.pipeline import Pipeline
from kvtp.types import Budget

RATIOS = (0.1, 0.3, 0.5, 0.8)
OTHERS = {"scout": "none", "relevance": "uniform", "budget": "uniform"}


@pytest.fixture(scope="module")
def hosts(tiny):
    """`hosts(newline="grid", …)`: one set of weights, loaded once."""
    first = tiny()

    def make(**changed):
        host = tiny(**changed)
        host.__dict__["model"] = first.model
        return host

    return make


def embedded(host, frames, prompt, pruner):
    tokens = replace(host.encode(frames, frozenset()), asked=pruner.cues)
    return host.embed(tokens, prompt)


def select(host, start, pruner):
    state = host.prefill(replace(start, cache=type(start.cache)()), pruner.layers[0])
    budget = Budget(torch.zeros(start.tokens.frames, dtype=torch.int64), 0.5)  # binds neither method
    return state, pruner(state.visual, budget)


def eager(host, start, written, unseen):
    """Logits after the prompt and each of the `written` ids, and every layer's maps [H, S, S] as it attends and without
    positions and mask. `unseen(layer)`: which [row, column] pairs it must not see beside the causal mask."""
    model, head = host.language
    hidden = torch.cat([start.hidden, model.embed_tokens(torch.tensor(written, dtype=torch.int64))])
    size = len(hidden)
    rotary = model.rotary_emb(hidden[None], torch.arange(size)[None])
    maps = []
    for number, layer in enumerate(model.layers):
        x, a = layer.input_layernorm(hidden), layer.self_attn
        query, key, value = (
            part(x).unflatten(-1, (-1, a.head_dim)).transpose(0, 1) for part in (a.q_proj, a.k_proj, a.v_proj)
        )
        key, value = (part.repeat_interleave(len(query) // len(part), 0) for part in (key, value))
        plain = (query @ key.mT * a.head_dim**-0.5).softmax(-1)
        query, key = rotate(query[None], *rotary)[0], rotate(key[None], *rotary)[0]
        hide = torch.ones(size, size, dtype=torch.bool).triu(1) | unseen(number)
        hide.fill_diagonal_(False)  # a dropped row sees itself, so that its own (unused) output is no NaN
        shares = (query @ key.mT * a.head_dim**-0.5).masked_fill(hide, -math.inf).softmax(-1)
        maps.append((shares, plain))
        hidden = hidden + a.o_proj((shares @ value).transpose(0, 1).flatten(1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return head(model.norm(hidden[len(start) - 1 :])), maps


def scores(method, start, maps):
    """Of each visual token, by the method's definition, from the maps of one layer."""
    attends, plain = maps
    if method == "fastv":
        return attends[:, -1].mean(0)[start.visual_at].tolist()
    if method == "llm_vtp":
        return attends[:, -start.after :].amax(0).mean(0)[start.visual_at].tolist()
    return plain[:, -start.after :].amax((0, 1))[start.visual_at].tolist()


def ranked(method, ratio, start, values):
    """The tokens kept, by sorting."""
    frame = start.tokens.frame.tolist()
    groups = [range(len(values))]
    if method != "fastv":
        groups = [[row for row in range(len(values)) if frame[row] == t] for t in range(start.tokens.frames)]
    count = {"fastv": round, "llm_vtp": math.ceil, "llm_vtp_prunevid": math.floor}[method]
    return sorted(
        row for group in groups for row in sorted(group, key=lambda i: -values[i])[: count(ratio * len(group))]
    )


CASES = [
    ("fastv", 2, "one_token"),
    ("fastv", 1, "grid"),
    ("llm_vtp", 2, "one_token"),
    ("llm_vtp", 3, "frame"),
    ("llm_vtp", 1, "none"),
    ("llm_vtp_prunevid", 2, "grid"),
]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("method", "layer", "newline"), CASES)
@torch.inference_mode()
def test_equals_eager_maps_and_explicit_masks(hosts, frames, prompt, method, layer, newline, ratio):
    """The prompt sees everything below the cut. Of what is written, FastV lets it see that, too; LLM-VTP has compressed
    those caches."""
    host = hosts(newline=newline)
    pruner = component("pruner", method, retention_ratio=ratio, layer=layer)
    start = embedded(host, frames, prompt, pruner)
    _, maps = eager(host, start, [], lambda number: False)
    values = scores(method, start, maps[layer - 1])
    state, selection = select(host, start, pruner)
    kept = ranked(method, ratio, start, values)
    assert selection.index.tolist() == kept

    cut = state.keep(selection, renumber=False, compress_cache=pruner.compress_cache)
    rows, dropped = kept_rows(start, kept)
    assert cut.position.tolist() == rows
    logits = decode(host, cut, 3)
    written = logits.argmax(-1).tolist()[:-1]
    size = len(start) + len(written)

    def unseen(number):
        hide = torch.zeros(size, size, dtype=torch.bool)
        first = 0 if number >= layer else len(start) if method != "fastv" else size
        hide[first:, dropped] = True
        return hide

    expected, _ = eager(host, start, written, unseen)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("method", "layer", "newline"), CASES)
@torch.inference_mode()
def test_eager_and_sdpa_keep_the_same_tokens(tiny, hosts, frames, prompt, method, layer, newline, ratio):
    """But for tokens whose scores are within 1e-6 of each other."""
    pruner = component("pruner", method, retention_ratio=ratio, layer=layer)
    chosen, told = [], []
    for host in (hosts(newline=newline), tiny(newline=newline, attn="eager")):
        assert host.model.config.text_config._attn_implementation == ("sdpa" if not chosen else "eager")
        state, selection = select(host, embedded(host, frames, prompt, pruner), pruner)
        chosen.append(set(selection.index.tolist()))
        (cue,) = pruner.cues
        told.append(getattr(state.visual.cues, cue))
    torch.testing.assert_close(*told, atol=1e-6, rtol=0)
    assert len(chosen[0]) == len(chosen[1])
    either = chosen[0] ^ chosen[1]
    if either:
        start = embedded(hosts(newline=newline), frames, prompt, pruner)
        _, maps = eager(host, start, [], lambda number: False)
        values = scores(method, start, maps[layer - 1])
        frame = start.tokens.frame.tolist()
        for row in either:
            others = [values[i] for i in either if method == "fastv" or frame[i] == frame[row]]
            assert max(others) - min(others) < 1e-6


@pytest.mark.parametrize("method", ["fastv", "llm_vtp", "llm_vtp_pruned", "llm_vtp_prunevid"])
@torch.inference_mode()
def test_the_pipeline_keeps_these_tokens(hosts, prompt, method):
    """Asks for the cue, runs to the layer, cuts once: the answer tells the same tokens as steps taken by hand."""
    host = hosts(newline="one_token", max_new_tokens=4)
    film, question = ToyFilm(4), toy_question()
    pruner = component("pruner", method, retention_ratio=0.3, layer=2)
    parts: dict[str, Any] = {name: component(name, option) for name, option in OTHERS.items()}
    pipeline = Pipeline(benchmark=ToyBenchmark(question), frames=film, backbone=host, pruner=pruner, **parts)
    answer = pipeline(question)
    asked = ToyBenchmark(question).prompt(question, film("toy.mp4"))
    start = embedded(host, film("toy.mp4"), asked, pruner)
    _, selection = select(host, start, pruner)
    assert answer.kept.tolist() == selection.index.tolist()
    whole, left = len(start.tokens), len(selection)
    assert answer.tokens_per_layer["visual"] == (whole, whole, left, left)
    lost = whole - left if pruner.compress_cache else 0
    assert answer.cache_rows == (len(start) - lost,) * 2 + (len(start) - whole + left,) * 2
