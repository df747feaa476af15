"""The line without a model: tokens are noise, layers do nothing, only sizes are real."""

from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.backbone._state import LEVELS, Prefill
from kvtp.backbone.base import AbstractBackbone, LLMShape, Site, Size, Skeleton, VisionShape
from kvtp.metric._idle import Block, Idle
from kvtp.pruner.base import AbstractTowerPruner
from kvtp.relevance.base import AbstractRelevance
from kvtp.scout.base import AbstractScout
from kvtp.types import Answer, Cues, Frames, Prompt, Question, VisualTokens

Film = Literal["alike", "scenes"]

WORDS = 8  # of a question, for cues
SCENES, STILL, STEP = 8, 0.6, 0.7  # of a film: how many, the share of cells that stay in one, how far others drift
PER_TOKEN = ("probe_attention", "received_attention", "cls_attention")
PER_PATCH = ("tower_keys", "tower_keys_full", "tower_states")
DRAWN = ("film", *PER_TOKEN, *PER_PATCH, "frame_feature")


class DryBackbone(AbstractBackbone):
    """As large as `real`, whose weights are not read. Prompts have `text` tokens, half of them (the larger) after the
    video, and all of these ask where a cue is of the question; replies have `reply`.

    What a method costs does not depend on what tokens hold, but for methods that merge those that are alike, or cut the
    film where it changes. film: alike = every second token looks as in the frame before (cosine 0.8), the others look
    like nothing else, nor does any frame as a whole. scenes = 8 scenes (in fewer frames, each is one); in each 60 % of
    the cells stay as they are but for 1 % of noise, the others drift by 0.7 a frame; frames of a scene are alike as a
    whole (cosine 0.99). Layers change none of that, as those of a model would.

    Where a method has cues inside the LLM, caches have keys and values of the true size, and the engine makes queries
    with a norm and a matrix of the true size: choosing costs what it does with weights, and cutting caches, too. All
    layers share these, drawn once. A film's tokens and each of its cues are drawn from seeds of their own, so what a
    row costs does not hang on those that are metered with it. What a cache policy does is told by sizes alone (`Idle`);
    as nothing is written, none of the rows that it would hide from a reply are taken off the reply's FLOPs.
    """

    def __init__(self, real: AbstractBackbone, text: int, reply: int, film: Film = "alike") -> None:
        self.real, self.text, self.reply, self.film = real, text, reply, film
        self.random = _seeded("film")  # words, and what lies inside the LLM
        self.stored: tuple[Tensor, Tensor] | None = None  # keys and values of a layer, of as many rows as were seen

    @property
    def called(self) -> str:
        return self.real.called

    @property
    def newlines(self) -> str:
        return self.real.newlines

    @property
    def shape(self) -> LLMShape:
        return self.real.shape

    def vision_shape(self, size: Size) -> VisionShape:
        return self.real.vision_shape(size)

    @property
    def value_bytes(self) -> int:
        return self.real.value_bytes

    @property
    def supplies(self) -> frozenset[str]:
        return self.real.supplies

    @property
    def gridded(self) -> bool:
        return self.real.gridded

    def field(self, size: Size) -> tuple[slice, slice]:
        return self.real.field(size)

    @property
    def prunes_tower(self) -> bool:
        return self.real.prunes_tower

    @property
    def identity(self) -> str:
        return "none"

    def looks(self, pictures: int) -> int:
        return self.real.looks(pictures)

    def skeleton(self, size: Size) -> Skeleton:
        return self.real.skeleton(size)

    def blank(self, frames: int, size: Size) -> VisualTokens:
        return self.real.blank(frames, size)

    def load(self) -> None:
        """There is nothing to load."""

    def encode(self, frames: Frames, cues: frozenset[str]) -> VisualTokens:
        tokens = self.blank(len(frames), frames.size)
        count, width = len(tokens), self.vision_shape(frames.size).width
        found = {name: _noise(_seeded(name), count).softmax(-1) for name in PER_TOKEN if name in cues}
        found |= {name: _noise(_seeded(name), count, width) for name in PER_PATCH if name in cues}
        if "frame_feature" in cues:
            found["frame_feature"] = self._wholes(tokens.frames, width)
        return replace(tokens, features=self._looks(tokens.frames, count // tokens.frames), cues=Cues(**found))

    def encode_merging(self, frames: Frames, tower: AbstractTowerPruner) -> VisualTokens:
        tokens = self.real.blank_merging(len(frames), frames.size, tower)
        return replace(tokens, features=self._looks(tokens.frames, len(tokens) // tokens.frames))

    def ask(self, tokens: VisualTokens, prompt: Prompt) -> VisualTokens:
        words = _noise(self.random, WORDS, self.shape.width)
        return replace(tokens, cues=replace(tokens.cues, question_feature=words.mean(0), text_features=words))

    def embed(self, tokens: VisualTokens, prompt: Prompt) -> Prefill:
        words = _noise(self.random, self.text, self.shape.width)
        before, after = words.tensor_split([self.text // 2])
        kinds = words.new_zeros(len(LEVELS[self.newlines]), self.shape.width)
        return Prefill.lay_out(prompt, before, tokens, after, self.newlines, kinds)

    def prefill(self, state: Prefill, upto: int, site: Site = "layer") -> Prefill:
        if not state.tokens.asked:
            return Idle(self.shape, range(self.shape.layers), None).prefill(state, upto, site)
        if self.stored is None or self.stored[0].shape[2] < len(state):
            size = (1, self.shape.kv_heads, len(state), self.shape.head_dim)
            self.stored = _noise(self.random, *size), _noise(self.random, *size)
        return Idle(self.shape, [self._block] * self.shape.layers, self.stored).prefill(state, upto, site)

    def generate(self, state: Prefill) -> Answer:
        state = self.prefill(state, self.shape.layers)
        visual, newline, words = zip(*state.counts, strict=True)
        return Answer(
            text="",
            tokens_per_layer={"visual": visual, "newline": newline, "text": words},
            mlp_rows=state.mlp_rows,
            full_rows=state.full,
            cache_rows=tuple(layer.keys.shape[-2] for layer in state.cache.layers),
            cache_visual=state.cached,
            kept=state.tokens.original,
            steps=(self.reply,),
            told={} if state.policy is None else state.policy.told(),
            tower_rows=state.tokens.tower_rows,
        )

    @cached_property
    def _block(self) -> Block:
        return Block(self.shape, _noise(self.random, self.shape.heads * self.shape.head_dim, self.shape.width))

    def _looks(self, frames: int, each: int) -> Float[Tensor, "K D"]:
        drawn = self._scenes if self.film == "scenes" else self._alike
        return drawn(frames, each, _seeded("film"))

    def _wholes(self, frames: int, width: int) -> Float[Tensor, "T C"]:
        random = _seeded("frame_feature")
        if self.film == "alike":
            return _noise(random, frames, width)
        scenes = _noise(random, SCENES, width).repeat_interleave(torch.tensor(lengths(frames)), 0)
        return scenes.add_(_noise(random, frames, width), alpha=0.1)

    def _scenes(self, frames: int, each: int, random: torch.Generator) -> Float[Tensor, "K D"]:
        film = _noise(random, frames, each, self.shape.width)
        for scene in film.split(lengths(frames)):  # in place, as a film is large
            drifting = torch.rand(each, generator=random) >= STILL
            scene[1:] *= STEP * drifting[:, None]
            scene.cumsum_(0).add_(_noise(random, *scene.shape), alpha=0.01)
        return film.flatten(0, 1)

    def _alike(self, frames: int, each: int, random: torch.Generator) -> Float[Tensor, "K D"]:
        time = torch.arange(frames)[:, None]
        still = (_noise(random, frames, each) > 0) & (time > 0)
        since = torch.where(still, 0, time).cummax(0).values  # the frame from which on a cell looks as it does
        looks = _noise(random, frames * each, self.shape.width)
        features = looks[(since * each + torch.arange(each)).flatten()]
        return features.add_(_noise(random, frames * each, self.shape.width), alpha=0.5)


def lengths(frames: int) -> list[int]:
    """Frames of each scene; there are none where frames are fewer."""
    bounds = [frames * scene // SCENES for scene in range(SCENES + 1)]
    return [stop - start for start, stop in pairwise(bounds)]


class Chance(AbstractRelevance):
    """Scores drawn at random, each time the same, at the price of those of `real`."""

    def __init__(self, real: AbstractRelevance) -> None:
        self.real, self.cues = real, real.cues  # type: ignore[misc]

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        return _drawn(tokens.frames).to(tokens.features.device)

    def flops(self, frames: Frames, question: Question) -> float:
        return self.real.flops(frames, question)


class Deaf(AbstractScout):
    """Scores drawn at random, each time the same, at the price of those of `real`, and under the same names: one per
    token, or on the scout's own grid one per patch (`real.patches` of them in each frame)."""

    def __init__(self, real: AbstractScout) -> None:
        self.real: Any = real
        self.cues, self.supplies = real.cues, real.supplies  # type: ignore[misc]

    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens:
        found = {name: _drawn(*self._size(name, tokens)).sigmoid() for name in self.supplies}
        found = {name: scores.to(tokens.features.device) for name, scores in found.items()}
        return replace(tokens, cues=replace(tokens.cues, **found))

    def meet(self, backbone: AbstractBackbone) -> None:
        self.real.meet(backbone)

    def _size(self, name: str, tokens: VisualTokens) -> tuple[int, ...]:
        return (tokens.frames, self.real.patches) if name == "scout_patches" else (len(tokens),)

    def flops(self, frames: Frames, question: Question) -> float:
        return self.real.flops(frames, question)


def _drawn(*shape: int) -> Tensor:
    return _noise(_seeded("film"), *shape)


def _seeded(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(DRAWN.index(name))


def _noise(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random)
