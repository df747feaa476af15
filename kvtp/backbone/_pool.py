"""2-D pooling of patches to tokens; features and cues alike."""

from functools import cache
from math import ceil, isqrt

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

POOLS = ("bilinear", "average")
STRIDE = 2  # mm_spatial_pool_stride of the LLaVA video checkpoints


def pooled_side(patches: int, pool: str) -> int:
    """Rows (= columns) of the token grid made of a square grid of patches: 27 → 14 bilinear, 13 average."""
    side = isqrt(patches)
    return ceil(side / STRIDE) if pool == "bilinear" else side // STRIDE


def pool_patches(values: Float[Tensor, "T P *c"], pool: str) -> Float[Tensor, "T N *c"]:
    """`bilinear`: interpolation to ⌈side/2⌉, no antialias. `average`: stride 2, a last odd row and column dropped."""
    side = isqrt(values.shape[1])
    channels = values.shape[2:]
    grid = values.reshape(len(values), side, side, -1).permute(0, 3, 1, 2)
    if pool == "bilinear":
        target = pooled_side(values.shape[1], pool)
        grid = F.interpolate(grid, size=(target, target), mode="bilinear")
    else:
        grid = F.avg_pool2d(grid, STRIDE)
    return grid.permute(0, 2, 3, 1).reshape(len(values), -1, *channels)


@cache
def taps(patches: int, pool: str) -> tuple[Int64[Tensor, "N taps"], Float[Tensor, "N taps"]]:
    """The patches that each token is made of, and their weights: pooling is linear, so the identity tells."""
    weights = pool_patches(torch.eye(patches)[None], pool)[0]
    most = int((weights != 0).sum(1).max())
    found = weights.topk(most, dim=1)
    return found.indices, found.values
