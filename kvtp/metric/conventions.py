"""The papers' own ways to count, so that a published figure has a computed neighbour. 1 MAC = 2 FLOPs.

They differ in what they count, and none of them counts the predictor or scout that chooses the tokens.
"""

from collections.abc import Sequence

from kvtp.backbone.base import LLMShape
from kvtp.metric.flops import llm_prefill


def fastv(shape: LLMShape, rows: Sequence[int]) -> float:
    """FLOPs of so many rows in each layer: Σ 2·(4nd² + 2n²d + 2ndm), without grouped keys and values, without the gated
    MLP's third matrix, without tower, projector and LM head. FastV (which leaves out the 2), HoliTom, DyCoke, LLM-VTP.
    """
    width, ffn = shape.width, shape.ffn
    return 2.0 * sum(4 * n * width**2 + 2 * n * n * width + 2 * n * width * ffn for n in rows)


def sparsevlm(shape: LLMShape, rows: Sequence[int]) -> float:
    """As `fastv`, with all three matrices of the MLP."""
    return fastv(shape, rows) + 2.0 * sum(n * shape.width * shape.ffn for n in rows)


def kvtp_ratio(seen: float, llm: float, kept: Sequence[float], full: int) -> float:
    """Share of the unpruned cost in percent: KVTP, tables 2 and 3, THOP's figures without attention and predictor.

    `seen`: MACs of tower and projector for all frames; `llm`: MACs of all layers per row; `kept`: rows entering each
    layer; `full`: rows unpruned.
    """
    mean = sum(kept) / len(kept)
    return 100 * (seen + llm * mean) / (seen + llm * full)


def vista_ratio(kept: float, full: float) -> float:
    """Rows of the LLM's input kept, in percent: Vista-LLM, tables 1, 2 and 8."""
    return 100 * kept / full


def vista_attention_ratio(shape: LLMShape, kept: int, full: int) -> float:
    """Prefill FLOPs kept, in percent, with grouped keys and values and full attention: Vista-LLM, table 3."""
    layers = range(shape.layers)
    return (
        100
        * llm_prefill(shape, [kept for _ in layers], [kept for _ in layers])
        / (llm_prefill(shape, [full for _ in layers], [full for _ in layers]))
    )
