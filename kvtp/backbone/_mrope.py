"""M-RoPE: every token has three positions, in time, down and across; text has one and the same on all axes.

Where the text after a video goes on is told in two ways. `original` (arXiv 2409.12191 §2.1; transformers up to 5.0):
behind everything, at the greatest position on any axis + 1. `transformers` (seen in 5.8 to 5.23): as far behind the
video's first token as its grid is wide or high, which in a long video is before its last frames. The next token to be
written follows the greatest position of all by either rule.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

RULES = ("original", "transformers")


def video_positions(
    frames: int, grid: tuple[int, int], seconds_per_grid: float, tokens_per_second: int, device: torch.device
) -> Int64[Tensor, "3 K"]:
    """Of the tokens of a video that begins at 0, frame by frame in raster order: (time, row, column).

    Time is truncated after the product, which is taken in fp32 as the release took it: 0.7 s · 2 is 0 1 2 4 5 7.
    (transformers 5.17, among others, truncates the seconds before it, which stops the clock below 1 s.)
    """
    seconds = torch.arange(frames, device=device) * torch.tensor(seconds_per_grid, dtype=torch.float32, device=device)
    time = (seconds * tokens_per_second).long()
    axes = (time, *(torch.arange(side, device=device) for side in grid))
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")])


def sequence_positions(
    before: int, video: Int64[Tensor, "3 K"], grid: tuple[int, int], after: int, rule: str
) -> tuple[Int64[Tensor, "3 S"], int]:
    """Of so many text tokens, a video that begins at 0, and so many text tokens; and the next position."""
    greatest = int(video.max())
    reach = greatest + 1 if rule == "original" else max(grid)
    first = torch.arange(before, device=video.device).expand(3, -1)
    last = torch.arange(before + reach, before + reach + after, device=video.device).expand(3, -1)
    return torch.cat([first, video + before, last], 1), before + max(greatest + 1, reach + after)
