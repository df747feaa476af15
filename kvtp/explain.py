"""Where the language model looks in a video while it reads a question, and what a method keeps (LLM-VTP, §4.5, A.2)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from kvtp.backbone.base import AbstractBackbone
from kvtp.benchmark.base import AbstractBenchmark
from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.errors import LoadError, Refused, check_choice, check_whole, nearest
from kvtp.pipeline import Pipeline
from kvtp.pruner.base import AbstractPruner
from kvtp.pruner.llm_vtp import CUE, LLMVTP, POOL, pooled
from kvtp.relevance._labels import labels_at
from kvtp.report.kept import kept_mask
from kvtp.tensors import cue
from kvtp.types import Answer, Frames, Outcome, Question, VisualTokens

log = logging.getLogger(__name__)
SHOWN = 4  # layers, where none are named


@dataclass(frozen=True)
class Look:
    """Of one layer of the unpruned model, counted from 1: where the question's tokens attend to in the video.

    `scores`: pooled over heads, then over the question's tokens: what ranks visual tokens. `attention`: of each frame,
    mean over heads and question's tokens: a share of all that they attend to, so it adds up; what the sum lacks to 1 is
    on text and newlines.
    """

    layer: int
    scores: Float[Tensor, "T rows columns"]
    attention: Float[Tensor, " T"]


@dataclass(frozen=True)
class Reply:
    """What a model said, and how the benchmark read it."""

    text: str
    outcome: Outcome


@dataclass(frozen=True)
class Cached:
    """What a cache policy does: the `share` of the unpruned model's cached rows that is left when writing begins, and
    how much of this is `hidden` from written tokens, both means over layers (None = it hides nothing, or no token was
    run after the prompt)."""

    share: float
    hidden: float | None

    @classmethod
    def of(cls, answer: Answer, hides: bool) -> "Cached":
        layers = len(answer.cache_rows)
        met = sum(steps * rows + steps * (steps - 1) // 2 for steps in answer.steps for rows in answer.cache_rows)
        return cls(sum(answer.cache_rows) / layers / answer.full_rows, answer.unseen / met if hides and met else None)


@dataclass(frozen=True)
class Kept:
    """What is left of the visual tokens in the last layer: `count` in all; `per_frame` and `mask` (cells) without the
    tokens that the method made, which stand nowhere. `mask` None: no token is ever dropped, the method acts on the
    cache alone. `cached` None: it has no cache policy. `parts`: cells by what they are kept for, of methods that say
    so and choose once, before the LLM."""

    reply: Reply
    count: int
    per_frame: Int64[Tensor, " T"]
    mask: Bool[Tensor, "T rows columns"] | None
    cached: Cached | None = None
    parts: Mapping[str, Bool[Tensor, "T rows columns"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Explained:
    """One question. `tokens`: visual ones per frame at layer 0; `labels`: relevance of each frame, None = there are
    none; `depth`: layers in all; `kept` by `method` (None = nothing is pruned), or else why it `refused`. `ranked`:
    layers where the method ranks; `pools`: how the looks' scores are pooled, if it ranks by anything else."""

    question: Question
    frames: Frames
    tokens: Int64[Tensor, " T"]
    timestamps: Float[Tensor, " T"]
    labels: Float[Tensor, " T"] | None
    depth: int
    looks: tuple[Look, ...]
    reply: Reply
    method: str | None = None
    kept: Kept | None = None
    refused: str | None = None
    ranked: tuple[int, ...] = ()
    pools: str | None = None


