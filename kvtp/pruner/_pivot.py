"""Pivotal merging: each row that goes is merged into the row that stays and whose key is nearest to its own."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from kvtp.errors import check_choice
from kvtp.tensors import starts

MERGES = ("pivot", "average", "weighted", "none")
CELLS = 1 << 24  # similarities held at once (64 MB)


def pivot_merge(
    keys: Float[Tensor, "*batch N d"], kept: Int64[Tensor, "*batch n"], merge: str, *rows: Float[Tensor, "*batch N D"]
) -> tuple[Float[Tensor, "*batch n D"], ...]:
    """The `kept` rows (ascending; equally many in each entry of the batch) of every tensor in `rows`, after the others
    have been merged into them: an evicted row e goes to its pivot, the kept row i whose key has the largest cosine with
    its own (among equals the first); E_i are the rows that went to i.

    merge, after LOOK-M (arXiv 2406.18139) §3.3: pivot = (x_i + Σ (x_e + x_i)/2) / (1 + |E_i|); average = (x_i + Σ x_e)
    / (1 + |E_i|); weighted = (x_i + Σ cos(e, i)·x_e) / (1 + |E_i|); none = x_i, the others are dropped. Keys decide for
    all tensors alike: pass the keys themselves among `rows` to have them merged too.
    """
    check_choice("merge", merge, MERGES)
    *batch, count, _ = keys.shape
    remain = kept.shape[-1]
    kept = kept.reshape(-1, remain)
    first = torch.arange(len(kept), device=kept.device)[:, None]
    source = (first * count + kept).flatten()
    evicted = _others(kept, count)
    if merge == "none" or remain == 0 or evicted.shape[1] == 0:
        return tuple(row.reshape(-1, row.shape[-1])[source].view(*batch, remain, -1) for row in rows)

    similarity, pivot = _nearest(keys.reshape(-1, *keys.shape[-2:]), kept, evicted)
    bag = (first * remain + pivot).flatten()
    order = bag.argsort(stable=True)
    member = (first * count + evicted).flatten()[order]
    size = torch.zeros_like(source).index_add_(0, bag, torch.ones_like(bag))
    own = 1 + size / 2 if merge == "pivot" else torch.ones_like(source, dtype=torch.float32)
    weight = similarity.flatten()[order] if merge == "weighted" else similarity.new_full(bag.shape, 1.0)
    if merge == "pivot":
        weight = weight / 2

    def merged(row: Tensor) -> Tensor:
        table = row.reshape(-1, row.shape[-1])
        dense = table.float()
        gathered = embedding_bag(member, dense, starts(size), per_sample_weights=weight, mode="sum")
        total = gathered.addcmul_(dense[source], own[:, None]).div_(1 + size[:, None])
        return total.to(row.dtype).view(*batch, remain, -1)

    return tuple(merged(row) for row in rows)


def _others(kept: Int64[Tensor, "B n"], count: int) -> Int64[Tensor, "B m"]:
    """The rows that are not kept, ascending (sorted rather than looked for, so as not to wait for the device)."""
    stays = torch.zeros(len(kept), count, dtype=torch.uint8, device=kept.device).scatter_(1, kept, 1)
    return stays.argsort(dim=1, stable=True)[:, : count - kept.shape[1]]


def _nearest(
    keys: Float[Tensor, "B N d"], kept: Int64[Tensor, "B n"], evicted: Int64[Tensor, "B m"]
) -> tuple[Float[Tensor, "B m"], Int64[Tensor, "B m"]]:
    """Cosine with, and place among the kept ones of, the pivot of each evicted row."""
    batch = torch.arange(len(keys), device=keys.device)[:, None]
    pivots = normalize(keys[batch, kept].float(), dim=-1).mT
    at_once = max(1, CELLS // kept.numel())
    best = [
        (normalize(keys[batch, some].float(), dim=-1) @ pivots).max(dim=-1) for some in evicted.split(at_once, dim=1)
    ]
    return torch.cat([part.values for part in best], 1), torch.cat([part.indices for part in best], 1)
