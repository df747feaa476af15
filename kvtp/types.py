"""What flows along the line: frozen dataclasses, nothing else.

Axis letters, here and everywhere: `T` token frames (a temporal pair counts as one) · `K` visual tokens alive · `D` LLM
width · `C` vision-tower width · `S` sequence · `L` LLM layers · `Q` question tokens · `H` query heads · `G` kv heads.
There is no batch axis: one question at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from kvtp.errors import check_ratio

Outcome = Literal[
    "correct",
    "wrong",
    "scored",
    "unlabelled",
    "unparsed",
    "empty",
    "load_error",
    "model_error",
    "judge_error",
    "refused",
]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
UNANSWERED = frozenset({"load_error", "model_error"})  # asked again by the next run
ERRORS = UNANSWERED | {"judge_error"}  # counted by a run's threshold; what has a reply is only judged again


@dataclass(frozen=True)
class VideoRef:
    """A video file, or the part of it between `start` and `end` [s]; None = from the first, to the last frame.

    `fps`: pictures per second where `path` is a folder of pictures; None = a film file, which tells its own times.
    """

    path: str
    start: float | None = None
    end: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Question:
    """One question about one video."""

    id: str
    video: str | VideoRef
    text: str
    options: tuple[str, ...] | None = None  # without letters
    answer: str | None = None  # a letter where there are options; None = no label
    groups: Mapping[str, str] = field(default_factory=dict)  # kind, duration, task … -> value
    cluster: str = ""  # video id: the unit of the bootstrap
    debiased: str | None = None  # the question as the relevance predictor sees it (KVTP, appendix A)
    relevance: tuple[float, ...] | None = None  # label per clip, clips of equal length over the video

    @property
    def ref(self) -> VideoRef:
        return self.video if isinstance(self.video, VideoRef) else VideoRef(str(self.video))


@dataclass(frozen=True)
class Prompt:
    """What the model is asked. `question_span` are the characters of `text` that hold the bare question.

    `system` takes the place of the backbone's own system message, "" leaves it away; `opening` is how the reply begins,
    written for the model; `tokens`: the longest reply. None, and for the opening "" = as the backbone has it.
    """

    text: str
    bare: str
    question_span: tuple[int, int]
    preset: str
    choices: tuple[str, ...] = ()  # replies whose likelihoods are compared when the backbone scores instead of writing
    system: str | None = None
    opening: str = ""
    tokens: int | None = None


@dataclass(frozen=True)
class Frames:
    """The sampled pictures. `duration` [s] is the whole file's; `timestamps` [s] count from its first frame."""

    pixels: UInt8[Tensor, "T H W 3"]
    timestamps: Float[Tensor, " T"]
    indices: Int64[Tensor, " T"]
    duration: float
    reader: str

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.pixels.shape[1], self.pixels.shape[2]


def _per_token(axis: int) -> Any:
    """A cue with one entry per visual token along `axis`: it follows the tokens through every cut."""
    return field(default=None, metadata={"axis": axis})


