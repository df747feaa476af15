"""How alike the tokens are that stand in the same cell of different frames."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kvtp.types import VisualTokens

CACHED = 64  # tokens compared at a time on a CPU, whose cache holds them; an accelerator takes all at once


def cells(tokens: VisualTokens) -> Int64[Tensor, " K"]:
    """The cell of its grid that each token stands in."""
    return tokens.row * tokens.grid[1] + tokens.column


def through_time(
    tokens: VisualTokens, turn: Int64[Tensor, " T"]
) -> tuple[Int64[Tensor, " K"], Float[Tensor, " pairs"]]:
    """The rows cell after cell, in each by the `turn` of their frames (≥ 0, all different), and the cosine of each row
    and the next in this order: K − 1 in fp32, −∞ where a cell ends. Every token is read once."""
    cell = cells(tokens)
    order = (cell * (turn.max() + 1) + turn[tokens.frame]).argsort()
    at_once = CACHED if order.device.type == "cpu" else max(len(order), 1)
    product, length = [], []
    for start in range(0, max(len(order), 1), at_once):
        features = tokens.features.index_select(0, order[start : start + at_once + 1]).float()
        product.append((features[1:] * features[:-1]).sum(1))
        length.append(torch.linalg.vector_norm(features[:at_once], dim=1))
    norm = torch.cat(length)
    cosine = torch.cat(product) / (norm[1:] * norm[:-1]).clamp_min(1e-20)
    return order, cosine.masked_fill(cell[order].diff() != 0, -torch.inf)
