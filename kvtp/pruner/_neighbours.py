"""A token and its nearest neighbours: what PruMerge merges, in the variants of both papers."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from kvtp.tensors import by_frame, present
from kvtp.types import VisualTokens


def likeness(
    states: Float[Tensor, "K C"], chosen: Int64[Tensor, "T n"], tokens: VisualTokens
) -> Float[Tensor, "T n N"]:
    """Cosine (up to a factor per chosen place) with every other token of the frame; −∞ with itself and with padding."""
    padded = by_frame(states.float(), tokens)
    itself = chosen[..., None]
    similarity = torch.bmm(padded.gather(1, itself.expand(-1, -1, padded.shape[2])), padded.mT)
    similarity /= padded.norm(dim=-1).clamp_min(1e-20)[:, None]
    return similarity.masked_fill_(~present(tokens)[:, None], -torch.inf).scatter_(2, itself, -torch.inf)


def enriched(
    features: Float[Tensor, "K D"],
    attention: Float[Tensor, " K"],
    row: Int64[Tensor, " n"],
    first: Int64[Tensor, " n"],
    similarity: Float[Tensor, "n k"],
    place: Int64[Tensor, "n k"],
) -> Float[Tensor, "n D"]:
    """y_i = x_i + Σ a_j·x_j over the neighbours j of each row i, told by their places in its frame, which begins at the
    row `first`; a similarity of −∞ is no neighbour."""
    real = similarity > -torch.inf  # a frame of few tokens has fewer neighbours
    neighbour = torch.where(real, first[:, None] + place, row[:, None])
    weight = torch.where(real, attention[neighbour], 0)
    members = torch.cat([row[:, None], neighbour], dim=1)
    weights = torch.cat([weight.new_ones(len(row), 1), weight], dim=1)
    return embedding_bag(members, features, per_sample_weights=weights, mode="sum")
