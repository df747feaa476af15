"""What stands between tower and LLM in hosts of the BLIP-2 family: a norm, a Q-Former with its queries, a matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from kvtp.backbone._qformer import QFormer, QFormerShape


class Connector(nn.Module):
    """`queries`: how many, in the parts that the release holds them in. `width` of the LLM. `eps` of the norm."""

    def __init__(self, shape: QFormerShape, queries: Sequence[int], width: int, eps: float) -> None:
        super().__init__()
        self.ln_vision = nn.LayerNorm(shape.seen, eps=eps)
        self.queries = nn.ParameterList(torch.zeros(1, count, shape.width) for count in queries)
        self.qformer = QFormer(shape)
        self.proj = nn.Linear(shape.width, width)

    def forward(
        self, states: Float[Tensor, "B P C"], text: Int64[Tensor, " Q"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Tokens of each picture (or clip) from the tower's states; the same text is read beside all of them."""
        asked = torch.cat(list(self.queries), 1).expand(len(states), -1, -1)
        beside = None if text is None else text.expand(len(states), -1)
        rows, _ = self.qformer(asked, self.ln_vision(states), beside)
        return self.proj(rows[:, : asked.shape[1]])


def connector_macs(shape: QFormerShape, queries: int, text: int, rows: int, width: int) -> int:
    """MACs for one picture of so many rows: all but the norm."""
    return shape.macs(queries, text, rows) + queries * shape.width * width
