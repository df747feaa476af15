"""A SigLIP tower run by hand, so that only the cues asked for are computed, in chunks of frames."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kvtp.backbone._pixels import HALF, squash

ATTENTION_CELLS = 2**26  # softmax weights held at once: 256 MiB in fp32


def preprocess(pixels: UInt8[Tensor, "T H W 3"], side: int, device: torch.device) -> Float[Tensor, "T 3 side side"]:
    """Squash to side × side and scale to [−1, 1]: bit for bit what LlavaOnevisionVideoProcessor does."""
    return squash(pixels, side, side, device, HALF, HALF)


def bare(model: nn.Module) -> nn.Module:
    """The modules of a SiglipVisionModel; transformers up to 5.17 nests them one level deeper."""
    return getattr(model, "vision_model", model)


class Tower:
    """`tower`: a SiglipVisionModel of which `layers` layers run.

    `head`: the SiglipVisionModel whose post-norm and pooling head read the states (LLaVA drops its own), or None.
    """

    def __init__(self, tower: nn.Module, layers: int, head: nn.Module | None) -> None:
        self.tower = bare(tower)
        self.head = None if head is None else bare(head)
        self.layers = self.tower.encoder.layers[:layers]

    def __call__(
        self, pixels: Float[Tensor, "T 3 side side"], cues: frozenset[str]
    ) -> tuple[Float[Tensor, "T P C"], dict[str, Tensor]]:
        """Raw states after the last kept layer, and the cues asked for: [T, P] or [T, P, ·]; `frame_feature` [T, C]."""
        hidden = self.tower.embeddings(pixels.to(self.tower.post_layernorm.weight.dtype))
        for layer in self.layers[:-1]:
            hidden = layer(hidden, attention_mask=None)
        states = self.layers[-1](hidden, attention_mask=None)

        found: dict[str, Tensor] = {}
        attention = self.layers[-1].self_attn
        if cues & {"tower_keys", "tower_keys_full", "received_attention"}:
            normed = self.layers[-1].layer_norm1(hidden)
            keys = attention.k_proj(normed)
            found["tower_keys_full"] = keys
            if "tower_keys" in cues:
                found["tower_keys"] = keys.unflatten(-1, (attention.num_heads, -1)).mean(-2)
            if "received_attention" in cues:
                found["received_attention"] = received_attention(attention.q_proj(normed), keys, attention.num_heads)
        if cues & {"tower_states", "probe_attention", "frame_feature"}:
            read = states if self.head is None else self.head.post_layernorm(states)
            found["tower_states"] = read
            if self.head is not None and cues & {"probe_attention", "frame_feature"}:
                pooling = self.head.head
                probe = pooling.probe.expand(len(read), -1, -1)
                pooled, weights = pooling.attention(probe, read, read, need_weights="probe_attention" in cues)
                if weights is not None:
                    found["probe_attention"] = weights[:, 0]
                found["frame_feature"] = (pooled + pooling.mlp(pooling.layernorm(pooled)))[:, 0]
        return states, {name: cue for name, cue in found.items() if name in cues}

    def is_same_as(self, other: nn.Module) -> bool:
        """Whether `other`, a whole SiglipVisionModel, has the same weights in the same precision."""
        other = bare(other)
        if self.head is None or len(self.layers) != len(other.encoder.layers):
            return False
        mine = (self.tower.embeddings, *self.layers, self.head.post_layernorm, self.head.head)
        theirs = (other.embeddings, *other.encoder.layers, other.post_layernorm, other.head)
        return all(map(_equal, mine, theirs))


def _equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    if mine.keys() != theirs.keys():
        return False
    return all(
        weight.dtype == theirs[name].dtype and torch.equal(weight, theirs[name].to(weight.device))
        for name, weight in mine.items()
    )


def received_attention(
    queries: Float[Tensor, "T P C"], keys: Float[Tensor, "T P C"], heads: int
) -> Float[Tensor, "T P"]:
    """Attention each patch receives: mean over queries and heads of the softmaxed map, which is never held whole."""
    frames, patches, width = queries.shape
    chunk = max(1, ATTENTION_CELLS // (heads * patches * patches))
    rows = max(1, ATTENTION_CELLS // (heads * patches))  # of one frame's queries, where even one map is too large
    received = []
    for start in range(0, frames, chunk):
        q = queries[start : start + chunk].unflatten(-1, (heads, -1)).transpose(1, 2)
        k = keys[start : start + chunk].unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)
        total = torch.zeros(len(q), patches, device=q.device)
        for part in q.split(rows, 2):
            total += ((part @ k).float() * (width // heads) ** -0.5).softmax(-1).mean(1).sum(1)
        received.append(total / patches)
    return torch.cat(received)
