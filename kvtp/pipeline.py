"""The line, top to bottom: video ─▶ frames ─▶ tokens ─▶ relevance ─▶ budget ─▶ selection ─▶ LLM ─▶ answer."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from kvtp.backbone._state import Prefill
from kvtp.backbone.base import AbstractBackbone, Site
from kvtp.benchmark.base import AbstractBenchmark
from kvtp.budget.base import AbstractBudget
from kvtp.errors import Refused
from kvtp.frames.base import AbstractFrames
from kvtp.metric.account import MethodCost
from kvtp.metric.counted import Counted
from kvtp.metric.flops import llm_rows_told
from kvtp.metric.latency import Stopwatch
from kvtp.pruner.base import AbstractPruner, AbstractTowerPruner
from kvtp.relevance.base import AbstractRelevance
from kvtp.scout.base import AbstractScout
from kvtp.types import INSIDE, Answer, Budget, Frames, Prompt, Question, Selection, VideoRef, VisualTokens

log = logging.getLogger(__name__)
HEAD = frozenset({"probe_attention", "frame_feature"})  # cues that a tower's pooling head gives, if it is a SigLIP
SCOUTED = frozenset({"scout", "scout_patches"})


@dataclass
class Pipeline:
    """One method on one backbone over one benchmark."""

    benchmark: AbstractBenchmark
    frames: AbstractFrames
    backbone: AbstractBackbone
    scout: AbstractScout
    relevance: AbstractRelevance
    budget: AbstractBudget
    pruner: AbstractPruner
    clock: Stopwatch = field(default_factory=Stopwatch)
    # FLOPs of a selection by place and visual tokens alive, counted once: budgets of one total cost about the same
    selecting: dict[tuple[int, Site, int], float] = field(default_factory=dict)
    # FLOPs of a cache policy per layer, by rows and visual tokens among them, likewise
    compressing: dict[tuple[int, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scout.meet(self.backbone)
        if (unread := self.scout.supplies) and not unread & self.cues:
            log.warning(
                "%s scores tokens for nobody: %s does not ask for the cues %s; scout=none saves the time",
                type(self.scout).__name__,
                type(self.pruner).__name__,
                ", ".join(sorted(unread)),
            )
        self._check_layers()
        if self.pruner.tower is not None:
            self._check_tower()
        given = self.backbone.supplies | self.scout.supplies  # and of every decoder, INSIDE
        for stage in (self.scout, self.relevance, self.budget, self.pruner):
            if missing := stage.cues - given - INSIDE:
                raise ValueError(
                    f"{type(stage).__name__} needs the cues {', '.join(sorted(missing))}, but "
                    f"{self.backbone.called} as configured gives {', '.join(sorted(given))}; "
                    "choose another method or backbone"
                    + (", or name a pooling head in backbone.head" if missing & HEAD else "")
                    + (", or scout=qformer (for Vista-LLM pruner.saliency=intrinsic, too)" if missing & SCOUTED else "")
                )

    def _check_layers(self) -> None:
        """ValueError for a method that acts deeper than the model is."""
        depth, called = self.depth, self.backbone.called
        name, layers = type(self.pruner).__name__, () if self.pruner.layers == "all" else self.pruner.layers
        last = depth if self.pruner.compress_cache else depth - 1  # after the last layer only caches are left to cut
        if max(layers, default=0) > last:
            raise ValueError(
                f"{name} acts after {max(layers)} layers, {called} has {depth}; set pruner.layer <= {last}"
                + (f" ({depth} shortens caches alone)" if last == depth else "")
            )
        if self.pruner.cache is not None and (self.pruner.cues & INSIDE or self.pruner.compress_cache):
            raise ValueError(
                f"{name} has a cache policy and reads attention inside the LLM, or compresses caches itself: what is "
                "cached would no longer be what was attended to; choose one of them"
            )
        watched = max(() if self.pruner.cache is None else self.pruner.cache.watches, default=-1)
        if watched >= depth - 1:
            raise ValueError(
                f"{name} hides rows from layer {watched + 1} on while it decodes, the layers of {called} are 0 to "
                f"{depth - 1}; set pruner.decode_layer to one of them"
            )

    def _check_tower(self) -> None:
        """ValueError for patches that cannot merge, or cues of patches that are gone, a scout's among them."""
        name = type(self.pruner).__name__
        if not self.backbone.prunes_tower:
            raise ValueError(
                f"{name} merges patches inside the vision tower, but {self.backbone.called} with newline="
                f"{self.backbone.newlines} needs their grid, as all do that pool tokens or end rows by newlines; "
                "use backbone=tarsier_7b backbone.newline=frame"
            )
        if told := (self.cues | self.scout.supplies) - INSIDE - {"question_feature", "text_features"}:
            raise ValueError(
                f"{name} merges patches inside the vision tower, which gives no cues then; {', '.join(sorted(told))} "
                "were asked for: choose another relevance, budget or scout"
            )

    @property
    def cues(self) -> frozenset[str]:
        return self.scout.cues | self.relevance.cues | self.budget.cues | self.pruner.cues

    def __call__(self, question: Question) -> Answer:
        return self.answer(question, *self.watch(question.video, self.cues))[0]

    def watch(
        self, video: str | VideoRef, cues: frozenset[str], following: Sequence[str | VideoRef] = ()
    ) -> tuple[Frames, VisualTokens]:
        """What depends on the video alone, but for the predictor's look at it."""
        frames = self.decode(video, following)
        self.send_scout(frames, self.clock)
        return frames, self.encode(frames, cues)

    def decode(self, video: str | VideoRef, following: Sequence[str | VideoRef]) -> Frames:
        """The pictures. The `following` videos are decoded from now on, while the model works on this one."""
        with self.clock("decode_video"):
            frames = self.frames(video)
        for later in following:
            self.frames.prefetch(later)
        return frames

    def send_scout(self, frames: Frames, clock: Stopwatch) -> None:
        """Has the scout begin with the video, if there is one: `scout_video`.

        On CUDA it works beside what follows, in a queue of its own. Then that is the host's part alone, what is waited
        for of the rest is part of `scout`, and `scout_beside` is the time that it takes in its queue.
        """
        if not self.scout.supplies:
            return
        with ExitStack() as clocks:
            clocks.enter_context(clock("scout_video"))
            if self.scout.stream is not None:
                clocks.enter_context(clock("scout_beside", self.scout.stream))
            self.scout.look(frames)

    def encode(self, frames: Frames, cues: frozenset[str]) -> VisualTokens:
        """The tokens, shared by the video's questions and by methods (`cues`: of all of them)."""
        with self.clock("vision"):
            tower = self.tower
            if tower is None:
                return self.backbone.encode(frames, cues - INSIDE)
            return self.backbone.encode_merging(frames, tower)

    def look(self, frames: Frames) -> None:
        """What the predictor makes of the video alone, which is shared likewise."""
        with self.clock("relevance_video"):
            self.relevance.look(frames)

    def weigh(self, question: Question, frames: Frames, tokens: VisualTokens) -> tuple[Prompt, VisualTokens, Budget]:
        """The tokens with what scout and words tell of them, and how many of them may stay."""
        prompt = self.benchmark.prompt(question, frames)
        with self.clock("embed"):
            tokens = self.backbone.ask(tokens, prompt)
        with self.clock("scout"), refusing():
            tokens = self.scout(frames, question, tokens)
        with self.clock("relevance"), refusing():
            relevance = self.relevance(frames, tokens, question)
        with self.clock("prune"), refusing():
            return prompt, tokens, self.granted(relevance, tokens)

    def answer(self, question: Question, frames: Frames, tokens: VisualTokens) -> tuple[Answer, MethodCost]:
        """What depends on the question and on the method; and what choosing the tokens cost."""
        self.pruner.question_id = question.id
        prompt, tokens, budget = self.weigh(question, frames, tokens)
        policy, selection = self.policy(budget), 0.0
        with self.clock("embed"):
            asked = replace(tokens, asked=self.pruner.cues & INSIDE)
            state = self.backbone.embed(asked, prompt)
        if policy is not None:
            state = replace(state, policy=policy)
        for layer, site in self.calls(budget):
            with self.clock("prefill"):
                state = self.backbone.prefill(self.asking(state), layer, site)
            with self.clock("prune"), refusing():
                seen = state.visual
                cut = self.keep(state, self.pruner(seen, budget))
            selection += self.choosing(state, seen, budget, (layer, site))
            state = cut
        with self.clock("prefill"):
            state = self.backbone.prefill(state, self.depth)
        with self.clock("decode"):
            answer = self.backbone.generate(state)
        selection += llm_rows_told(self.backbone.shape, *answer.watched)
        selection += 0.0 if policy is None else policy.flops
        predictor = self.relevance.flops(frames, question) + self.scout.flops(frames, question)
        return answer, MethodCost(predictor, selection)

    def granted(self, relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Budget:
        budget = self.budget(relevance, tokens)
        if self.pruner.scope == "video" and int(budget.per_frame.max() - budget.per_frame.min()) > 1:
            raise ValueError(
                f"{type(self.pruner).__name__} ranks the whole video: it needs budget=uniform, not rates per frame"
            )
        return budget

    def calls(self, budget: Budget) -> Sequence[tuple[int, Site]]:
        """Where the pruner is called. At retention 1 nowhere: the unpruned model, bit for bit."""
        if budget.retention_ratio == 1:
            return ()
        pruner = self.pruner
        layers = range(self.depth) if pruner.layers == "all" else pruner.layers
        first: list[tuple[int, Site]] = [(0, "layer")] if pruner.at_input else []
        return [*first, *((layer, pruner.site) for layer in layers)]

    @property
    def depth(self) -> int:
        return self.backbone.shape.layers

    @property
    def tower(self) -> AbstractTowerPruner | None:
        """What merges patches while the video is looked at. Where all is granted, nothing does."""
        return None if getattr(self.budget, "retention_ratio", None) == 1 else self.pruner.tower

    def policy(self, budget: Budget) -> Counted | None:
        """What happens to the caches, if anything does. Its time is part of the prefill's."""
        if budget.retention_ratio == 1 or self.pruner.cache is None:
            return None
        return Counted(self.pruner.cache, self.backbone.shape, self.compressing)

    def asking(self, state: Prefill) -> Prefill:
        """With what the next call of the pruner asks of the LLM."""
        if not self.pruner.cues & INSIDE:
            return state
        return replace(state, tokens=replace(state.tokens, asked=self.pruner.reads(state.tokens) & INSIDE))

    def keep(self, state: Prefill, selection: Selection) -> Prefill:
        return state.keep(
            selection, renumber=self.pruner.positions == "renumber", compress_cache=self.pruner.compress_cache
        )

    def choosing(self, state: Prefill, seen: VisualTokens, budget: Budget, where: tuple[int, Site]) -> float:
        """FLOPs of a call of the pruner, and of the attention told again for it. They are counted beside the clock, by
        a copy that calls once more."""
        key = (*where, len(seen))
        if key not in self.selecting:
            with FlopCounterMode(display=False) as counter:
                deepcopy(self.pruner)(seen, budget)
            self.selecting[key] = float(counter.get_total_flops())
        rows = 0
        if state.asking is not None:
            rows = sum(1 if cue == "last_attention" else state.question_rows for cue in state.tokens.asked)
        return self.selecting[key] + llm_rows_told(self.backbone.shape, rows, rows * len(state))


@contextmanager
def refusing() -> Iterator[None]:
    """A stage's ValueError says that the method is not defined here."""
    try:
        yield
    except Refused:
        raise
    except ValueError as error:
        raise Refused(str(error)) from error
