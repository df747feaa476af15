"""The layer-wise engine: a Hugging Face decoder run layer by layer, cut anywhere, decoded on.

Works on pre-norm decoders (`input_layernorm self_attn post_attention_layernorm mlp`: Llama, Mistral, Qwen2 …).
One sequence, causal, and after a cut the kept rows stay in order: SDPA and FlashAttention use their causal kernels and
no mask is built (`eager` has no such kernel and gets one). `position_ids` are not handed to the layers: the wrapper of
FlashAttention would take gaps for packed sequences. Rotary embeddings carry the positions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import DynamicCache, TemperatureLogitsWarper, TopPLogitsWarper

from kvtp.attention import attention_rows, rotate
from kvtp.backbone._state import Asking, Prefill
from kvtp.backbone.base import Site
from kvtp.pruner.base import AbstractCachePolicy

Pick = Callable[[Float[Tensor, " V"]], int]
Rotary = tuple[Tensor, Tensor]  # cos and sin, each [1, rows, d]


@dataclass
class Written:
    """What a policy did while replies were written, summed over tokens and layers: cached rows that were `hidden`;
    attention rows told again for it (`watched`), and the keys that they met."""

    hidden: int = 0
    watched: int = 0
    keys: int = 0


class Decoder:
    """Runs `model` (layers, norm, rotary_emb, embed_tokens) and `head` (the LM head)."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        windowed = set(getattr(model.config, "layer_types", ())) - {"full_attention"}
        if windowed:
            raise ValueError(f"every decoder layer must attend to the whole sequence, this one has {sorted(windowed)}")
        self.model, self.head = model, head

    def prefill(self, state: Prefill, upto: int, site: Site = "layer") -> Prefill:
        """Run until `upto` whole layers are done; with `site="attention"` also the next attention and its residual."""
        reached = state.layer + state.half
        if not reached <= upto + (site == "attention") <= len(self.model.layers):
            raise ValueError(
                f"upto must be in [{reached}, {len(self.model.layers)}] with site=layer, one less with "
                f"site=attention, got {upto} with site={site}"
            )
        hidden, layer, half = state.hidden[None], state.layer, state.half
        counts, starts, mlp_rows = list(state.counts), list(state.starts), list(state.mlp_rows)
        cached = list(state.cached)
        asking, last = state.asking, upto - (site == "layer")
        rotary = self.model.rotary_emb(hidden, state.position.unsqueeze(-2))
        visual = None if state.policy is None else state.visual_rows
        while (layer, half) != (upto, site == "attention"):
            if half:
                mlp_rows.append(len(state))
                hidden, layer = self._feed(layer, hidden), layer + 1
            else:
                if layer == last and state.tokens.asked:
                    asking = self._asking(layer, hidden[:, len(state) - state.after :], rotary)
                before, hidden = hidden, self._attend(layer, hidden, rotary, state.cache)
                if state.policy is not None:
                    self._compress(state.policy, layer, before, rotary, state.cache, visual)
                del before
                visual_rows, *others = state.count
                counts.append(state.count)
                cached.append(min(visual_rows, max(0, state.cache.layers[layer].keys.shape[-2] - sum(others))))
                starts.append(state.next_position)
            half = not half
        return replace(
            state,
            hidden=hidden[0].to(state.hidden.device),  # a state stays in one place, for what cuts it
            layer=layer,
            half=half,
            asking=asking,
            counts=tuple(counts),
            starts=tuple(starts),
            mlp_rows=tuple(mlp_rows),
            cached=tuple(cached),
        )

    def logits(self, state: Prefill) -> Float[Tensor, " V"]:
        """Of the token after the prompt, in fp32. The state must have run through all layers."""
        return self._read(state.hidden[-1])

    def write(
        self, state: Prefill, pick: Pick, stop: frozenset[int], limit: int, told: Written | None = None
    ) -> list[int]:
        """Token ids of the reply, without the stop token. Extends the cache in place by all but the `limit`th."""
        logits = self._begin(state)
        reply: list[int] = []
        while len(reply) < limit and (token := pick(logits)) not in stop:
            reply.append(token)
            if len(reply) < limit:
                logits = self._step(state, token, len(reply) - 1, told)
        return reply

    def likelihood(self, state: Prefill, reply: Sequence[int], told: Written | None = None) -> float:
        """Log-probability [nats] of a reply, summed over its tokens. Leaves the cache as it was."""
        lengths = [layer.keys.shape[-2] for layer in state.cache.layers]
        logits, total = self._begin(state), 0.0
        for step, token in enumerate(reply):
            total += float(logits.log_softmax(-1)[token])
            if step + 1 < len(reply):
                logits = self._step(state, token, step, told)
        for layer, length in zip(state.cache.layers, lengths, strict=True):
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
        return total

    def _begin(self, state: Prefill) -> Float[Tensor, " V"]:
        if state.policy is not None:
            state.policy.reset()
        return self.logits(state)

    def _attend(self, layer: int, hidden: Tensor, rotary: Rotary, cache: DynamicCache) -> Tensor:
        block, rows = self.model.layers[layer], hidden.shape[1]
        mask = None
        if rows > 1 and self.model.config._attn_implementation == "eager":
            mask = hidden.new_full((rows, rows), float("-inf"), device=_device(block)).triu(1)[None, None]
        hidden, cos, sin = (each.to(_device(block)) for each in (hidden, *rotary))
        attended, _ = block.self_attn(
            hidden_states=block.input_layernorm(hidden),
            attention_mask=mask,
            position_embeddings=(cos, sin),
            past_key_values=cache,
        )
        return hidden + attended

    def _feed(self, layer: int, hidden: Tensor) -> Tensor:
        block = self.model.layers[layer]
        hidden = hidden.to(_device(block))  # a cut after its attention brought it back
        return hidden + block.mlp(block.post_attention_layernorm(hidden))

    def _queries(self, layer: int, hidden: Float[Tensor, "1 n D"], rotary: Rotary, turned: bool) -> Tensor:
        """As the layer makes them of what enters it, [H, n, d]; `turned`: positions in them."""
        block = self.model.layers[layer]
        attention = block.self_attn
        hidden, cos, sin = (each.to(_device(block)) for each in (hidden, *rotary))
        queries = attention.q_proj(block.input_layernorm(hidden))[0].unflatten(-1, (-1, attention.head_dim))
        if (norm := getattr(attention, "q_norm", None)) is not None:
            queries = norm(queries)
        queries = queries.transpose(0, 1)
        return rotate(queries, cos[0], sin[0]) if turned else queries

    def _asking(self, layer: int, text: Float[Tensor, "1 after D"], rotary: Rotary) -> Asking:
        """`text`: what enters the layer of the rows after the video."""
        block, count = self.model.layers[layer], text.shape[1]
        cos, sin = (each.to(_device(block)) for each in rotary)
        held = text.clone()  # the slice would keep all rows of the sequence

        def queries(rows: slice, turned: bool) -> Float[Tensor, "H rows d"]:
            turns = tuple(each[:, each.shape[1] - count :][:, rows] for each in (cos, sin))
            return self._queries(layer, held[:, rows], turns, turned)

        return Asking(layer, queries, block.self_attn.scaling, (cos[0], sin[0]))

    def _compress(
        self,
        policy: AbstractCachePolicy,
        layer: int,
        hidden: Float[Tensor, "1 S D"],
        rotary: Rotary,
        cache: DynamicCache,
        visual: Tensor | None,
    ) -> None:
        """`hidden`: what entered the layer's attention."""
        assert visual is not None
        held = cache.layers[layer]
        queries = self._queries(layer, hidden, rotary, turned=True) if policy.reads_queries else None
        keys, values = policy.after_prefill(layer, queries, held.keys[0], held.values[0], visual.to(held.keys.device))
        held.keys, held.values = keys[None], values[None]

    def _step(self, state: Prefill, token: int, step: int, told: Written | None = None) -> Float[Tensor, " V"]:
        """Logits after one more token. Layers go on at their own positions: `renumber` inside the LLM parts them."""
        embedding = self.model.embed_tokens
        hidden = embedding(torch.tensor([[token]], device=embedding.weight.device))
        rotary = dict(self._rotary(hidden, state, step))
        row = None  # of the attention of the layer before, where a policy wants to see it
        for layer, start in enumerate(state.starts):
            visible = None if state.policy is None else state.policy.before_decode(layer, row)
            entering = hidden
            if visible is None:
                hidden = self._attend(layer, hidden, rotary[start], state.cache)
            else:
                hidden, hid = self._attend_some(layer, hidden, rotary[start], state.cache, visible)
                if told is not None:
                    told.hidden += hid
            if state.policy is not None and layer in state.policy.watches:
                queries = self._queries(layer, entering, rotary[start], turned=True)
                keys, scale = state.cache.layers[layer].keys[0], self.model.layers[layer].self_attn.scaling
                row = attention_rows(queries, keys, None, scale, slice(None))[:, 0]
                if told is not None:
                    told.watched, told.keys = told.watched + 1, told.keys + keys.shape[1]
            else:
                row = None
            hidden = self._feed(layer, hidden)
        return self._read(hidden[0, -1])

    def _attend_some(
        self, layer: int, hidden: Tensor, rotary: Rotary, cache: DynamicCache, visible: Int64[Tensor, " n"]
    ) -> tuple[Tensor, int]:
        """As `_attend`, to some cached rows and the token's own, whatever kernel attends; and how many were hidden. The
        cache keeps all."""
        held = cache.layers[layer]
        keys, values = held.keys, held.values
        seen = visible[:-1].to(keys.device)
        held.keys, held.values = keys[:, :, seen], values[:, :, seen]
        hidden = self._attend(layer, hidden, rotary, cache)
        held.keys = torch.cat([keys, held.keys[:, :, -1:]], 2)
        held.values = torch.cat([values, held.values[:, :, -1:]], 2)
        return hidden, keys.shape[2] - len(seen)

    def _rotary(self, hidden: Tensor, state: Prefill, step: int) -> Iterator[tuple[int, Rotary]]:
        axes = (*state.position.shape[:-1], 1, 1)  # text has one position on all axes of M-RoPE
        for start in set(state.starts):
            yield start, self.model.rotary_emb(hidden, torch.full(axes, start + step, device=hidden.device))

    def _read(self, hidden: Float[Tensor, " D"]) -> Float[Tensor, " V"]:
        norm, head = self.model.norm, self.head
        return head(norm(hidden.to(norm.weight.device)).to(head.weight.device)).float()


def _device(block: nn.Module) -> torch.device:
    """Where a layer works: a large model's are on several GPUs."""
    return block.input_layernorm.weight.device


def greedy(logits: Float[Tensor, " V"]) -> int:
    return int(logits.argmax())


def sampler(temperature: float, top_p: float, seed: int) -> Pick:
    """Nucleus sampling; its own generator on the CPU, so that a reply depends on nothing that ran before it."""
    generator = torch.Generator().manual_seed(seed)
    warpers = [TemperatureLogitsWarper(temperature), TopPLogitsWarper(top_p)]

    def pick(logits: Float[Tensor, " V"]) -> int:
        scores = logits[None]
        for warper in warpers:
            scores = warper(None, scores)
        return int(torch.multinomial(scores[0].softmax(-1).cpu(), 1, generator=generator))

    return pick
