"""Which parts of which frames a method kept, as a strip of small pictures."""

import numpy as np
import torch
from jaxtyping import Bool, Int64
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from kvtp.types import Frames, VisualTokens

ACROSS = 16  # pictures in a row
SIDE = 64  # of a picture [pixels]; rounded up to whole cells
GAP = 2
DROPPED = 0.2  # brightness of what was not kept


def kept_mask(tokens: VisualTokens, kept: Int64[Tensor, " N"]) -> Bool[Tensor, "T rows columns"]:
    """Cells of which a token is left; `kept` are rows of `tokens`, the visual tokens at layer 0; −1 (a token
    that a pruner made) stands nowhere."""
    mask = torch.zeros(tokens.frames, *tokens.grid, dtype=torch.bool)
    rows = kept[kept >= 0].cpu()
    mask[tokens.frame.cpu()[rows], tokens.row.cpu()[rows], tokens.column.cpu()[rows]] = True
    return mask


def kept_picture(frames: Frames, mask: Bool[Tensor, "T rows columns"]) -> Image.Image:
    """The frames in order of time; dark: dropped. Where several frames share tokens, the first of them is shown."""
    count, rows, columns = mask.shape
    height, width = -(-SIDE // rows) * rows, -(-SIDE // columns) * columns
    first = torch.arange(count) * len(frames.pixels) // count
    pixels = frames.pixels[first].permute(0, 3, 1, 2)
    small = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    light = mask.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2)[..., None]
    shown = torch.where(light, small, (small * DROPPED).to(torch.uint8)).numpy()
    down = -(-count // ACROSS)
    page = np.full((down * (height + GAP), min(count, ACROSS) * (width + GAP), 3), 255, np.uint8)
    for place, picture in enumerate(shown):
        top, left = place // ACROSS * (height + GAP), place % ACROSS * (width + GAP)
        page[top : top + height, left : left + width] = picture
    return Image.fromarray(page)
