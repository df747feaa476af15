"""2-D pooling of patches to tokens; features and cues alike."""

from math import ceil, isqrt

from jaxtyping import Float
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