@dataclass(frozen=True)
class Cues:
    """What a method may ask of the backbone besides the features. None = not asked for (or not there yet)."""

    # of the video
    # of the pooling head's probe, mean over heads; without a head, of the token frame's mean query
    probe_attention: Float[Tensor, " K"] | None = _per_token(-1)
    received_attention: Float[Tensor, " K"] | None = _per_token(-1)  # mean received, last kept tower layer
    cls_attention: Float[Tensor, " K"] | None = _per_token(-1)
    cls_attention_heads: Float[Tensor, "heads K"] | None = _per_token(-1)
    tower_keys: Float[Tensor, "K head_dim"] | None = _per_token(0)  # last kept layer, mean over heads
    tower_keys_full: Float[Tensor, "K C"] | None = _per_token(0)  # the same, heads side by side
    tower_states: Float[Tensor, "K C"] | None = _per_token(0)  # what the tower's pooling head attends to
    frame_feature: Float[Tensor, "T features"] | None = None  # the pooling head's output; without one, the mean token
    # of the question
    question_feature: Float[Tensor, " D"] | None = None  # mean LLM word embedding of the bare question
    text_features: Float[Tensor, "words D"] | None = None  # LLM word embeddings of the bare question
    scout: Float[Tensor, " K"] | None = _per_token(-1)
    scout_patches: Float[Tensor, "T P"] | None = None  # the same on the scout's own square grid, as it came
    # inside the LLM, of the last layer run: rows are softmaxed over the whole sequence
    question_attention: Float[Tensor, "H Q K"] | None = _per_token(-1)
    question_attention_plain: Float[Tensor, "H Q K"] | None = _per_token(-1)  # no RoPE, no mask
    last_attention: Float[Tensor, "H K"] | None = _per_token(-1)  # of the last row

    def take(self, row: Int64[Tensor, " N"]) -> "Cues":
        """The cues of the given token rows."""
        taken = {}
        for cue in fields(self):
            value = getattr(self, cue.name)
            if value is not None and "axis" in cue.metadata:
                taken[cue.name] = value.index_select(cue.metadata["axis"], row)
        return replace(self, **taken)


CUES = frozenset(cue.name for cue in fields(Cues))
INSIDE = frozenset({"question_attention", "question_attention_plain", "last_attention"})  # told by LLM layers


@dataclass(frozen=True)
class VisualTokens:
    """The visual tokens alive, flat and in sequence order; newlines are the host's and not among them."""

    features: Float[Tensor, "K D"]  # at `layer`: LLM input (0) or hidden states
    frame: Int64[Tensor, " K"]
    row: Int64[Tensor, " K"]
    column: Int64[Tensor, " K"]
    frames: int  # T
    grid: tuple[int, int]  # (rows, columns); (1, N) for towers without a grid
    timestamps: Float[Tensor, " T"]  # [s]
    position: Int64[Tensor, " K"] | Int64[Tensor, "3 K"]  # position ids in the LLM
    original: Int64[Tensor, " K"]  # row at layer 0; −1 = made by a pruner
    layer: int = 0  # LLM layers already run
    depth: int = 0  # LLM layers in all
    history: tuple[int, ...] = ()  # tokens at layer 0, then tokens left by each earlier call of the pruner
    cues: Cues = field(default_factory=Cues)
    asked: frozenset[str] = frozenset()  # those of INSIDE that are wanted at every cut
    tower_rows: tuple[int, ...] = ()  # where a pruner acts in the tower: per look, entering each block, then left
    duration: float = 0.0  # [s] of the whole film
    # the tower's states, for hosts whose connector reads the question: `features` have width 0 until it is asked
    states: Float[Tensor, "pictures P C"] | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def per_frame(self) -> Int64[Tensor, " T"]:
        """Tokens alive in each frame."""  # waits for the device: once
        return torch.bincount(self.frame, minlength=self.frames)

    def keep(self, selection: "Selection") -> "VisualTokens":
        """The tokens after a cut. A row without a source (index −1) stands where the row before it stood."""
        source = selection.source
        features = self.features[source] if selection.features is None else selection.features
        return replace(
            self,
            features=features.to(self.features.dtype),
            frame=self.frame[source],
            row=self.row[source],
            column=self.column[source],
            position=self.position[..., source],
            original=torch.where(selection.index < 0, -1, self.original[source]),
            history=(*self.history, len(source)),
            cues=self.cues.take(source),
        )


@dataclass(frozen=True)
class Budget:
    """How many tokens each frame may keep. `rate` is the keep rate per frame before rounding, if the budget has one."""

    per_frame: Int64[Tensor, " T"]
    retention_ratio: float
    rate: Float[Tensor, " T"] | None = None

    def __post_init__(self) -> None:
        check_ratio(self.retention_ratio)

    @cached_property
    def total(self) -> int:
        return int(self.per_frame.sum())  # waits for the device: once


