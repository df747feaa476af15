"""BT-Adapter (Liu et al. 2023, arXiv 2309.15785): a branch beside a picture tower's last blocks that looks across time.

As ST-LLM's released code has it (TencentARC/ST-LLM, commit ea93890, stllm/models/eva_btadapter.py), without the masks
of its training.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvtp.backbone._vit import Attention, Block, VitShape


class InTime(nn.Module):
    """Each patch looks at itself in the other pictures; the class token does not."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=1e-6)
        self.attn = Attention(shape.width, shape.heads)
        self.temporal_fc = nn.Linear(shape.width, shape.width)

    def forward(self, rows: Float[Tensor, "T P C"]) -> Float[Tensor, "T P C"]:
        patches = rows[:, 1:].transpose(0, 1)
        patches = patches + self.temporal_fc(self.attn(self.norm1(patches)))
        return torch.cat([rows[:, :1], patches.transpose(0, 1)], 1)


class InSpace(Block):
    """A block for each picture, in which all pictures have one class token: it takes the mean of what each tells it."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__(shape, eps=1e-5)

    def forward(self, rows: Float[Tensor, "T P C"]) -> Float[Tensor, "T P C"]:
        told = self.attn(self.norm1(rows))
        rows = rows + torch.cat([told[:, :1].mean(0, keepdim=True).expand(len(told), -1, -1), told[:, 1:]], 1)
        return rows + self.mlp(self.norm2(rows))


class BtAdapter(nn.Module):
    """Goes along with the last `depth` blocks of a tower and in the end counts as much as they do.

    The branch has one class token for all pictures; here each picture has the same one (the release computes its MLP
    once, which saves a row per picture). `times`: pictures that it has places for.
    """

    def __init__(self, shape: VitShape, depth: int, times: int) -> None:
        super().__init__()
        self.depth = depth
        self.cls = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.position = nn.Embedding(times, shape.width)
        self.space = nn.ModuleList(InSpace(shape) for _ in range(depth))
        self.time = nn.ModuleList(InTime(shape) for _ in range(depth))

    def forward(
        self, rows: Float[Tensor, "T P C"], blocks: Iterable[nn.Module], places: Float[Tensor, "1 P C"]
    ) -> Float[Tensor, "T P C"]:
        """`rows` as they enter the tower's last blocks; `places` of the tower, which are added once more."""
        branch = None
        for block, space, time in zip(blocks, self.space, self.time, strict=True):
            rows = block(rows)
            seen = torch.cat([rows[:, :1].mean(0, keepdim=True).expand(len(rows), -1, -1), rows[:, 1:]], 1)
            branch = self._begin(seen, places) if branch is None else seen + branch
            branch = space(time(branch))
        return (rows + branch) / 2

    def _begin(self, seen: Float[Tensor, "T P C"], places: Float[Tensor, "1 P C"]) -> Float[Tensor, "T P C"]:
        cls = (seen[:, :1] + self.cls + places[:, :1]) / 2
        times = self.position.weight[: len(seen), None]
        return torch.cat([cls, seen[:, 1:] + places[:, 1:] + times], 1)


def branch_macs(shape: VitShape, pictures: int) -> tuple[int, int]:
    """Of one picture among so many in one step's look across time: MACs of the linear layers, and pairs of attention.
    (What it does in space costs what a block does.)"""
    return 5 * shape.patches * shape.width**2, shape.patches * pictures
