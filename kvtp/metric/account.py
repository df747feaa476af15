"""What one answer cost, from its sizes alone: nothing here is timed and no weight is needed."""

from dataclasses import dataclass

from kvtp.backbone.base import AbstractBackbone, Size, VisionShape
from kvtp.metric.conventions import fastv
from kvtp.metric.flops import cache_bytes, llm_decode, llm_prefill, llm_unseen, matching, vision, vision_cues
from kvtp.metric.macs import Macs, thop_macs
from kvtp.types import Answer

ACCOUNTING = 3  # raised whenever a cost could be told otherwise than before


@dataclass(frozen=True)
class MethodCost:
    """FLOPs of choosing the tokens: networks that look at the video or read the question (`predictor`: relevance and
    scout), and the matrix products of the selection itself, attention told again for it and caches compressed among
    them."""

    predictor: float = 0.0
    selection: float = 0.0


class Account:
    """Of one backbone.

    `flops` [FLOPs; 1 MAC = 2 FLOPs]:
      `vision` tower and projector · `prefill` the LLM up to the first token · `decode` the tokens after it ·
      `prefill_causal` without the half of attention that a causal kernel skips · `predictor`, `selection` as above ·
      `cues` what the tower computes for the method alone · `thop` what THOP sees of vision and prefill, times 2
      `fastv`, `kvtp` as these papers count (`kvtp.metric.conventions`) · `rows` of the LLM, mean over layers
      `full_…`: the same question with all tokens, nothing merged in the tower
    `memory` [bytes]: `kv_cache` when decoding starts, `full_kv_cache` with all tokens.
    """

    def __init__(self, backbone: AbstractBackbone) -> None:
        self.backbone, self.shape = backbone, backbone.shape
        self._counted: dict[VisionShape, Macs] = {}

    def seeing(self, size: Size) -> tuple[VisionShape, Macs]:
        """The tower's sizes for pictures of this size, and what THOP sees of the model."""
        shape = self.backbone.vision_shape(size)  # many towers make one size of all
        if shape not in self._counted:
            self._counted[shape] = thop_macs(self.backbone, size)
        return shape, self._counted[shape]

    def flops(
        self, answer: Answer, pictures: int, size: Size, method: MethodCost, cues: frozenset[str]
    ) -> dict[str, float]:
        """Of so many pictures of this `size`. `cues`: those that the method asked for."""
        shape, looks = self.shape, self.backbone.looks(pictures)
        seeing, macs = self.seeing(size)
        rows = answer.tower_rows
        whole, seen = vision(seeing, looks), vision(seeing, looks, rows=rows)
        # attention's products are in both, but THOP does not see them
        pairs = 2 * looks * seeing.width * (seeing.pairs - sum(n * n for n in rows[:-1])) if rows else 0
        attention = [sum(kinds) for kinds in zip(*answer.tokens_per_layer.values(), strict=True)]
        full = [answer.full_rows] * shape.layers
        thop = macs.total(looks, attention, answer.mlp_rows) - ((whole - seen) / 2 - pairs)
        full_thop = macs.total(looks, full, full)
        return {
            "vision": seen,
            "full_vision": whole,
            "cues": vision_cues(seeing, looks, cues),
            "predictor": method.predictor,
            "selection": method.selection + matching(rows, seeing.key_width, looks),
            "prefill": llm_prefill(shape, attention, answer.mlp_rows),
            "prefill_causal": llm_prefill(shape, attention, answer.mlp_rows, causal=True),
            "decode": sum(llm_decode(shape, answer.cache_rows, steps) for steps in answer.steps)
            - llm_unseen(shape, answer.unseen),
            "thop": 2 * thop,
            "full_prefill": llm_prefill(shape, full, full),
            "full_prefill_causal": llm_prefill(shape, full, full, causal=True),
            "full_thop": 2 * full_thop,
            "fastv": fastv(shape, attention),
            "full_fastv": fastv(shape, full),
            "kvtp": 2 * (thop - macs.lm_head),
            "full_kvtp": 2 * (full_thop - macs.lm_head),
            "rows": sum(attention) / len(attention),
            "full_rows": answer.full_rows,
        }

    def memory(self, answer: Answer) -> dict[str, float]:
        shape, size = self.shape, self.backbone.value_bytes
        return {
            "kv_cache": cache_bytes(shape, answer.cache_rows, size),
            "full_kv_cache": cache_bytes(shape, [answer.full_rows] * shape.layers, size),
        }
