"""Inside the LLM: attention rows as cues, cache policies; against `transformers`' own eager attention."""

from dataclasses import replace

import pytest
import torch
from backbone import hosts
from backbone.reference import rotate
from toys import ToyFilm, component
from transformers import Qwen3Config, Qwen3Model

from kvtp.backbone._decoder import Decoder, Written, greedy
from kvtp.backbone._state import Prefill
from kvtp.pruner.base import AbstractCachePolicy
from kvtp.types import INSIDE, Prompt, Selection, VisualTokens

FAMILIES = {"tiny": "grouped keys", "qwen2_5_vl": "M-RoPE", "tarsier": "newlines of two kinds"}


@pytest.fixture(scope="module")
def started(tiny, prompt, tmp_path_factory):
    """`started(family)`: a host and its state at layer 0, all of INSIDE asked for."""
    known = {}

    def make(family, **changed):
        if family == "tiny":
            host = tiny(**({"newline": "grid", "max_new_tokens": 12} | changed))
        else:
            if family not in known:
                known[family] = getattr(hosts, family)(tmp_path_factory.mktemp(family))
            host = hosts.host(f"{family}_7b", checkpoint=str(known[family]), **changed)
        tokens = host.encode(ToyFilm(6)(""), INSIDE)
        return host, host.embed(tokens, prompt)

    return make


