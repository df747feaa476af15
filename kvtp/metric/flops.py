"""Closed forms of what models cost. 1 MAC = 2 FLOPs. No model is needed, only its shape.

Counted: matrix products and convolutions. Not counted: norms, activations, rotary embeddings, softmax, pooling, and
looking words up. With `causal=False` attention counts the full rows × rows square, as `torch.utils.flop_counter` does;
kernels that skip what lies ahead do half of it, which `causal=True` counts.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise

from kvtp.backbone.base import LLMShape, VisionShape

POOLED = frozenset({"probe_attention", "frame_feature"})
CLASS = frozenset({"cls_attention", "cls_attention_heads"})
KEYS = frozenset({"tower_keys", "tower_keys_full", "received_attention"}) | CLASS


def llm_prefill(shape: LLMShape, attention_rows: Sequence[int], mlp_rows: Sequence[int], causal: bool = False) -> float:
    """FLOPs of a prefill in which so many rows enter each layer's attention and its MLP, and the LM head on one row."""
    pairs = sum(n * (n + 1) / 2 if causal else n * n for n in attention_rows)
    macs = sum(attention_rows) * _projections(shape) + 2 * pairs * _inner(shape)
    macs += sum(mlp_rows) * 3 * shape.width * shape.ffn
    return 2.0 * (macs + shape.width * shape.vocabulary)


def llm_decode(shape: LLMShape, cache_rows: Sequence[int], steps: int) -> float:
    """FLOPs of `steps` tokens run one after the other on a cache that holds so many rows in each layer at first."""
    linear = shape.layers * (_projections(shape) + 3 * shape.width * shape.ffn) + shape.width * shape.vocabulary
    seen = sum(steps * n + steps * (steps + 1) / 2 for n in cache_rows)
    return 2.0 * (steps * linear + 2 * seen * _inner(shape))


def llm_rows_told(shape: LLMShape, rows: int, cached: int) -> float:
    """FLOPs of telling again so many rows of one layer's attention: their queries, and products with the `cached` keys
    that each of them meets, summed over the rows."""
    return 2.0 * _inner(shape) * (rows * shape.width + cached)


def llm_unseen(shape: LLMShape, rows: int) -> float:
    """FLOPs that `llm_decode` counts of cached rows which a policy hid (summed over tokens and layers)."""
    return 4.0 * rows * _inner(shape)


def encoder(rows: int, width: int, ffn: int, layers: int) -> int:
    """MACs of transformer layers with full attention among so many rows, and an MLP of two matrices."""
    return layers * rows * width * (4 * width + 2 * ffn + 2 * rows)


def vision(shape: VisionShape, frames: int, pooled: bool = False, rows: Sequence[int] = ()) -> float:
    """FLOPs of tower and connector for so many looks; `pooled`: and of the tower's pooling head, where a cue or
    predictor uses it. `rows` per look, of a tower that merges patches between attention and MLP: those that enter each
    layer, then those that are left (`VisualTokens.tower_rows`); none = everything to the end.

    A pooling head makes keys and values of all patches for one probe, then runs an MLP as wide as the layers' (SigLIP).
    """
    seen = rows or [shape.rows] * (shape.layers + 1)
    pairs = sum(count**2 for count in rows[:-1]) if rows else shape.pairs
    macs = shape.patches * shape.patch_values * shape.width
    macs += shape.connector * (seen[-1] - (shape.rows - shape.patches)) // shape.patches
    macs += shape.width * (4 * shape.width * sum(seen[:-1]) + shape.ffn_matrices * shape.ffn * sum(seen[1:]))
    macs += 2 * pairs * shape.width
    if pooled:
        macs += shape.patches * (2 * shape.width**2 + 2 * shape.width) + 2 * shape.width**2
        macs += 2 * shape.width * shape.ffn
    return 2.0 * frames * macs


def matching(rows: Sequence[int], key_width: int, frames: int) -> float:
    """FLOPs of comparing the keys of even with those of odd rows, wherever in the tower patches merge (ToMe).

    `rows`: as in `vision`; `key_width`: of one head."""
    halves = sum((count + 1) // 2 * (count // 2) for count, left in pairwise(rows) if left < count)
    return 2.0 * frames * key_width * halves


def vision_cues(shape: VisionShape, frames: int, cues: Collection[str]) -> float:
    """FLOPs of cues that only pruning wants: a pooling head's pass, queries and keys of the last layer once more, and
    their product where attention is asked for (the others come for nothing, also a `frame_feature` that is a mean, of
    a tower without a pooling head)."""
    probed = shape.probed if "probe_attention" in cues else 0
    spent = 0.0
    if not shape.probed and not POOLED.isdisjoint(cues):
        spent += vision(shape, frames, pooled=True) - vision(shape, frames)
    if probed or not KEYS.isdisjoint(cues):
        spent += 2.0 * frames * shape.rows * shape.width**2
    if not CLASS.isdisjoint(cues):
        spent += 2.0 * frames * shape.width * (shape.width + len(CLASS.intersection(cues)) * shape.rows)
    if probed or "received_attention" in cues:
        spent += 2.0 * frames * shape.rows * shape.width**2
    if "received_attention" in cues:
        spent += 2.0 * frames * shape.width * shape.rows**2
    return spent + 2.0 * frames * shape.width * probed


def cache_bytes(shape: LLMShape, cache_rows: Sequence[int], value_bytes: int) -> int:
    """Keys and values that decoding starts with."""
    return sum(cache_rows) * 2 * shape.kv_heads * shape.head_dim * value_bytes


def _inner(shape: LLMShape) -> int:
    return shape.heads * shape.head_dim


def _projections(shape: LLMShape) -> int:
    """MACs of one row's queries, keys, values and output."""
    return 2 * shape.width * (_inner(shape) + shape.kv_heads * shape.head_dim)
