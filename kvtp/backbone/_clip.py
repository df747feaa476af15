"""A CLIP tower run by hand, so that only the cues asked for are computed."""

from jaxtyping import Float
from torch import Tensor, nn

from kvtp.backbone._siglip import bare, received_attention

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
        heads [T, P, heads]. All of the last kept layer: attention of the class token, and that which each patch
        receives, mean over all queries (the class token among them) and heads; keys before the softmax."""
        hidden = self.tower.pre_layrnorm(self.tower.embeddings(pixels.to(self.tower.pre_layrnorm.weight.dtype)))
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
                query = attention.q_proj(normed[:, :1]).unflatten(-1, (heads, -1)).transpose(1, 2)
                scores = query @ keys.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1) * query.shape[-1] ** -0.5
                weights = scores.float().softmax(-1)[:, :, 0, 1:]  # [T, heads, P]
                found["cls_attention"] = weights.mean(1)
                found["cls_attention_heads"] = weights.transpose(1, 2)
            if "received_attention" in cues:
                found["received_attention"] = received_attention(attention.q_proj(normed), keys, heads)[:, 1:]
        return states, {name: cue for name, cue in found.items() if name in cues}
