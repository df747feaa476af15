"""Pictures as towers want them.

Resized as uint8 with antialias, on the CPU, as `transformers`' processors do (from float it would be another picture);
scaled where the tower is: four times fewer bytes go there, and a CPU takes longer for it than for the resizing.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)  # SigLIP's mean and deviation: pixels come to [−1, 1]


def squash(
    pixels: UInt8[Tensor, "T H W 3"],
    height: int,
    width: int,
    device: torch.device,
    mean: tuple[float, float, float] = CLIP_MEAN,
    deviation: tuple[float, float, float] = CLIP_STD,
) -> Float[Tensor, "T 3 height width"]:
    """Resized to height × width, whatever the shape was, and normalised."""
    return _scaled(_resized(pixels, height, width), device, mean, deviation)


def crop(pixels: UInt8[Tensor, "T H W 3"], side: int, device: torch.device) -> Float[Tensor, "T 3 side side"]:
    """The shorter side resized to `side`, the middle of the longer one, normalised as CLIP has it."""
    height, width = pixels.shape[1:3]
    shorter = min(height, width)
    resized = _resized(pixels, int(side * height / shorter), int(side * width / shorter))
    top, left = (resized.shape[2] - side) // 2, (resized.shape[3] - side) // 2
    return _scaled(resized[:, :, top : top + side, left : left + side], device, CLIP_MEAN, CLIP_STD)


def _resized(pixels: UInt8[Tensor, "T H W 3"], height: int, width: int) -> UInt8[Tensor, "T 3 height width"]:
    return F.interpolate(pixels.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=True)


def _scaled(
    pixels: UInt8[Tensor, "T 3 h w"],
    device: torch.device,
    mean: tuple[float, float, float],
    deviation: tuple[float, float, float],
) -> Float[Tensor, "T 3 h w"]:
    shift, unit = (torch.tensor(values, device=device)[:, None, None] for values in (mean, deviation))
    return pixels.to(device).float().div_(255).sub_(shift).div_(unit)
