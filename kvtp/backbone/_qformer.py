"""The Q-Former (Li et al. 2023, arXiv 2301.12597): a BERT whose queries look at a picture in every second layer.

With text it is InstructBLIP's (Dai et al. 2023, arXiv 2305.06500): queries and words attend to each other. Attention is
SDPA; only where its weights are asked for is it computed by hand.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from kvtp.backbone._weights import Weights

EVERY = 2  # layers to one that looks at the picture; the first one does
EPS = 1e-12
Maps = dict[int, Float[Tensor, "B heads N P"]]


@dataclass(frozen=True)
class QFormerShape:
    """`seen`: width of what it looks at. `words` of its vocabulary and `positions` of its text; 0 = it reads no text
    and has nothing to do so with."""

    width: int
    ffn: int
    heads: int
    layers: int
    seen: int
    words: int = 0
    positions: int = 0

    @classmethod
    def of(cls, weights: Weights, before: str, head: int) -> "QFormerShape":
        """Of one that reads, as files have it under LAVIS' names, which begin with `before`. They tell nothing of
        heads: these are `head` wide."""
        first = f"{before}encoder.layer.0."
        words, width = weights.shape(f"{before}embeddings.word_embeddings.weight")
        return cls(
            width=width,
            ffn=weights.shape(f"{first}intermediate_query.dense.weight")[0],
            heads=width // head,
            layers=weights.depth(f"{before}encoder.layer."),
            seen=weights.shape(f"{first}crossattention.self.key.weight")[1],
            words=words,
            positions=weights.shape(f"{before}embeddings.position_embeddings.weight")[0],
        )

    def macs(self, queries: int, text: int, rows: int) -> int:
        """MACs of so many queries and words that look at `rows` of a picture."""
        both, looking = queries + text, len(range(0, self.layers, EVERY))
        alone = both * self.width * (4 * self.width + 2 * both + 2 * self.ffn)
        cross = 2 * queries * self.width**2 + 2 * rows * self.seen * self.width + 2 * queries * rows * self.width
        return self.layers * alone + looking * cross


def lavis_names(before: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Renames of `Layout`. `before`: pattern of what LAVIS' names begin with; `ours`: what stands instead."""
    layer, into = rf"^{before}encoder\.layer\.(\d+)\.", rf"{ours}layers.\1."
    attention = rf"{layer}((?:cross)?attention)\."
    return (
        (rf"^{before}embeddings\.(word|position)_embeddings\.", rf"{ours}\1s."),
        (rf"^{before}embeddings\.LayerNorm\.", f"{ours}norm."),
        (rf"{attention}self\.", rf"{into}\2."),
        (rf"{attention}output\.dense\.", rf"{into}\2.out."),
        (rf"{attention}output\.LayerNorm\.", rf"{into}\2.norm."),
        (rf"{layer}intermediate(_query)?\.dense\.", rf"{into}mlp\2.up."),
        (rf"{layer}output(_query)?\.dense\.", rf"{into}mlp\2.down."),
        (rf"{layer}output(_query)?\.LayerNorm\.", rf"{into}mlp\2.norm."),
    )


class Attention(nn.Module):
    """To rows of width `seen`; residual, then norm."""

    def __init__(self, width: int, heads: int, seen: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(seen, width)
        self.value = nn.Linear(seen, width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(
        self, rows: Float[Tensor, "B N C"], seen: Float[Tensor, "B P S"], mapped: bool = False
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B heads N P"] | None]:
        """Rows, and the weights of attention where they are `mapped`."""
        made = (self.query(rows), self.key(seen), self.value(seen))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in made)
        weights = None
        if mapped:
            weights = (query @ key.mT * query.shape[-1] ** -0.5).float().softmax(-1)
            told = weights.to(value.dtype) @ value
        else:
            told = F.scaled_dot_product_attention(query, key, value)
        return self.norm(rows + self.out(told.transpose(1, 2).flatten(2))), weights


class Mlp(nn.Module):
    """Residual, then norm."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, rows: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return self.norm(rows + self.down(F.gelu(self.up(rows))))


class Layer(nn.Module):
    """Queries and words attend to each other, queries look at the picture; each kind has its own MLP."""

    def __init__(self, shape: QFormerShape, looks: bool) -> None:
        super().__init__()
        self.attention = Attention(shape.width, shape.heads, shape.width)
        self.crossattention = Attention(shape.width, shape.heads, shape.seen) if looks else None
        self.mlp_query = Mlp(shape.width, shape.ffn)
        self.mlp = Mlp(shape.width, shape.ffn) if shape.words else None

    def forward(
        self, rows: Float[Tensor, "B R C"], queries: int, seen: Float[Tensor, "B P S"], mapped: bool
    ) -> tuple[Float[Tensor, "B R C"], Float[Tensor, "B heads N P"] | None]:
        rows, _ = self.attention(rows, rows)
        asking, text, weights = rows[:, :queries], rows[:, queries:], None
        if self.crossattention is not None:
            asking, weights = self.crossattention(asking, seen, mapped)
        asking = self.mlp_query(asking)
        if self.mlp is None or not text.shape[1]:
            return asking, weights
        return torch.cat([asking, self.mlp(text)], 1), weights


class QFormer(nn.Module):
    """Post-norm; queries have no places, words have theirs from 0 on."""

    def __init__(self, shape: QFormerShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.words, shape.width) if shape.words else None
        self.positions = nn.Embedding(shape.positions, shape.width) if shape.words else None
        self.norm = nn.LayerNorm(shape.width, eps=EPS)
        self.layers = nn.ModuleList(Layer(shape, looks=number % EVERY == 0) for number in range(shape.layers))

    def forward(
        self,
        queries: Float[Tensor, "B N C"],
        seen: Float[Tensor, "B P S"],
        text: Int64[Tensor, "B Q"] | None = None,
        maps: Collection[int] = (),
    ) -> tuple[Float[Tensor, "B R C"], Maps]:
        """States of the queries, then of the words; and of the layers in `maps` how much each query attends to each row
        of the picture. ValueError for text that it cannot read, and for layers that do not look."""
        if unseeing := [layer for layer in maps if layer % EVERY or layer >= len(self.layers)]:
            looking = ", ".join(map(str, range(0, len(self.layers), EVERY)))
            raise ValueError(f"maps must be among the layers that look at the picture ({looking}), got {unseeing}")
        rows, count = queries, queries.shape[1]
        if text is not None:
            if self.words is None or self.positions is None:
                raise ValueError("this Q-Former reads no text; give text=None")
            rows = torch.cat([rows, self.words(text) + self.positions.weight[: text.shape[1]]], 1)
        rows, found = self.norm(rows), {}
        for number, layer in enumerate(self.layers):
            rows, weights = layer(rows, count, seen, number in maps)
            if weights is not None:
                found[number] = weights
        return rows, found
