"""Stretches of a film in which much stands still: HoliTom's temporal segmentation."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def windows(
    still: Bool[Tensor, "T N"], longest: int
) -> tuple[Int64[Tensor, " W"], Int64[Tensor, " W"], Bool[Tensor, "W N"]]:
    """Cuts the film into windows of up to `longest` frames, so that telling what stands still in a window once saves
    the most: Σ (frames − 1)·(cells still throughout). Among equals, from the last frame backwards: a single frame,
    else the shortest window.

    `still`: whether a cell stays as it is until the next frame; nothing is after the last one. All on the CPU.
    Returns each window's first frame, its number of frames, and its cells that are still throughout (none in a single
    frame).
    """
    frames = len(still)
    frame = torch.arange(frames)
    changes = torch.where(still, frames, frame[:, None])
    until = changes.flip(0).cummin(0).values.flip(0)  # the frame up to which the cell stays as it is now
    lasting = torch.zeros(frames, frames, dtype=torch.int64).scatter_add_(1, until, torch.ones_like(until))
    lasting = lasting.flip(1).cumsum(1).flip(1)  # [s, e]: cells that are still from s to e
    saved = (lasting * (frame - frame[:, None])).T.contiguous().numpy()

    best = torch.zeros(frames + 1, dtype=torch.int64).numpy()  # [n]: what can be saved in the first n frames
    begin = []  # of the last window, if the film ended with that frame
    for end in range(frames):
        earliest = max(0, end + 1 - longest)
        ways = (best[earliest : end + 1] + saved[end, earliest : end + 1])[::-1]
        shortest = int(ways.argmax())  # the first of the best
        begin.append(end - shortest)
        best[end + 1] = ways[shortest]

    first, after = [], frames
    while after:
        after = begin[after - 1]
        first.append(after)
    start = torch.tensor(first[::-1], dtype=torch.int64)
    length = torch.diff(start, append=torch.tensor([frames]))
    static = (until[start] >= (start + length - 1)[:, None]) & (length > 1)[:, None]
    return start, length, static
