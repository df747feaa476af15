"""The engine without its arithmetic, for `kvtp.metric.dry`: layers that do nothing, caches of noise."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import DynamicCache

from kvtp.backbone._decoder import Decoder, Rotary
from kvtp.backbone.base import LLMShape
from kvtp.metric._sizes import Sizes
from kvtp.pruner.base import AbstractCachePolicy


class Attention(nn.Module):
    """Of an attention, what makes queries."""

    def __init__(self, shape: LLMShape, matrix: Float[Tensor, "out D"]) -> None:
        super().__init__()
        self.head_dim, self.scaling = shape.head_dim, shape.head_dim**-0.5
        self.q_proj = nn.Linear(1, 1, bias=False)  # a size that takes no time to fill
        self.q_proj.weight = nn.Parameter(matrix * shape.width**-0.5, requires_grad=False)


class Block(nn.Module):
    """Likewise of a layer."""

    def __init__(self, shape: LLMShape, matrix: Float[Tensor, "out D"]) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.width)
        self.self_attn = Attention(shape, matrix)


class Empty(nn.Module):
    """What the engine asks a model for."""

    config = None

    def __init__(self, layers: Any, head_dim: int) -> None:
        super().__init__()
        self.layers, self.head_dim = layers, head_dim

    def rotary_emb(self, hidden: Tensor, position: Tensor) -> Rotary:
        turn = hidden.new_ones(*hidden.shape[:2], self.head_dim)  # real in size, not in angles
        return turn, turn


class Idle(Decoder):
    """The engine without its arithmetic.

    `layers`: something for each. Caches hold `stored`, as much of it as there are rows, or one number per row. Cache
    policies run on the meta device: sizes and products are theirs, time and contents are not. One whose sizes follow
    from what keys hold cannot be told so, and fails.
    """

    def __init__(self, shape: LLMShape, layers: Any, stored: tuple[Tensor, Tensor] | None) -> None:
        model = Empty(layers, shape.head_dim)
        super().__init__(model, model)
        self.shape, self.stored = shape, stored

    def _attend(self, layer: int, hidden: Tensor, rotary: Rotary, cache: DynamicCache) -> Tensor:
        rows = hidden.new_zeros(1, 1, hidden.shape[1], 1)
        cache.update(rows, rows, layer)
        if self.stored is not None:  # in its place, as an update copies
            held = cache.layers[layer]
            held.keys, held.values = (each[:, :, : hidden.shape[1]] for each in self.stored)
        return hidden

    def _feed(self, layer: int, hidden: Tensor) -> Tensor:
        return hidden

    def _compress(
        self,
        policy: AbstractCachePolicy,
        layer: int,
        hidden: Float[Tensor, "1 S D"],
        rotary: Rotary,
        cache: DynamicCache,
        visual: Bool[Tensor, " S"] | None,
    ) -> None:
        assert visual is not None
        shape, rows, held = self.shape, hidden.shape[1], cache.layers[layer]
        queries, keys = (
            torch.empty(heads, rows, shape.head_dim, device="meta") for heads in (shape.heads, shape.kv_heads)
        )
        with Sizes():
            kept, _ = policy.after_prefill(
                layer, queries if policy.reads_queries else None, keys, torch.empty_like(keys), visual
            )
        held.keys, held.values = (each[:, :, : kept.shape[1]] for each in (held.keys, held.values))
