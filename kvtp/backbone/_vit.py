"""Vision transformers of pre-norm blocks whose queries and values have a bias and whose keys have none (as BEiT's):
UMT-L, which sees a clip at once, and EVA-CLIP's ViT-g, which sees pictures. Attention is always SDPA."""

from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kvtp.backbone._weights import Weights

TABLE = 4  # pictures that UMT's places are made for, in VideoChat2's configuration; other numbers are interpolated


@dataclass(frozen=True)
class VitShape:
    """`blocks`: those that run. `patch`, `side` of a picture [pixels]."""

    width: int
    ffn: int
    heads: int
    blocks: int
    patch: int
    side: int

    @property
    def patches(self) -> int:
        """Of one picture."""
        return (self.side // self.patch) ** 2

    @classmethod
    def of(cls, weights: Weights, before: str, head: int, side: int | None) -> "VitShape":
        """As files have it under the released names, which begin with `before`. They tell nothing of heads: these are
        `head` wide. `side` None = as the table of places has it, a class token first."""
        width, *_, patch = weights.shape(f"{before}patch_embed.proj.weight")
        if side is None:
            side = isqrt(weights.shape(f"{before}pos_embed")[1] - 1) * patch
        return cls(
            width=width,
            ffn=weights.shape(f"{before}blocks.0.mlp.fc1.weight")[0],
            heads=width // head,
            blocks=weights.depth(f"{before}blocks."),
            patch=patch,
            side=side,
        )


class Attention(nn.Module):
    """Of all rows to all rows.

    Biases are added after the product, not within it: THOP, which sees modules alone, sees the product that way.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, rows: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        query, key, value = self.qkv(rows).chunk(3, -1)
        parts = (query + self.q_bias, key, value + self.v_bias)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two matrices around an exact GELU."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)

    def forward(self, rows: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return self.fc2(F.gelu(self.fc1(rows)))


class Block(nn.Module):
    def __init__(self, shape: VitShape, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=eps)
        self.attn = Attention(shape.width, shape.heads)
        self.norm2 = nn.LayerNorm(shape.width, eps=eps)
        self.mlp = Mlp(shape.width, shape.ffn)

    def forward(self, rows: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        rows = rows + self.attn(self.norm1(rows))
        return rows + self.mlp(self.norm2(rows))


class Umt(nn.Module):
    """UMT-L/16 (Li et al. 2023, arXiv 2303.16058) as VideoChat2 has it: patches of all pictures attend to each other,
    no class token, places from a fixed table, no norm at the end."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.shape = shape
        self.patches = nn.Conv3d(3, shape.width, (1, shape.patch, shape.patch), (1, shape.patch, shape.patch))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))

    def forward(self, pixels: Float[Tensor, "pictures 3 side side"]) -> Float[Tensor, "1 rows C"]:
        """Row by row of each picture, picture after picture."""
        rows = self.patches(pixels.transpose(0, 1)[None]).flatten(2).transpose(1, 2)
        rows = rows + positions(len(pixels), self.shape.patches, self.shape.width).to(rows)
        for block in self.blocks:
            rows = block(rows)
        return rows


def positions(pictures: int, patches: int, width: int) -> Float[Tensor, "rows C"]:
    """Places of the patches of so many pictures: a sinusoid over those of four, one after the other, and for any other
    number interpolated in time; one picture alone has a sinusoid of its own."""
    if pictures == 1:
        return sinusoid(patches, width)
    table = sinusoid(TABLE * patches, width)
    if pictures == TABLE:
        return table
    in_time = table.unflatten(0, (TABLE, patches)).permute(1, 2, 0)
    return F.interpolate(in_time, size=pictures, mode="linear").permute(2, 0, 1).flatten(0, 1)


def sinusoid(places: int, width: int) -> Float[Tensor, "P C"]:
    """Sine in even channels, cosine in odd ones (Vaswani et al. 2017)."""
    place, channel = torch.arange(places, dtype=torch.float64), torch.arange(width)
    angle = place[:, None] / 10000 ** (2 * (channel // 2) / width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class Eva(nn.Module):
    """EVA-CLIP's ViT-g/14 as BLIP-2 has it: a class token first, learnt places, no norm at the end.

    `adapter`: what goes along with the last blocks (`kvtp.backbone._bt_adapter`), or None.
    """

    def __init__(self, shape: VitShape, adapter: nn.Module | None) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.patches, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.adapter = adapter

    def forward(self, pixels: Float[Tensor, "T 3 side side"], chunk: int | None = None) -> Float[Tensor, "T P C"]:
        """`chunk` pictures at once (None = all), except where the adapter needs them all."""
        alone = len(self.blocks) - (0 if self.adapter is None else self.adapter.depth)
        rows = torch.cat([self._see(part, alone) for part in pixels.split(chunk or len(pixels))])
        return rows if self.adapter is None else self.adapter(rows, self.blocks[alone:], self.pos_embed)

    def _see(self, pixels: Float[Tensor, "T 3 side side"], blocks: int) -> Float[Tensor, "T P C"]:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        rows = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed
        for block in self.blocks[:blocks]:
            rows = block(rows)
        return rows
