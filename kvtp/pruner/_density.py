"""Density peaks: tokens in the middle of many that are alike, far from any such middle that is denser.

Rodriguez and Laio 2014 with densities of the nearest neighbours (Du et al. 2016), as FastVID, HoliTom and Vista-LLM
choose what stands for the rest. No noise breaks ties here: whoever ranks the scores takes the earlier token first.
"""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor


def squared_distances(points: Float[Tensor, "B N D"]) -> Float[Tensor, "B N N"]:
    """‖x_i − x_j‖²/D in fp32, by one product: around the mean of the N points, so that little cancels. Symmetric to
    the last bit: two points that are nearest to each other are equally dense."""
    centred = points.float()
    centred = centred - centred.mean(1, keepdim=True)
    product = torch.bmm(centred, centred.mT)
    length = product.diagonal(dim1=1, dim2=2)
    return (length[:, :, None] + length[:, None] - (product + product.mT)).clamp_min_(0) / points.shape[2]


def density_peaks(
    squared: Float[Tensor, "B N N"], there: Bool[Tensor, "B N"], neighbours: int, itself: bool, far: str
) -> Float64[Tensor, "B N"]:
    """log(density · distance to the nearest denser point); −∞ where no point is `there`, and for those there that are
    at distance 0 one value, finite and below all others.

    Logarithms of double precision, because densities themselves are all 0 where points are far apart, and all 1 where
    they are close: no point would be denser than another.

    Density: exp(−mean squared distance to the `neighbours` nearest points there, or to as many as there are).
    `itself`: a point, at distance 0, is one of its own neighbours. `far`: the distance of a point that none is denser
    than: row = to the point farthest from it, all = between the two farthest points of its batch entry.
    """
    pairs = there[:, :, None] & there[:, None]
    near = squared.masked_fill(~pairs, torch.inf)
    if not itself:
        near.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = near.topk(min(neighbours, near.shape[2]), dim=2, largest=False).values
    found = nearest < torch.inf
    density = -torch.where(found, nearest, 0).sum(2, dtype=torch.float64) / found.sum(2).clamp_min(1)  # its logarithm

    distance = squared.sqrt()
    denser = (density[:, None] > density[:, :, None]) & pairs
    farthest = distance.masked_fill(~pairs, 0).amax(2)
    if far == "all":
        farthest = farthest.amax(1, keepdim=True).expand_as(farthest)
    apart = torch.where(denser.any(2), distance.masked_fill(~denser, torch.inf).amin(2), farthest)
    lowest = torch.finfo(torch.float64).min  # so low that no density changes it
    return (density + apart.double().log().clamp_min(lowest)).masked_fill(~there, -torch.inf)