@dataclass(frozen=True)
class Selection:
    """Which rows stay: strictly ascending rows of the tokens given; −1 = a row without a source.

    `features` None = the rows unchanged, else what stands in them now (merged tokens). `everything`: said by a pruner
    that keeps all rows as they are, so that nothing is copied. Only a pruner's `variant: official` (Vista's `mapping:
    official`) may repeat or permute rows.
    """

    index: Int64[Tensor, " N"]
    features: Float[Tensor, "N D"] | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        if self.features is not None and len(self.features) != len(self.index):
            raise ValueError(
                f"features must have one row per index: {len(self.features)} rows, {len(self.index)} indices"
            )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def source(self) -> Int64[Tensor, " N"]:
        """`index` with every −1 replaced by the real row before it (row 0 if there is none)."""
        place = torch.arange(len(self.index), device=self.index.device)
        last = torch.cummax(torch.where(self.index < 0, 0, place), 0).values
        return self.index[last].clamp_min(0)


@dataclass(frozen=True)
class Answer:
    """What the backbone replied, and the sizes that its cost follows from.

    `likelihoods` [nats] per choice when it scored the choices instead of writing.
    """

    text: str
    tokens_per_layer: Mapping[str, tuple[int, ...]]  # visual, newline, text: rows entering each LLM layer at prefill
    mlp_rows: tuple[int, ...]  # rows entering each layer's MLP: fewer where a pruner acts between it and the attention
    full_rows: int  # of the whole sequence, before anything was pruned
    cache_rows: tuple[int, ...]  # in each layer's KV cache when decoding starts
    steps: tuple[int, ...]  # tokens run through the LLM after the prefill; one entry per continuation of the cache
    kept: Int64[Tensor, " K"] = field(compare=False)  # visual tokens in the last layer: rows at layer 0, −1 = made
    likelihoods: Mapping[str, float] | None = None
    cache_visual: tuple[int, ...] = ()  # of `cache_rows`; where a policy acted, all but text and newlines
    unseen: int = 0  # cached rows that a policy hid from written tokens, summed over tokens and layers
    watched: tuple[int, int] = (0, 0)  # attention rows told again for a policy while writing, and the keys they met
    told: Mapping[str, float] = field(default_factory=dict)  # what the cache policy says of this question
    tower_rows: tuple[int, ...] = ()  # of `VisualTokens`


@dataclass(frozen=True)
class Verdict:
    """How a benchmark read a reply. `score` in [0, 1] enters the mean; None = not scored, and `message` may say why."""

    outcome: Outcome
    score: float | None
    choice: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Prediction:
    """One line of predictions.jsonl."""

    question_id: str
    method: str
    outcome: Outcome
    score: float | None
    text: str  # the raw reply; of a failure, its message
    choice: str | None
    answer: str | None
    groups: Mapping[str, str]
    cluster: str
    tokens_per_layer: Mapping[str, tuple[int, ...]] | None
    timings_ms: Mapping[str, float]
    flops: Mapping[str, float] | None = None  # as told in kvtp.metric.account
    memory: Mapping[str, float] | None = None  # likewise [bytes]
    cache_rows: tuple[int, ...] | None = None  # in each layer's KV cache when decoding starts
    cache_visual: tuple[int, ...] | None = None  # visual tokens among them
    told: Mapping[str, float] | None = None  # what the method's cache policy says of the question
    reader: str | None = None  # that decoded the video
    likelihoods: Mapping[str, float] | None = None
    judged: Mapping[str, float] | None = None  # what a judge said of the reply, by aspect, on its own scale
    judged_by: str | None = None  # the model's name as the judge's server gave it; several aspects by several: joined
    message: str | None = None  # why there is no verdict on a reply that there is
    seconds: float | None = None  # of the whole film
    steps: tuple[int, ...] | None = None  # as in `Answer`: a written reply has one token more
