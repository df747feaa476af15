"""THOP's figures: the multiply-accumulates of `nn.Module`s on the meta device, without weights.

THOP hooks modules. What is a function (attention's two products, rotary embeddings) or a class that it does not know
(RMSNorm) it does not see. Papers report its figures, so they stand here; `kvtp.metric.flops` counts all products.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from kvtp.backbone.base import AbstractBackbone, Part, Size

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports distutils' version numbers
    from thop import profile


@dataclass(frozen=True)
class Macs:
    """Of one model: per look of the tower, per row of each layer's attention and MLP, and of the LM head's one row."""

    frame: float
    attention_row: float
    mlp_row: float
    lm_head: float

    def total(self, frames: int, attention_rows: Sequence[int], mlp_rows: Sequence[int]) -> float:
        """MACs of so many looks and of a prefill with so many rows in each layer."""
        llm = sum(attention_rows) * self.attention_row + sum(mlp_rows) * self.mlp_row
        return frames * self.frame + llm + self.lm_head


def thop_macs(backbone: AbstractBackbone, size: Size) -> Macs:
    """For pictures of this size."""
    parts = backbone.skeleton(size)
    return Macs(
        frame=_count(parts.tower) + _count(parts.connector),
        attention_row=_count(parts.attention),
        mlp_row=_count(parts.mlp),
        lm_head=_count(parts.lm_head),
    )


def _count(part: Part) -> float:
    module, inputs = part
    return profile(module, inputs, verbose=False)[0]
