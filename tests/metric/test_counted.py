"""What methods inside the LLM cost: torch's counter, through the line, against products written out by hand."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from toys import ToyBenchmark, ToyFilm, component

from kvtp.backbone._decoder import Written, greedy
from kvtp.metric.counted import Counted
from kvtp.metric.dry import DryBackbone
from kvtp.metric.flops import llm_decode, llm_rows_told, llm_unseen
from kvtp.pipeline import Pipeline
from kvtp.pruner.base import AbstractCachePolicy
from kvtp.types import Question

QUESTION = Question(id="q", video="v", text="What colour is the circle?")


def line(backbone, pruner) -> Pipeline:
    stages = {"scout": "none", "relevance": "uniform", "budget": "uniform"}
    made = {stage: component(stage, option) for stage, option in stages.items()}
    return Pipeline(
        benchmark=ToyBenchmark(QUESTION), frames=ToyFilm(4, 32, 32), backbone=backbone, pruner=pruner, **made
    )


def spent(pipeline: Pipeline):
    return pipeline.answer(QUESTION, *pipeline.watch("v", pipeline.cues))


# -- cues ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["one_token", "frame"])
@pytest.mark.parametrize("question", ["after", "bare"])
@pytest.mark.parametrize(
    ("pruner", "last"), [("fastv", True), ("llm_vtp", False), ("llm_vtp_prunevid", False)], ids=lambda value: str(value)
)
def test_a_cue_inside_the_llm_costs_queries_and_their_rows(tiny, pruner, last, newline, question) -> None:
    """Of the rows that are told, one or the question's: queries, rows × D × H·d, and their products with all keys,
    rows × S × H·d. Plain attention costs the same."""
    backbone = tiny(newline=newline, question=question, max_new_tokens=1)
    pipeline = line(backbone, component("pruner", pruner, layer=2))
    frames, tokens = pipeline.watch("v", pipeline.cues)
    tokens = replace(tokens, asked=pipeline.pruner.cues)
    state = backbone.embed(tokens, pipeline.benchmark.prompt(QUESTION, frames))
    first, stop = state.question or (0, state.after)
    assert (stop - first < state.after) == (question == "bare" and not last), "the last row needs no question"
    inner = backbone.shape.heads * backbone.shape.head_dim
    told = 1 if last else stop - first
    expected = 2 * inner * told * (backbone.shape.width + len(state))
    with FlopCounterMode(display=False) as counter:
        _ = backbone.prefill(state, 2).visual
        whole = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        backbone.prefill(replace(state, cache=type(state.cache)(), tokens=replace(state.tokens, asked=frozenset())), 2)
        assert whole - counter.get_total_flops() == expected
    _, cost = pipeline.answer(QUESTION, frames, tokens)
    assert cost.selection == expected


@pytest.mark.parametrize("pruner", ["fastv", "llm_vtp"])
def test_each_question_pays_for_its_own_length(tiny, pruner) -> None:
    """Whichever of two, the shorter or the longer, is asked first."""
    texts = "Where?", "What colour is the circle, and what comes right after it, and where is that?"
    costs = []
    for order in (texts, texts[::-1]):
        pipeline = line(tiny(max_new_tokens=1), component("pruner", pruner, layer=2))
        seen = pipeline.watch("v", pipeline.cues)
        for text in order:
            asked = replace(QUESTION, text=text)
            pipeline.benchmark = ToyBenchmark(asked)
            costs.append((text, pipeline.answer(asked, *seen)[1].selection))
    assert dict(costs[:2]) == dict(costs[2:])
    assert costs[0][1] < costs[1][1]


# -- cache policies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["pivot", "none"])
def test_look_m_costs_column_sums_and_what_its_pivots_are_found_by(tiny, monkeypatch, merge) -> None:
    """Of each layer: queries of all S rows, S × D × H·d; scores of rows in chunks against the keys up to the chunk's
    last, Σ chunk × end × H·d; every row that goes against every row that stays, (S − n) × n × G·d."""
    backbone = tiny(max_new_tokens=1)
    shape, chunk = backbone.shape, 50
    pipeline = line(backbone, component("pruner", "look_m", merge=merge))
    state = backbone.embed(pipeline.watch("v", pipeline.cues)[1], pipeline.benchmark.prompt(QUESTION, ToyFilm(1)("v")))
    rows = len(state)
    monkeypatch.setattr("kvtp.attention.CELLS", chunk * shape.heads // shape.kv_heads * rows)
    answer, cost = spent(pipeline)
    (left,) = set(answer.cache_rows)
    assert left < rows
    ends = [min(begin + chunk, rows) for begin in range(0, rows, chunk)]
    sums = sum((end - begin) * end for begin, end in zip(range(0, rows, chunk), ends, strict=True))
    macs = shape.heads * shape.head_dim * (rows * shape.width + sums)
    macs += shape.kv_heads * shape.head_dim * (rows - left) * left * (merge == "pivot")
    assert cost.selection == 2 * shape.layers * macs
    assert spent(pipeline)[1] == cost, "counted once, told again"


class Halving(AbstractCachePolicy):
    """Keeps every second row, and writes down the layers."""

    def __init__(self) -> None:
        self.layers: list[int] = []

    def after_prefill(self, layer, queries, keys, values, visual):
        self.layers.append(layer)
        return keys[:, ::2], values[:, ::2]


def test_layers_of_equally_many_rows_are_told_once_where_nothing_is_computed(tiny) -> None:
    shape = tiny().shape
    for device, called in (("cpu", [0, 1, 2]), ("meta", [0, 2])):
        policy, known = Halving(), {}
        counted = Counted(policy, shape, known)
        found = []
        for layer, rows in enumerate((9, 9, 5)):
            keys = torch.zeros(shape.kv_heads, rows, shape.head_dim, device=device)
            queries = torch.zeros(shape.heads, rows, shape.head_dim, device=device)
            visual = torch.zeros(rows, dtype=torch.bool)
            found += [each.shape[1] for each in counted.after_prefill(layer, queries, keys, keys, visual)]
        assert policy.layers == called
        assert found == [5, 5, 5, 5, 3, 3]
        assert counted.flops == 2 * shape.width * shape.heads * shape.head_dim * (9 + 9 + 5)


# -- decoding ------------------------------------------------------------------------------------------------------


class Hiding(AbstractCachePolicy):
    """From layer 1 on a written token sees every third row of the cache, and itself. Layer 0 is watched."""

    reads_queries = False
    watches = frozenset({0})

    def __init__(self, rows: int) -> None:
        self.rows, self.step = rows, 0

    def before_decode(self, layer, attention_row):
        self.step += layer == 0
        if layer == 0:
            return None
        cached = self.rows + self.step  # the token's own among them
        return torch.tensor([*range(0, cached - 1, 3), cached - 1])


def test_decoding_with_hidden_and_watched_rows_equals_torch_counter(tiny) -> None:
    """Eager attention, whose products the counter sees. The LM head reads the prompt's last row, too, which is the
    prefill's cost."""
    backbone, steps = tiny(attn="eager", newline="none"), 5
    pipeline = line(backbone, component("pruner", "none"))
    frames, tokens = pipeline.watch("v", frozenset())
    state = backbone.embed(tokens, pipeline.benchmark.prompt(QUESTION, frames))
    state = replace(state, policy=Hiding(len(state)))
    shape, told = backbone.shape, Written()
    state = backbone.prefill(state, shape.layers)
    rows = [layer.keys.shape[2] for layer in state.cache.layers]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        backbone.decoder.write(state, greedy, frozenset(), steps + 1, told)
    seen = [len(range(0, rows[0] + step, 3)) for step in range(steps)]
    assert told.hidden == (shape.layers - 1) * sum(rows[0] + step - count for step, count in enumerate(seen))
    assert (told.watched, told.keys) == (steps, sum(rows[0] + step + 1 for step in range(steps)))
    head = 2 * shape.width * shape.vocabulary
    expected = llm_decode(shape, rows, steps) - llm_unseen(shape, told.hidden)
    expected += llm_rows_told(shape, told.watched, told.keys)
    assert counter.get_total_flops() == expected + head


class Scribbling(AbstractCachePolicy):
    """Writes what it reads off keys into a tensor of its own."""

    def after_prefill(self, layer, queries, keys, values, visual):
        mine = torch.zeros(len(visual))
        mine[:2] = keys[0, :2, 0]
        return keys[:, : int(mine.sum())], values


def test_what_is_not_known_is_not_made_up(tiny) -> None:
    """Where nothing is computed, a policy that depends on what keys hold fails, and says on what."""
    pruner = component("pruner", "look_m")
    pruner.cache = Scribbling()
    pipeline = line(DryBackbone(tiny(), 20, 2), pruner)
    with pytest.raises(NotImplementedError, match="writes what is not known into a tensor of cpu"):
        spent(pipeline)
