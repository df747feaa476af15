"""The tower of Qwen2.5-VL run by hand: token frame by token frame, so that only the cues asked for are computed.

A token frame is two pictures. It is cut into patches of 14 × 14 pixels of both, and four of these (2 × 2) become one
token: a cell. Patches attend to those of their window, 4 × 4 cells or what is left of them at the far borders, and in
a few blocks to those of their whole token frame; never to another token frame.
"""

import math
from itertools import product

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision, eager_attention_forward

from kvtp.backbone._siglip import received_attention
from kvtp.backbone.base import Size

WHOLE = frozenset({"received_attention", "probe_attention"})  # of a last block that attends to the whole token frame
KEYS = WHOLE | {"tower_keys", "tower_keys_full"}
CUES = KEYS | {"tower_states", "frame_feature"}

Windows = tuple[tuple[int, int], ...]  # how many of one size, and cells in each
Rotary = tuple[Tensor, Tensor]


def fitted(size: Size, cell: int, least: int, most: int) -> Size:
    """Height and width of a picture once resized: multiples of `cell`, its area within `least` … `most` [pixels].

    The release's rule (`smart_resize`); `round` takes halves to the even side, as there.
    """
    height, width = (round(side / cell) * cell for side in size)
    if height * width > most:
        shrink = math.sqrt(size[0] * size[1] / most)
        height, width = (max(cell, math.floor(side / shrink / cell) * cell) for side in size)
    elif height * width < least:
        stretch = math.sqrt(least / (size[0] * size[1]))
        height, width = (math.ceil(side * stretch / cell) * cell for side in size)
    return height, width


def windows(rows: int, columns: int, side: int) -> tuple[Int64[Tensor, " cells"], Windows]:
    """A grid of cells cut into windows of `side` × `side`, smaller at the far borders: the cells window by window,
    windows of one shape together, and how many there are of each shape."""
    cells = torch.arange(rows * columns).reshape(rows, columns)
    order, kinds = [], []
    for (down, height), (across, width) in product(_bands(rows, side), _bands(columns, side)):
        tiles = cells[down, across].unflatten(0, (-1, height)).unflatten(2, (-1, width)).transpose(1, 2)
        order.append(tiles.flatten())
        kinds.append((tiles.shape[0] * tiles.shape[1], height * width))
    return torch.cat(order), tuple(kinds)


def _bands(length: int, side: int) -> list[tuple[slice, int]]:
    """The whole windows along an axis, and what is left: where, and how long each is."""
    whole = length - length % side
    bands = [(slice(whole), side), (slice(whole, length), length - whole)]
    return [(where, size) for where, size in bands if range(length)[where]]