def eager_maps(host, state):
    """Attention maps of all layers, [H, S, S], of the sequence as it is at layer 0."""
    model = host.language[0]
    model.set_attn_implementation("eager")
    try:
        positions = state.position[:, None] if state.position.ndim == 2 else state.position[None]
        out = model(inputs_embeds=state.hidden[None], position_ids=positions, output_attentions=True, use_cache=False)
    finally:
        model.set_attn_implementation("sdpa")
    return [each[0] for each in out.attentions]


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_cues_equal_the_eager_map(started, family):
    host, start = started(family)
    maps = eager_maps(host, start)
    state = start
    for layer in range(1, host.shape.layers):
        state = host.prefill(state, layer)
        cues, rows = state.visual.cues, slice(len(start) - start.after, None)
        expected = maps[layer - 1][:, rows][..., start.visual_at]
        torch.testing.assert_close(cues.question_attention, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(cues.last_attention, expected[:, -1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(cues.question_attention, cues.question_attention_plain, atol=1e-3)


@torch.inference_mode()
def test_after_half_a_layer_the_row_is_of_that_layer(started):
    host, start = started("tiny")
    cues = host.prefill(start, 2, "attention").visual.cues
    expected = eager_maps(host, start)[2][:, -1, start.visual_at]
    torch.testing.assert_close(cues.last_attention, expected, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_after_a_cut_the_rows_are_of_what_is_left(started):
    """Against an eager map under a mask; positions stay."""
    host, start = started("tiny", newline="one_token")
    kept = torch.arange(0, len(start.tokens), 3)
    state = host.prefill(start, 1).keep(Selection(kept), renumber=False, compress_cache=False)
    assert state.visual.cues.last_attention is None, "no layer has run since"
    state = host.prefill(state, 2)
    model = host.language[0]
    hidden = host.prefill(replace(start, cache=type(start.cache)()), 1).hidden
    rows = [*range(start.before), *start.visual_at[kept].tolist(), *range(len(start) - start.after - 1, len(start))]
    block, rotary = model.layers[1], model.rotary_emb(hidden[None], start.position[rows][None])
    entering = block.input_layernorm(hidden[rows])
    query, key = (
        rotate(project(entering).unflatten(-1, (-1, 16)).transpose(0, 1)[None], *rotary)[0]
        for project in (block.self_attn.q_proj, block.self_attn.k_proj)
    )
    scores = query @ key.repeat_interleave(2, 0).mT / 4 + torch.full((len(rows), len(rows)), -torch.inf).triu(1)
    expected = scores.softmax(-1)[:, -start.after :, start.before : start.before + len(kept)]
    torch.testing.assert_close(state.visual.cues.question_attention, expected, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_plain_attention_is_that_of_bare_queries_and_keys(started):
    """No rotation, no mask: PruneVid's map, softmax(q·k/√d) over all rows."""
    host, start = started("tiny")
    state = host.prefill(start, 2)
    before = host.prefill(replace(start, cache=type(start.cache)()), 1).hidden
    block = host.language[0].layers[1]
    entering = block.input_layernorm(before)
    query, key = (
        project(entering).unflatten(-1, (-1, 16)).transpose(0, 1)
        for project in (block.self_attn.q_proj, block.self_attn.k_proj)
    )
    whole = (query @ key.repeat_interleave(2, 0).mT / 4).softmax(-1)
    expected = whole[:, -start.after :][..., start.visual_at]
    torch.testing.assert_close(state.visual.cues.question_attention_plain, expected, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_queries_with_a_norm(prompt):
    """Qwen3: queries and keys are normalised before they are turned."""
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, vocab_size=8, attn_implementation="sdpa",
    )  # fmt: skip
    model = Qwen3Model(config).eval()
    for layer in model.layers:
        torch.nn.init.normal_(layer.self_attn.q_norm.weight)
    hidden = torch.randn(20, 32)
    every, none = torch.arange(12), torch.zeros(12, dtype=torch.int64)
    tokens = VisualTokens(
        hidden[3:15], none, none, every, 1, (1, 12), torch.zeros(1), every, every, asked=frozenset({"last_attention"})
    )
    start = Prefill.lay_out(Prompt("", "", (0, 0), ""), hidden[:3], tokens, hidden[15:], "none", hidden[:0])
    told = Decoder(model, torch.nn.Identity()).prefill(start, 2).visual.cues.last_attention
    model.set_attn_implementation("eager")
    expected = model(inputs_embeds=hidden[None], output_attentions=True, use_cache=False).attentions[1][0, :, -1, 3:15]
    torch.testing.assert_close(told, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_bare_question_alone(started, family, prompt):
    host, whole = started(family)
    _, bare = started(family, question="bare")
    first, stop = bare.question
    ids = host.around(host.encode(ToyFilm(6)(""), frozenset()), prompt)[1]
    assert prompt.bare in host.tokenizer.decode(ids[first:stop])
    for fewer in (ids[first + 1 : stop], ids[first : stop - 1]):
        assert prompt.bare not in host.tokenizer.decode(fewer)
    all_rows = host.prefill(whole, 1).visual.cues.question_attention
    told = host.prefill(bare, 1).visual.cues.question_attention
    torch.testing.assert_close(told, all_rows[:, first:stop])
    assert stop - first < all_rows.shape[1]


def test_a_question_that_is_not_there_is_said(tiny, prompt):
    host = tiny(question="bare")
    host.embed(host.encode(ToyFilm(2)(""), frozenset()), replace(prompt, question_span=(0, 0)))  # nobody asks
    tokens = host.encode(ToyFilm(2)(""), INSIDE)
    with pytest.raises(ValueError, match=r"backbone\.question=bare needs the question .* use backbone\.question=after"):
        host.embed(tokens, replace(prompt, question_span=(0, 0)))


@torch.inference_mode()
def test_only_what_is_asked_for_is_told(started):
    host, start = started("tiny")
    some = replace(start, tokens=replace(start.tokens, asked=frozenset({"last_attention"})))
    cues = host.prefill(some, 1).visual.cues
    assert cues.last_attention is not None
    assert cues.question_attention is None
    assert cues.question_attention_plain is None


class Recorded(AbstractCachePolicy):
    """Keeps what it is given, hides every third row from layer 2 on, and writes down what it sees."""

    watches = frozenset({1})

    def __init__(self, hide=True):
        self.hide, self.prefilled, self.seen, self.resets = hide, [], [], 0

    def after_prefill(self, layer, queries, keys, values, visual):
        self.prefilled.append((layer, queries, keys, values, visual))
        return keys, values

    def before_decode(self, layer, attention_row):
        self.seen.append((layer, attention_row))
        if layer < 2 or not self.hide:
            return None
        rows = self.rows + sum(1 for one, _ in self.seen if one == layer)
        return torch.tensor([row for row in range(rows) if row % 3 or row == rows - 1])

    @property
    def rows(self):
        return len(self.prefilled[0][4])

    def reset(self):
        self.resets += 1

    def told(self):
        return {"resets": float(self.resets)}


@torch.inference_mode()
def test_a_policy_sees_what_the_attention_had(started):
    host, start = started("tiny")
    policy = Recorded()
    state = host.prefill(replace(start, policy=policy), 4)
    assert [layer for layer, *_ in policy.prefilled] == [0, 1, 2, 3]
    for (_, queries, keys, values, visual), whole in zip(policy.prefilled, eager_maps(host, start), strict=True):
        scores = queries @ keys.repeat_interleave(2, 0).mT / 4
        scores += torch.full(scores.shape[1:], -torch.inf).triu(1)
        torch.testing.assert_close(scores.softmax(-1), whole, atol=1e-6, rtol=1e-5)
        assert values.shape == keys.shape
        assert visual.nonzero()[:, 0].tolist() == start.visual_at.tolist()
    assert len(state.cache.layers[0].keys[0, 0]) == len(start)


@torch.inference_mode()
def test_a_policy_that_does_nothing_changes_nothing(started):
    host, start = started("tiny")
    plain = host.generate(host.prefill(replace(start, cache=type(start.cache)()), 4))
    policed = host.generate(replace(start, cache=type(start.cache)(), policy=Recorded(hide=False)))
    assert policed.text == plain.text
    assert (policed.cache_rows, policed.unseen, plain.told) == (plain.cache_rows, 0, {})
    assert policed.told == {"resets": 1.0}


@torch.inference_mode()
def test_hidden_rows_equal_an_explicit_mask(started):
    """Of the written tokens, in layers 2 and 3, every third row: logits of five tokens, and the row that is watched."""
    host, start = started("tiny", newline="one_token")
    policy, told, logits = Recorded(), Written(), []

    def pick(seen):
        logits.append(seen)
        return greedy(seen)

    state = host.prefill(replace(start, policy=policy), 4)
    reply = host.decoder.write(state, pick, frozenset(), 5, told)
    model, size = host.language[0], len(start)
    hidden = torch.cat([start.hidden, model.embed_tokens(torch.tensor(reply[:4]))])
    count = len(hidden)
    position = torch.arange(count)
    h, rotary, watched = hidden[None], model.rotary_emb(hidden[None], position[None]), None
    for number, layer in enumerate(model.layers):
        mask = torch.full((count, count), -torch.inf).triu(1)
        if number >= 2:
            mask[size:, ::3] = -torch.inf
            mask.fill_diagonal_(0)
        entering = layer.input_layernorm(h)
        query, key, value = (
            project(entering)[0].unflatten(-1, (-1, 16)).transpose(0, 1)
            for project in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
        )
        query, key = (rotate(each[None], *rotary)[0] for each in (query, key))
        weights = (query @ key.repeat_interleave(2, 0).mT / 4 + mask).softmax(-1)
        watched = weights if number == 1 else watched
        h = h + layer.self_attn.o_proj((weights @ value.repeat_interleave(2, 0)).transpose(0, 1).flatten(1))
        h = h + layer.mlp(layer.post_attention_layernorm(h))
    expected = host.language[1](model.norm(h[0, size - 1 :]))
    torch.testing.assert_close(torch.stack(logits), expected, atol=1e-5, rtol=0)
    rows = [row for layer, row in policy.seen if layer == 2]
    assert all(row is None for layer, row in policy.seen if layer != 2)
    for step, row in enumerate(rows):
        torch.testing.assert_close(row, watched[:, size + step, : size + step + 1], atol=1e-6, rtol=1e-5)
    # of the rows before the token's own
    assert told.hidden == 2 * sum(len(range(0, size + step, 3)) for step in range(4))
    assert [len(layer.keys[0, 0]) for layer in state.cache.layers] == [count] * 4, "the cache keeps all"


class Picking(AbstractCachePolicy):
    """Leaves another part of the cache in each kv head and layer: every second row, and all text after the video."""

    reads_queries = False

    def kept(self, layer, head, rows, after):
        return [row for row in range(rows) if row % 2 == (layer + head) % 2 or row >= rows - after]

    def __init__(self, rows, after):
        self.after = after + (rows - after) % 2  # so that all leave equally many

    def after_prefill(self, layer, queries, keys, values, visual):
        rows = [self.kept(layer, head, keys.shape[1], self.after) for head in range(len(keys))]
        return tuple(torch.stack([each[head, row] for head, row in enumerate(rows)]) for each in (keys, values))


@pytest.mark.parametrize("family", ["tiny", "qwen2_5_vl"])
@torch.inference_mode()
def test_writing_on_a_shortened_cache_equals_an_explicit_mask(started, family):
    """Of the written tokens alone, by head and layer: logits of five tokens, positions going on behind the prompt."""
    host, start = started(family)
    policy, logits = Picking(len(start), start.after), []

    def pick(seen):
        logits.append(seen)
        return greedy(seen)

    state = host.prefill(replace(start, policy=policy), 4)
    size = len(start)
    shorter = {len(layer.keys[0, 0]) for layer in state.cache.layers}
    assert len(shorter) == 1
    assert shorter.pop() < 0.6 * size + start.after
    reply = host.decoder.write(state, pick, frozenset(), 5)
    model = host.language[0]
    hidden = torch.cat([start.hidden, model.embed_tokens(torch.tensor(reply[:4]))])
    following = start.next_position + torch.arange(4)
    position = torch.cat([start.position, following.expand(*start.position.shape[:-1], 4)], -1)
    count, h, rotary = len(hidden), hidden[None], model.rotary_emb(hidden[None], position.unsqueeze(-2))
    for number, layer in enumerate(model.layers):
        entering = layer.input_layernorm(h)
        query, key, value = (
            project(entering)[0].unflatten(-1, (-1, 16)).transpose(0, 1)
            for project in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
        )
        query, key = (rotate(each[None], *rotary)[0] for each in (query, key))
        mask = torch.full((len(key), count, count), -torch.inf).triu(1)
        for head in range(len(key)):
            gone = sorted(set(range(size)) - set(policy.kept(number, head, size, policy.after)))
            mask[head, size:, gone] = -torch.inf
        scores = query @ key.repeat_interleave(2, 0).mT / 4 + mask.repeat_interleave(2, 0)
        attended = scores.softmax(-1) @ value.repeat_interleave(2, 0)
        h = h + layer.self_attn.o_proj(attended.transpose(0, 1).flatten(1))
        h = h + layer.mlp(layer.post_attention_layernorm(h))
    expected = host.language[1](model.norm(h[0, size - 1 :]))
    torch.testing.assert_close(torch.stack(logits), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_choices_are_scored_as_new_replies(started):
    """Whatever was scored before them: DyCoke's second stage compares each step with the one before."""
    host, start = started("tiny", answer="likelihood")
    choices = ("the red square", "violet", "a circle at the bottom")

    def scored(*some):
        pruner = component("pruner", "dycoke", decode_layer=2)
        state = replace(start, cache=type(start.cache)(), prompt=replace(start.prompt, choices=some))
        return host.generate(replace(state, policy=pruner.cache)).likelihoods

    together, plain = scored(*choices), host.generate(replace(start, prompt=replace(start.prompt, choices=choices)))
    assert min(abs(together[choice] - plain.likelihoods[choice]) for choice in choices[::2]) > 1e-3
    assert scored(*choices[::-1]) == pytest.approx(together, abs=1e-5)
    for choice in choices:
        assert scored(choice)[choice] == pytest.approx(together[choice], abs=1e-5)