class Explainer:
    """Questions one after the other. `layers`: counted from 1, None = four from the first to the last, and those where
    the method ranks; `questions`: the first so many of the benchmark, unless `ids` names them. `head_pool`,
    `query_pool`, `attention`: as `kvtp.pruner.llm_vtp` has them."""

    def __init__(
        self,
        layers: list[int] | None,
        questions: int,
        ids: list[str] | None,
        head_pool: str,
        query_pool: str,
        attention: str,
    ) -> None:
        for name, several in (("layers", layers), ("ids", ids)):
            if several is not None and (not isinstance(several, list) or not several):
                raise ValueError(f"explain.{name} must be a list with at least one entry, got {several!r}")
        check_whole("explain.questions", questions, 1)
        check_choice("explain.head_pool", head_pool, tuple(POOL))
        check_choice("explain.query_pool", query_pool, ("mean", "max"))
        check_choice("explain.attention", attention, tuple(CUE))
        self.layers, self.questions = layers, questions
        self.ids = None if ids is None else [str(id) for id in ids]
        self.head_pool, self.query_pool, self.attention = head_pool, query_pool, attention
        self.cue = CUE[attention]

    def __call__(self, cell: Cell) -> Iterator[Explained]:
        """Videos that cannot be read and questions that the backbone refuses are told and left out. CommandError for
        layers and ids that there are not, for methods that act in the vision tower, whose tokens have no place in the
        picture, and if no question is left."""
        line = cell.pipeline
        if line.pruner.tower is not None:
            raise CommandError(
                f"{cell.row.name} merges tokens inside the vision tower, their places in the picture are lost; choose "
                "another method"
            )
        depths, chosen = self.depths(line.backbone, ranking_layers(cell)), self.chosen(line.benchmark)
        try:
            line.backbone.load()
            line.relevance.load(line.backbone)
            line.scout.load(line.backbone)
        except (ValueError, OSError) as error:  # files that are missing, or do not fit
            raise CommandError(str(error)) from error
        left_out: list[str] = []
        for ref, some in groupby(chosen, lambda question: question.ref):
            try:
                frames, tokens = line.watch(ref, line.cues)
            except (LoadError, Refused) as error:
                log.warning("%s: %s", ref.path, error)
                left_out += [f"{ref.path}: {error}" for _ in some]
                continue
            line.look(frames)
            for question in some:
                try:
                    one = self.explain(cell, question, frames, tokens, depths)
                except Refused as error:
                    log.warning("%s: %s", question.id, error)
                    left_out.append(f"{question.id}: {error}")
                    continue
                yield one
        if len(left_out) == len(chosen):
            raise CommandError(f"no question is left; {left_out[-1]}")
        if left_out:
            log.warning("%d questions are left out, for the reasons above", len(left_out))

    def depths(self, backbone: AbstractBackbone, ranked: Sequence[int]) -> list[int]:
        """The layers to be shown, ascending; `ranked`: where the method ranks."""
        deepest = backbone.shape.layers
        if self.layers is None:
            return sorted({*ranked, *(1 + round((deepest - 1) * nth / (SHOWN - 1)) for nth in range(SHOWN))})
        for layer in self.layers:
            if not isinstance(layer, int) or isinstance(layer, bool) or not 1 <= layer <= deepest:
                raise CommandError(
                    f"explain.layers must be in [1, {deepest}], the layers of {backbone.called}, got {layer!r}"
                )
        return sorted(set(self.layers))

    def chosen(self, benchmark: AbstractBenchmark) -> list[Question]:
        every = [benchmark[index] for index in range(len(benchmark))]
        if self.ids is None:
            return every[: self.questions]
        known = {question.id: question for question in every}
        for id in self.ids:
            if id not in known:
                raise CommandError(f"explain.ids: there is no question {id!r}{nearest(id, known)}")
        return [known[id] for id in dict.fromkeys(self.ids)]

    @torch.inference_mode()
    def explain(
        self, cell: Cell, question: Question, frames: Frames, tokens: VisualTokens, depths: Sequence[int]
    ) -> Explained:
        line = cell.pipeline
        looks, answer = self.looks(line, question, frames, tokens, depths)
        labels = labels_at(tokens.timestamps.cpu(), frames.duration, question) if question.relevance else None
        one = Explained(
            question=question,
            frames=frames,
            tokens=tokens.per_frame.cpu(),
            timestamps=tokens.timestamps.cpu(),
            labels=labels,
            depth=line.backbone.shape.layers,
            looks=looks,
            reply=_read(line, question, answer),
        )
        if cell.row.retention_ratio is None:
            return one
        ratio = f" at {cell.row.retention_ratio:g}" if cell.row.retention_ratio else ""  # 0: it has none
        pools = None if self.as_ranked(line.pruner) else self.pools
        one = replace(one, method=cell.row.name + ratio, ranked=ranking_layers(cell), pools=pools)
        try:
            answer, _ = line.answer(question, frames, tokens)
        except Refused as error:
            return replace(one, refused=str(error))
        where, cache = answer.kept[answer.kept >= 0], line.pruner.cache
        kept = Kept(
            reply=_read(line, question, answer),
            count=len(answer.kept),
            per_frame=torch.bincount(tokens.frame[where], minlength=tokens.frames).cpu(),
            mask=kept_mask(tokens, where) if line.pruner.layers or line.pruner.at_input else None,
            cached=None if cache is None else Cached.of(answer, hides=bool(cache.watches)),
            parts=self.parts(line, question, frames, tokens),
        )
        return replace(one, kept=kept)

    def parts(
        self, line: Pipeline, question: Question, frames: Frames, tokens: VisualTokens
    ) -> dict[str, Bool[Tensor, "T rows columns"]]:
        """Cells by what the method keeps them for; none of methods that choose inside the LLM."""
        if line.pruner.layers != (0,) or type(line.pruner).parts is AbstractPruner.parts:
            return {}
        _, seen, budget = line.weigh(question, frames, tokens)
        if budget.retention_ratio == 1:
            return {}
        return {name: kept_mask(seen, rows) for name, rows in line.pruner.parts(seen, budget).items()}

    @property
    def pools(self) -> str:
        return f"head_pool={self.head_pool}, query_pool={self.query_pool}, attention={self.attention}"

    def as_ranked(self, pruner: AbstractPruner) -> bool:
        """Whether the method ranks by the very scores that are shown."""
        mine = (self.head_pool, self.query_pool, self.cue)
        return isinstance(pruner, LLMVTP) and (pruner.head_pool, pruner.query_pool, pruner.cue) == mine

    def looks(
        self, line: Pipeline, question: Question, frames: Frames, tokens: VisualTokens, depths: Sequence[int]
    ) -> tuple[tuple[Look, ...], Answer]:
        """Of the unpruned model, which then answers. No layer's attention is held while the next one runs."""
        prompt = line.benchmark.prompt(question, frames)
        asked = replace(line.backbone.ask(tokens, prompt), asked=frozenset({self.cue}))
        state = line.backbone.embed(asked, prompt)
        found = []
        for depth in depths:
            state = line.backbone.prefill(state, depth)
            found.append(self.look(state.visual))
        return tuple(found), line.backbone.generate(state)

    def look(self, tokens: VisualTokens) -> Look:
        """At the layer run last."""
        attention = cue(tokens, self.cue).float()  # [H, Q, K]
        per_frame = torch.zeros(tokens.frames, device=attention.device)
        per_frame.index_add_(0, tokens.frame, attention.mean((0, 1)))
        scores = torch.zeros(tokens.frames, *tokens.grid, device=attention.device)
        scores[tokens.frame, tokens.row, tokens.column] = pooled(attention, self.head_pool, self.query_pool)
        return Look(tokens.layer, scores.cpu(), per_frame.cpu())


def ranking_layers(cell: Cell) -> tuple[int, ...]:
    """Layers, counted from 1, whose attention the method has before it when it selects; of a method that is called in
    all of them none, for it does not rank in all."""
    pruner = cell.pipeline.pruner
    if pruner.layers == "all" or cell.row.retention_ratio in (None, 1):
        return ()
    return tuple(sorted({layer + (pruner.site == "attention") for layer in pruner.layers} - {0}))


def _read(line: Pipeline, question: Question, answer: Answer) -> Reply:
    return Reply(answer.text, line.benchmark.parse(answer.text, question).outcome)