class Tower:
    """`visual`: a Qwen2_5_VisionTransformerPretrainedModel, whose modules are run.

    All that works row by row takes token frames as a batch. Attention is called once for each shape of window (four at
    most), windows as the batch: no masks, no padding, no loop over windows, and no implementation of attention needs
    variable lengths. (transformers' own forward packs the whole video into one row, and cuts it in a Python loop unless
    the implementation is FlashAttention.)
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual, config = visual, visual.config
        self.pictures, self.patch, self.merge = config.temporal_patch_size, config.patch_size, config.spatial_merge_size
        self.side = config.window_size // (self.patch * self.merge)
        self.whole = frozenset(config.fullatt_block_indexes)

    def __call__(
        self, pixels: Float[Tensor, "pictures 3 height width"], cues: frozenset[str]
    ) -> tuple[Float[Tensor, "T N D"], dict[str, Tensor]]:
        """Tokens, and the cues asked for: [T, N] or [T, N, ·]; both in raster order. A cue of a token is the mean of
        its four patches'; `frame_feature` [T, D] is the mean of the token frame's tokens."""
        rows, columns = (length // (self.patch * self.merge) for length in pixels.shape[2:])
        order, kinds = windows(rows, columns, self.side)
        order, unit = order.to(pixels.device), self.merge**2
        hidden = self._patches(pixels)[:, order].flatten(1, 2)
        cosine, sine = self._rotary(rows, columns, pixels.device)
        rotary = cosine[order].flatten(0, 1), sine[order].flatten(0, 1)
        for number, block in enumerate(self.visual.blocks):
            before = hidden
            split = ((1, len(order)),) if number in self.whole else kinds
            attended = self._attend(block.attn, block.norm1(hidden), rotary, split)
            hidden = hidden + block.attn.proj(attended)
            hidden = hidden + block.mlp(block.norm2(hidden))
        place = order.argsort()
        found = {"tower_states": hidden, **self._last(before, rotary, cues)}
        tokens = self.visual.merger(hidden).unflatten(0, (len(hidden), -1))[:, place]
        made = {name: found[name].unflatten(1, (-1, unit)).mean(2)[:, place] for name in cues & found.keys()}
        if "frame_feature" in cues:
            made["frame_feature"] = tokens.mean(1)
        return tokens, made

    def _patches(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "T cells patches C"]:
        """Patches as the first layer makes them, cells in raster order. Its convolution's strides are as long as its
        kernel: it is a matrix product, for which libraries have better code."""
        kernel, merge, patch = self.visual.patch_embed.proj.weight, self.merge, self.patch
        cut = pixels.to(kernel.dtype).unflatten(0, (-1, self.pictures))
        cut = cut.unflatten(4, (-1, merge, patch)).unflatten(3, (-1, merge, patch))  # T 2 3 rows m p columns m p
        cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).flatten(5).flatten(3, 4).flatten(1, 2)
        return F.linear(cut, kernel.flatten(1))

    def _rotary(
        self, rows: int, columns: int, device: torch.device
    ) -> tuple[Float[Tensor, "cells patches d"], Float[Tensor, "cells patches d"]]:
        """Cosine and sine of each patch's angles: a quarter of a head's channels turn with the row of patches, a
        quarter with the column, and the other half again."""
        frequency, merge = self.visual.rotary_pos_emb.inv_freq.to(device), self.merge
        row = torch.arange(rows * merge, device=device).reshape(rows, 1, merge, 1)
        column = torch.arange(columns * merge, device=device).reshape(1, columns, 1, merge)
        places = torch.stack(torch.broadcast_tensors(row, column), -1)[..., None]
        angle = (places * frequency).reshape(rows * columns, merge**2, -1).repeat(1, 1, 2)
        return angle.cos(), angle.sin()

    def _attend(
        self, attention: nn.Module, normed: Float[Tensor, "T P C"], rotary: Rotary, kinds: Windows
    ) -> Float[Tensor, "T P C"]:
        """What patches hear of those in their window, before the output projection."""
        kernel = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
        queries, keys, values = attention.qkv(normed).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
        turned = (*apply_rotary_pos_emb_vision(queries, keys, *rotary), values)
        begin, heard = 0, []
        for count, cells in kinds:
            rows = slice(begin, begin + count * cells * self.merge**2)
            batch = (each[:, rows].unflatten(1, (count, -1)).flatten(0, 1).transpose(1, 2) for each in turned)
            out, _ = kernel(attention, *batch, attention_mask=None, scaling=attention.scaling, is_causal=False)
            heard.append(out.unflatten(0, (-1, count)).flatten(1, 2))
            begin = rows.stop
        return torch.cat(heard, 1).flatten(2)

    def _last(self, hidden: Float[Tensor, "T P C"], rotary: Rotary, cues: frozenset[str]) -> dict[str, Tensor]:
        """Cues of the last block's attention, from what enters it. Keys are those before the rotary embedding, which
        would make like patches unlike by where they stand; the attention received is the real one, after it, over the
        whole token frame. Queries and keys are made once more for them.

        There is no pooling head and no probe: in their place stands the mean of the token frame's queries, which shares
        out its attention among the cells' mean keys (as in FastVID's released code)."""
        if cues.isdisjoint(KEYS):
            return {}
        block = self.visual.blocks[-1]
        normed, attention = block.norm1(hidden), block.attn
        (query, key, _), (query_bias, key_bias, _) = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
        keys = F.linear(normed, key, key_bias)
        heads = keys.unflatten(-1, (attention.num_heads, -1))
        found = {"tower_keys_full": keys, "tower_keys": heads.mean(-2)}
        if not cues.isdisjoint(WHOLE):
            queries = F.linear(normed, query, query_bias).unflatten(-1, (attention.num_heads, -1))
            queries, turned = apply_rotary_pos_emb_vision(queries, heads, *rotary)
            if "received_attention" in cues:
                found["received_attention"] = received_attention(queries.flatten(2), turned.flatten(2), heads.shape[2])
            if "probe_attention" in cues:
                shares = _probed(queries.mean(1), turned.unflatten(1, (-1, self.merge**2)).mean(2))
                found["probe_attention"] = shares.repeat_interleave(self.merge**2, 1)
        return found


def _probed(probe: Float[Tensor, "T heads d"], keys: Float[Tensor, "T cells heads d"]) -> Float[Tensor, "T cells"]:
    """How one query per head shares out its attention among the cells, mean over heads."""
    logits = (keys.permute(0, 2, 1, 3) @ probe[..., None]).squeeze(-1)
    return (logits.float() * probe.shape[-1] ** -0.5).softmax(-1).mean(1)


class Seeing(nn.Module):
    """The tower for counters that see modules: everything but attention's two products, on the rows of patches."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.embed, self.blocks = visual.patch_embed, visual.blocks

    def forward(self, patches: Tensor) -> Tensor:
        hidden = self.embed(patches)
        for block in self.blocks:
            heard, _, _ = block.attn.qkv(block.norm1(hidden)).chunk(3, -1)
            hidden = hidden + block.attn.proj(heard)
            hidden = hidden + block.mlp(block.norm2(hidden))
        return hidden
