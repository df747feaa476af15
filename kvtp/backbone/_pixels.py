"""Pictures as CLIP towers want them.

Resized as uint8 with antialias, as `transformers`' processors do (from float it would be another picture).
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def squash(pixels: UInt8[Tensor, "T H W 3"], height: int, width: int) -> Float[Tensor, "T 3 height width"]:
    """Resized to height × width, whatever the shape was, and normalised with CLIP's mean and deviation."""
    resized = F.interpolate(pixels.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=True)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (resized.float() / 255 - mean) / deviation


def crop(pixels: UInt8[Tensor, "T H W 3"], side: int) -> Float[Tensor, "T 3 side side"]:
    """The shorter side resized to `side`, the middle of the longer one, normalised likewise."""
    height, width = pixels.shape[1:3]
    shorter = min(height, width)
    resized = squash(pixels, int(side * height / shorter), int(side * width / shorter))
    top, left = (resized.shape[2] - side) // 2, (resized.shape[3] - side) // 2
    return resized[:, :, top : top + side, left : left + side]
