"""Tokens frame by frame: between the flat `K` rows and the padded `T N` places, without loops.

`N` = rows × columns of the grid, the most tokens a frame can hold; frames with fewer are padded at the end.
"""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from kvtp.types import Budget, Selection, VisualTokens


def cue(tokens: VisualTokens, name: str) -> Tensor:
    """A cue that the caller cannot do without, or ValueError."""
    value = getattr(tokens.cues, name)
    if value is None:
        raise ValueError(f"the cue {name} must be given, got None; ask the backbone for it in encode(frames, cues)")
    return value


def everything(tokens: VisualTokens) -> Selection:
    return Selection(torch.arange(len(tokens), device=tokens.frame.device), everything=True)


def most_attended(tokens: VisualTokens, count: int) -> Selection:
    """The `count` tokens that the prompt's last row attended to most in the layer run last, mean over heads; among
    equals the earlier first."""
    scores = cue(tokens, "last_attention").float().mean(0)
    return Selection(scores.argsort(descending=True, stable=True)[:count].sort().values)


def starts(count: Int64[Tensor, " T"]) -> Int64[Tensor, " T"]:
    """The row at which each frame begins."""
    return count.cumsum(0) - count


def slots(count: Int64[Tensor, " T"], total: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Frame and place in it of each of Σ count = `total` rows (given, so as not to wait for the device)."""
    frame = torch.repeat_interleave(count, output_size=total)
    return frame, torch.arange(total, device=count.device) - starts(count)[frame]


def sums(values: Shaped[Tensor, " T"], group: Int64[Tensor, " T"]) -> Shaped[Tensor, " Z"]:
    """The sum of each group; the groups are numbered from 0 without gaps and in order. Waits for the device."""
    return values.new_zeros(int(group[-1]) + 1).index_add_(0, group, values)


def by_frame(values: Shaped[Tensor, "K *rest"], tokens: VisualTokens, fill: float = 0) -> Shaped[Tensor, "T N *rest"]:
    """The rows of each frame side by side. Full frames are a view, the rest is padded with `fill`."""
    rows, columns = tokens.grid
    shape = (tokens.frames, rows * columns, *values.shape[1:])
    if len(values) == tokens.frames * rows * columns:
        return values.reshape(shape)
    padded = values.new_full(shape, fill)
    padded[slots(tokens.per_frame, len(tokens))] = values
    return padded


def present(tokens: VisualTokens) -> Shaped[Tensor, "T N"]:
    """True where `by_frame` holds a token."""
    rows, columns = tokens.grid
    return torch.arange(rows * columns, device=tokens.frame.device) < tokens.per_frame[:, None]


def under(parts: int, cells: int, device: torch.device) -> Int64[Tensor, " parts"]:
    """Of a line cut into equal `parts`: in which of the equal `cells` of the same line the centre of each lies."""
    return (2 * torch.arange(parts, device=device) + 1) * cells // (2 * parts)


def ranking(scores: Float[Tensor, " K"], tokens: VisualTokens) -> Int64[Tensor, "T N"]:
    """The places of each frame, highest score first; among equals the earlier first; padding last."""
    return by_frame(scores, tokens, fill=-torch.inf).argsort(dim=1, descending=True, stable=True)


def top_per_frame(scores: Float[Tensor, " K"], tokens: VisualTokens, budget: Budget) -> Int64[Tensor, " n"]:
    """The rows with the highest scores of each frame, as many as it is granted, ascending; ties: the earlier first."""
    frame, nth = slots(budget.per_frame, budget.total)
    rows = starts(tokens.per_frame)[frame] + ranking(scores, tokens)[frame, nth]
    return rows.sort().values
