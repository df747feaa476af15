"""Bright where a token is left."""

import numpy as np
import torch
from toys import toy_tokens

from kvtp.report.kept import DROPPED, GAP, kept_mask, kept_picture
from kvtp.types import Frames


def test_mask_and_picture() -> None:
    """Two frames of 2 × 2 cells, white; rows 0, 3 and 5 are left, 3 twice."""
    tokens = toy_tokens([4, 4], (2, 2))
    mask = kept_mask(tokens, torch.tensor([0, 3, 3, 5]))
    assert mask.tolist() == [[[True, False], [False, True]], [[False, True], [False, False]]]
    pixels = torch.full((2, 10, 20, 3), 255, dtype=torch.uint8)
    frames = Frames(pixels, torch.arange(2).double(), torch.arange(2), 2.0, "toy")
    page = np.asarray(kept_picture(frames, mask))
    side = (page.shape[1] - 2 * GAP) // 2
    half = side // 2
    for place, cells in enumerate(mask.tolist()):
        for row, line in enumerate(cells):
            for column, left in enumerate(line):
                top, start = row * half, place * (side + GAP) + column * half
                block = page[top : top + half, start : start + half]
                assert (block == (255 if left else int(255 * DROPPED))).all()


def test_frames_that_share_tokens_show_the_first() -> None:
    pixels = torch.stack([torch.full((4, 4, 3), 40 * nth, dtype=torch.uint8) for nth in range(4)])
    frames = Frames(pixels, torch.arange(4).double(), torch.arange(4), 4.0, "toy")
    page = np.asarray(kept_picture(frames, torch.ones(2, 1, 1, dtype=torch.bool)))
    assert (page[0, 0, 0], page[0, page.shape[1] // 2 + GAP, 0]) == (0, 80)
