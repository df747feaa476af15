"""A CLIP tower run by hand, so that only the cues asked for are computed, and patches can merge between its parts."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from kvtp.backbone._siglip import bare, received_attention
from kvtp.pruner.base import AbstractTowerPruner

CUES = frozenset(
    {"cls_attention", "cls_attention_heads", "received_attention", "tower_keys", "tower_keys_full", "tower_states"}
)


class ClipTower:
    """`tower`: a CLIPVisionModel of which `layers` layers run. Its class token is dropped at the end."""

    def __init__(self, tower: nn.Module, layers: int) -> None:
        self.tower = bare(tower)
        self.layers = self.tower.encoder.layers[:layers]

    def __call__(
        self, pixels: Float[Tensor, "T 3 side side"], cues: frozenset[str]
    ) -> tuple[Float[Tensor, "T P C"], dict[str, Tensor]]:
        """States of the patches after the last kept layer, and the cues asked for: [T, P], [T, P, ·]; attention by
        heads [T, P, heads]. All of the last kept layer: attention of the class token (`cls_attention`: with queries and
        keys as one head as wide as the tower), and that which each patch receives, mean over all queries (the class
        token among them) and heads; keys before the softmax."""
        hidden = self._begin(pixels)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        states = self.layers[-1](hidden, attention_mask=None)[:, 1:]

        found: dict[str, Tensor] = {"tower_states": states}
        if cues - {"tower_states"}:
            attention, normed = self.layers[-1].self_attn, self.layers[-1].layer_norm1(hidden)
            heads = attention.num_heads
            keys = attention.k_proj(normed)
            found["tower_keys_full"] = keys[:, 1:]
            found["tower_keys"] = keys[:, 1:].unflatten(-1, (heads, -1)).mean(-2)
            if cues & {"cls_attention", "cls_attention_heads"}:
                query = attention.q_proj(normed[:, :1])
                if "cls_attention" in cues:
                    found["cls_attention"] = _class_attention(query, keys, 1)[:, 0]
                if "cls_attention_heads" in cues:
                    found["cls_attention_heads"] = _class_attention(query, keys, heads).transpose(1, 2)
            if "received_attention" in cues:
                found["received_attention"] = received_attention(attention.q_proj(normed), keys, heads)[:, 1:]
        return states, {name: cue for name, cue in found.items() if name in cues}

    def merging(self, pixels: Float[Tensor, "T 3 side side"], policy: AbstractTowerPruner) -> Float[Tensor, "T n C"]:
        """States of what is left of the patches, which merge as `policy`, fitted to this tower, says. Attention is
        torch's SDPA whatever the host's is: it takes a bias per key, which FlashAttention does not."""
        hidden = self._begin(pixels)
        size, merged = torch.ones(hidden.shape[:2], device=hidden.device), False
        for block, layer in enumerate(self.layers):
            attention, normed = layer.self_attn, layer.layer_norm1(hidden)
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            query, keys, values = (
                project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for project in projections
            )
            bias = size.log()[:, None, None].to(query.dtype) if merged and policy.proportional else None
            seen = scaled_dot_product_attention(query, keys, values, attn_mask=bias)
            hidden = hidden + attention.out_proj(seen.transpose(1, 2).flatten(2))
            if block in policy.blocks:
                hidden, size, _ = policy(hidden, keys.mean(1), size, block, protected=1)
                merged = True
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        return hidden[:, 1:]

    def _begin(self, pixels: Float[Tensor, "T 3 side side"]) -> Float[Tensor, "T P C"]:
        """The rows that enter the first layer, the class token first."""
        return self.tower.pre_layrnorm(self.tower.embeddings(pixels.to(self.tower.pre_layrnorm.weight.dtype)))


def _class_attention(query: Float[Tensor, "T 1 C"], keys: Float[Tensor, "T P C"], heads: int) -> Tensor:
    """What the class token attends to in each patch, [T, heads, patches]; itself counts in the softmax."""
    split, wide = query.unflatten(-1, (heads, -1)).transpose(1, 2), keys.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)
    return (split @ wide * split.shape[-1] ** -0.5).float().softmax(-1)[:, :, 0, 1:]
