"""Closed forms of the decoder's cost. 1 MAC = 2 FLOPs. No model is needed, only its shape."""

from collections.abc import Sequence

from kvtp.backbone.base import LLMShape


def llm_prefill(shape: LLMShape, attention_rows: Sequence[int], mlp_rows: Sequence[int]) -> float:
    """FLOPs of a prefill in which so many rows enter each layer's attention and its MLP, and the LM head on one row.

    Counted: the projections (with grouped keys and values), the gated MLP, attention over the full rows × rows square
    (kernels that skip the causal half still count whole). Not counted: norms, rotary embeddings, softmax.
    """
    inner = shape.heads * shape.head_dim
    projections = 2 * shape.width * (inner + shape.kv_heads * shape.head_dim)
    macs = sum(n * projections + 2 * n * n * inner for n in attention_rows)
    macs += sum(mlp_rows) * 3 * shape.width * shape.ffn
    return 2.0 * (macs + shape.width * shape.vocabulary)
