"""Attention told again, exactly, where SDPA or FlashAttention ran: some rows of the map, or the sums of its columns.

A map of S×S is never held: of rows only those asked for, for sums some rows at a time. Softmax in fp32; `G` kv heads
serve `H` query heads, in order.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

CELLS = 2**20  # of scores at once on a CPU: 4 MiB in fp32, which its cache holds
CELLS_ELSEWHERE = 2**26  # on an accelerator: 256 MiB, a few kernels


def rotate(
    states: Float[Tensor, "heads n d"], cos: Float[Tensor, "n d"], sin: Float[Tensor, "n d"]
) -> Float[Tensor, "heads n d"]:
    """Rotary positions (arXiv 2104.09864), the two halves of a head paired, as Llama and Qwen have them."""
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin


def unrotate(
    states: Float[Tensor, "heads n d"], cos: Float[Tensor, "n d"], sin: Float[Tensor, "n d"]
) -> Float[Tensor, "heads n d"]:
    """What `rotate` made these of. Scaled rotations (YaRN's factor) are undone, too."""
    cos, sin = cos.float(), sin.float()
    return rotate(states.float(), cos, -sin) / (cos.square() + sin.square())


def attention_rows(
    queries: Float[Tensor, "H R d"],
    keys: Float[Tensor, "G S d"],
    row: Int64[Tensor, " R"] | None,
    scale: float,
    columns: slice | Int64[Tensor, " K"],
) -> Float[Tensor, "H R K"]:
    """Some columns of some rows of softmax(scale·QKᵀ), which is taken over all S keys up to each `row`'s own (None =
    over all of them).

    Equal to those rows of an eager map: keys come from the cache, so only R queries are made anew. Scores, softmax and
    what is returned are one tensor of H·R·S cells, few as long as R is a question's.
    """
    heads, rows, width = queries.shape
    grouped = (queries.float() * scale).reshape(len(keys), -1, width)
    found = grouped.new_empty(len(keys), grouped.shape[1], keys.shape[1])
    ahead = None if row is None else torch.arange(keys.shape[1], device=keys.device) > row[:, None]
    for query, key, told in zip(grouped, keys.float(), found, strict=True):  # a kv head at a time
        torch.mm(query, key.T, out=told)
        if ahead is not None:
            told.unflatten(0, (-1, rows)).masked_fill_(ahead, -torch.inf)
        torch.softmax(told, -1, out=told)
    return found.view(heads, rows, -1)[..., columns]


def column_sums(queries: Float[Tensor, "H S d"], keys: Float[Tensor, "G S d"], scale: float) -> Float[Tensor, "H S"]:
    """What each key receives from all rows of the causal map: c_j = Σ_i exp(s_ij − lse_i).

    Rows are taken in chunks, against the keys up to the chunk's last: half of the square. A chunk's softmax is whole,
    so one pass does what two (first lse, then sums) would.
    """
    heads, rows, _ = queries.shape
    shared = len(keys)
    sums = queries.new_zeros(heads, rows, dtype=torch.float32)
    at_once = max(1, _cells(keys) * shared // (heads * rows))
    every = torch.arange(rows, device=keys.device)
    for head, (query, key) in enumerate(zip(queries.unflatten(0, (shared, -1)), keys.float(), strict=True)):
        mine = slice(head * len(query), (head + 1) * len(query))
        for first in range(0, rows, at_once):
            stop = min(first + at_once, rows)
            scores = query[:, first:stop].float() @ key[:stop].T * scale
            scores.masked_fill_(every[:stop] > every[first:stop, None], -torch.inf)
            sums[mine, :stop] += scores.softmax(-1).sum(1)
    return sums


def _cells(keys: Tensor) -> int:
    return CELLS if keys.device.type in ("cpu", "meta") else CELLS_ELSEWHERE
