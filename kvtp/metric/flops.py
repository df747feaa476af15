"""Closed forms of the decoder's cost. 1 MAC = 2 FLOPs. No model is needed, only its shape."""

from collections.abc import Sequence

from kvtp.backbone.base import LLMShape


def llm_prefill(shape: LLMShape, rows: Sequence[int]) -> float:
    """FLOPs of a prefill in which `rows[l]` rows enter layer l, and the LM head on one row.

    Counted: the projections (with grouped keys and values), the gated MLP, attention over the full rows × rows square
    (kernels that skip the causal half still count whole). Not counted: norms, rotary embeddings, softmax.
    """
    inner = shape.heads * shape.head_dim
    linear = 2 * shape.width * (inner + shape.kv_heads * shape.head_dim) + 3 * shape.width * shape.ffn
    macs = sum(n * linear + 2 * n * n * inner for n in rows)
    return 2.0 * (macs + shape.width * shape.vocabulary)
