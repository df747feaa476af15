"""The sequence inside the LLM during prefill: text, visual tokens, newlines; and how a cut lays it out again."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import DynamicCache

from kvtp.attention import attention_rows, unrotate
from kvtp.pruner.base import AbstractCachePolicy
from kvtp.types import Prompt, Selection, VisualTokens

LEVELS = {  # kinds of newlines, each after what it closes; `grid_frame` ends the last row of a frame with one of each
    "grid": ("row",),
    "frame": ("frame",),
    "one_token": ("video",),
    "grid_frame": ("row", "frame"),
    "none": (),
}
NEWLINES = tuple(LEVELS)


def newline_keys(tokens: VisualTokens, newline: str) -> Int64[Tensor, "levels K"]:
    """What newlines close, a row for each kind: tokens with one key stand between two newlines."""
    keys = {
        "row": tokens.frame * tokens.grid[0] + tokens.row,
        "frame": tokens.frame,
        "video": torch.zeros_like(tokens.frame),
    }
    return torch.stack([keys[level] for level in LEVELS[newline]]) if LEVELS[newline] else tokens.frame[None][:0]


def newline_follows(keys: Int64[Tensor, "levels K"]) -> Bool[Tensor, "levels K"]:
    """After which tokens a newline stands: after every run of one key, so after every (frame, row) with ≥ 1 token.

    A permuted selection (`variant: official`) breaks rows into runs and pays for each (KVTP's released code does, too).
    """
    last = torch.ones_like(keys[:, :1], dtype=torch.bool)
    return torch.cat([keys[:, 1:] != keys[:, :-1], last], 1)


@dataclass(frozen=True)
class Asking:
    """What the text after the video asks in the attention run last. With its cached keys it tells any of these rows.

    `queries`: makes those of some of its rows, with positions in them or not, on the layer's device; `scale` of the
    products; `rotary`: cos and sin of all rows of the sequence.
    """

    layer: int
    queries: Callable[[slice, bool], Float[Tensor, "H rows d"]]
    scale: float
    rotary: tuple[Float[Tensor, "S d"], Float[Tensor, "S d"]]


@dataclass(frozen=True)
class Prefill:
    """The input sequence after `layer` decoder layers (`half`: and after the next one's attention).

    Sequence = `before` text rows, visual tokens with the host's newlines among them, `after` text rows.
    """

    prompt: Prompt
    hidden: Float[Tensor, "S D"]
    position: Int64[Tensor, " S"] | Int64[Tensor, "3 S"]
    next_position: int  # of the first token to be written, in the layers still to run
    before: int
    after: int
    tokens: VisualTokens  # everything about them but their features, which are rows of `hidden`
    visual_at: Int64[Tensor, " K"]  # their rows
    newline_at: Int64[Tensor, "levels keys"]  # rows of the newlines that close each key, −1 = none; the last is spare
    newline: str
    cache: DynamicCache
    full: int  # rows when nothing was pruned
    question: tuple[int, int] | None = None  # first and one past the last `after` row of the question; None = all
    policy: AbstractCachePolicy | None = None
    asking: Asking | None = None  # None = no attention has run since the last cut
    layer: int = 0
    half: bool = False
    starts: tuple[int, ...] = ()  # next_position of every layer run
    counts: tuple[tuple[int, int, int], ...] = ()  # visual, newline, text rows entering every attention run
    mlp_rows: tuple[int, ...] = ()  # rows entering every MLP run
    cached: tuple[int, ...] = ()  # visual rows in the cache of every layer run

    @classmethod
    def lay_out(
        cls,
        prompt: Prompt,
        before: Float[Tensor, "before D"],
        tokens: VisualTokens,
        after: Float[Tensor, "after D"],
        newline: str,
        newline_features: Float[Tensor, "levels D"],
    ) -> "Prefill":
        """The whole sequence at layer 0, positions 0 … S−1."""
        keys = newline_keys(tokens, newline)
        if len(newline_features) != len(keys):
            raise ValueError(
                f"newline={newline} needs {len(keys)} kinds of newlines, this host has {len(newline_features)}; choose "
                "another backbone.newline"
            )
        slot, newline_slot, length = _interleave(keys, newline)
        middle = torch.cat([newline_features.to(before.dtype), tokens.features.to(before.dtype)])
        content = torch.zeros(length + 1, dtype=torch.int64, device=slot.device)  # rows of `middle`; the last is spare
        content[slot] = torch.arange(len(newline_features), len(middle), device=slot.device)
        level = torch.arange(len(keys), device=slot.device)[:, None]
        content[newline_slot] = level.expand_as(newline_slot)
        hidden = torch.cat([before, middle[content[:length]], after])
        slot, newline_slot = slot + len(before), newline_slot + len(before)
        newline_at = torch.full((len(keys), tokens.frames * tokens.grid[0] + 1), -1, device=slot.device)
        newline_at[level, torch.where(newline_slot < length + len(before), keys, -1)] = newline_slot
        position = torch.arange(len(hidden), device=hidden.device)
        tokens = replace(tokens, features=_no_features(hidden, slot), position=position[slot], history=(len(slot),))
        merged = tokens.frames * (tokens.tower_rows[0] - tokens.tower_rows[-1]) if tokens.tower_rows else 0
        return cls(
            prompt=prompt,
            hidden=hidden,
            position=position,
            next_position=len(hidden),
            before=len(before),
            after=len(after),
            tokens=tokens,
            visual_at=slot,
            newline_at=newline_at,
            newline=newline,
            cache=DynamicCache(),
            full=len(hidden) + merged,
        )

    def __len__(self) -> int:
        return len(self.hidden)

    @property
    def visual(self) -> VisualTokens:
        """The visual tokens alive, with their hidden states as features: those of the sequence where no newline stands
        between them, for a copy costs more than choosing among them does."""
        return replace(
            self.tokens,
            features=self.hidden[self.columns],
            position=self.position[..., self.visual_at],
            layer=self.layer,
            cues=replace(self.tokens.cues, **self._inside()),
        )

    @property
    def columns(self) -> slice | Int64[Tensor, " K"]:
        """Where the visual tokens stand."""
        together = self.newline in ("none", "one_token")
        return slice(self.before, self.before + len(self.visual_at)) if together else self.visual_at

    @property
    def visual_rows(self) -> Bool[Tensor, " S"]:
        """Which rows they are."""
        mask = torch.zeros(len(self), dtype=torch.bool, device=self.hidden.device)
        mask[self.columns] = True
        return mask

    @property
    def question_rows(self) -> int:
        """How many rows count as the question."""
        return len(range(*slice(*self.question or (0, self.after)).indices(self.after)))

    @torch.inference_mode()
    def _inside(self) -> dict[str, Tensor]:
        """The cues of the attention run last, as far as they are asked for. Made here, not in `prefill`: they are the
        method's cost."""
        asking, found = self.asking, {}
        if asking is None or not self.tokens.asked:
            return {}
        keys = self.cache.layers[asking.layer].keys[0]
        columns = self.columns if isinstance(self.columns, slice) else self.columns.to(keys.device)
        row = torch.arange(len(self) - self.after, len(self), device=keys.device)
        question = slice(*self.question or (0, self.after))

        def rows(wanted: slice, seen: Tensor, turned: bool) -> Tensor:
            at = row[wanted] if turned else None
            told = attention_rows(asking.queries(wanted, turned), seen, at, asking.scale, columns)
            return told.to(self.hidden.device)

        if "question_attention" in self.tokens.asked:
            found["question_attention"] = rows(question, keys, True)
        if "last_attention" in self.tokens.asked:
            found["last_attention"] = rows(slice(self.after - 1, self.after), keys, True)[:, 0]
        if "question_attention_plain" in self.tokens.asked:
            found["question_attention_plain"] = rows(question, unrotate(keys, *asking.rotary), False)
        return found

    @property
    def count(self) -> tuple[int, int, int]:
        """Rows now: visual, newline, text."""
        text = self.before + self.after
        return len(self.visual_at), len(self) - len(self.visual_at) - text, text

    def keep(self, selection: Selection, renumber: bool, compress_cache: bool) -> "Prefill":
        """The sequence with the selected tokens and the newlines they still need; one rule before and inside the LLM.

        `renumber`: positions become 0 … S'−1, else (and always with three axes, M-RoPE) every row keeps its own.
        `compress_cache`: the layers whose attention has run forget the dropped rows; this changes the cache in place,
        so the old state must not be used again.
        """
        if selection.everything:
            history = (*self.tokens.history, len(self.visual_at))
            return replace(self, tokens=replace(self.tokens, history=history))
        source = selection.source
        tokens = self.tokens.keep(replace(selection, features=None))
        keys = newline_keys(tokens, self.newline)
        slot, newline_slot, length = _interleave(keys, self.newline)
        middle = torch.empty(length + 1, dtype=torch.int64, device=self.hidden.device)  # the last place is spare
        middle[newline_slot] = self.newline_at.gather(1, keys)
        middle[slot] = self.visual_at[source]
        everything = torch.arange(len(self), device=self.hidden.device)
        rows = torch.cat([everything[: self.before], middle[:length], everything[len(self) - self.after :]])

        visual_at, newline_slot = slot + self.before, newline_slot + self.before
        hidden = self.hidden.index_select(0, rows)
        if selection.features is not None:
            hidden[visual_at] = selection.features.to(hidden.dtype)
        newline_at = torch.full_like(self.newline_at, -1)
        level = torch.arange(len(keys), device=rows.device)[:, None]
        newline_at[level, torch.where(newline_slot < length + self.before, keys, -1)] = newline_slot
        if compress_cache:
            for layer in self.cache.layers[: self.layer + self.half]:
                there = rows.to(layer.keys.device)
                layer.keys, layer.values = (each.index_select(2, there) for each in (layer.keys, layer.values))
        renumber = renumber and self.position.ndim == 1
        return replace(
            self,
            hidden=hidden,
            position=torch.arange(len(rows), device=rows.device) if renumber else self.position[..., rows],
            next_position=len(rows) if renumber else self.next_position,
            tokens=tokens,
            visual_at=visual_at,
            newline_at=newline_at,
            asking=None,
            cached=(len(visual_at),) * len(self.cached) if compress_cache else self.cached,
        )


def _no_features(hidden: Float[Tensor, "S D"], slot: Int64[Tensor, " K"]) -> Float[Tensor, "K 0"]:
    return hidden.new_empty((len(slot), 0))


def _interleave(
    keys: Int64[Tensor, "levels K"], newline: str
) -> tuple[Int64[Tensor, " K"], Int64[Tensor, "levels K"], int]:
    """Slot of every token once newlines stand among them; slots of the newlines after it; how long the whole is.

    A token that no newline follows names the spare slot past the end, so that shapes do not depend on the data and only
    the length of `grid` and `frame` layouts has to be waited for.
    """
    closes, count = newline_follows(keys), keys.shape[1]
    so_far = torch.cumsum(closes, 0)  # newlines after one token, by kind
    newlines = torch.cumsum(closes.sum(0), 0)
    slot = torch.arange(count, device=keys.device) + newlines - closes.sum(0)
    if newline in ("none", "one_token") or not count:
        length = count + (newline == "one_token" and count > 0)
    else:
        length = count + int(newlines[-1])
    return slot, torch.where(closes, slot + so_far, length), length
