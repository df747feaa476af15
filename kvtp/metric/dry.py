"""The line without a model: tokens are noise, layers do nothing, only sizes are real."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvtp.backbone._decoder import Decoder
from kvtp.backbone._state import LEVELS, Prefill
from kvtp.backbone.base import AbstractBackbone, LLMShape, Site, Size, Skeleton, VisionShape
from kvtp.relevance.base import AbstractRelevance
from kvtp.scout.base import AbstractScout
from kvtp.types import Answer, Cues, Frames, Prompt, Question, VisualTokens

WORDS = 8  # of a question, for cues
PER_TOKEN = ("probe_attention", "received_attention", "cls_attention")
PER_PATCH = ("tower_keys", "tower_keys_full", "tower_states")


class DryBackbone(AbstractBackbone):
    """As large as `real`, whose weights are not read. Prompts have `text` tokens, replies `reply`."""

    def __init__(self, real: AbstractBackbone, text: int, reply: int) -> None:
        self.real, self.text, self.reply = real, text, reply
        self.random = torch.Generator().manual_seed(0)

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
        found = {name: self._noise(count).softmax(-1) for name in PER_TOKEN if name in cues}
        found |= {name: self._noise(count, width) for name in PER_PATCH if name in cues}
        if "frame_feature" in cues:
            found["frame_feature"] = self._noise(tokens.frames, width)
        return replace(tokens, features=self._noise(count, self.shape.width), cues=Cues(**found))

    def ask(self, tokens: VisualTokens, prompt: Prompt) -> VisualTokens:
        words = self._noise(WORDS, self.shape.width)
        return replace(tokens, cues=replace(tokens.cues, question_feature=words.mean(0), text_features=words))

    def embed(self, tokens: VisualTokens, prompt: Prompt) -> Prefill:
        words = tokens.features.new_zeros(self.text, self.shape.width)
        before, after = words.tensor_split([self.text // 2])
        kinds = words.new_zeros(len(LEVELS[self.newlines]), self.shape.width)
        return Prefill.lay_out(prompt, before, tokens, after, self.newlines, kinds)

    def prefill(self, state: Prefill, upto: int, site: Site = "layer") -> Prefill:
        return _Idle(self.shape.layers).prefill(state, upto, site)

    def generate(self, state: Prefill) -> Answer:
        state = self.prefill(state, self.shape.layers)
        visual, newline, words = zip(*state.counts, strict=True)
        return Answer(
            text="",
            tokens_per_layer={"visual": visual, "newline": newline, "text": words},
            mlp_rows=state.mlp_rows,
            full_rows=state.full,
            cache_rows=tuple(layer.keys.shape[-2] for layer in state.cache.layers),
            kept=state.tokens.original,
            steps=(self.reply,),
            tower_rows=state.tokens.tower_rows,
        )

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)


class Chance(AbstractRelevance):
    """Scores drawn at random, each time the same, at the price of those of `real`."""

    def __init__(self, real: AbstractRelevance) -> None:
        self.real, self.cues = real, real.cues  # type: ignore[misc]

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        return _drawn(tokens.frames).to(tokens.features.device)

    def flops(self, frames: Frames, question: Question) -> float:
        return self.real.flops(frames, question)


class Deaf(AbstractScout):
    """Scores drawn at random, each time the same, at the price of those of `real`, and under the same names."""

    def __init__(self, real: AbstractScout) -> None:
        self.real = real
        self.cues, self.supplies = real.cues, real.supplies  # type: ignore[misc]

    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens:
        found = {name: _drawn(len(tokens)).to(tokens.features.device).sigmoid() for name in self.supplies}
        return replace(tokens, cues=replace(tokens.cues, **found))

    def flops(self, frames: Frames, question: Question) -> float:
        return self.real.flops(frames, question)


def _drawn(count: int) -> Float[Tensor, " N"]:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


class _Empty(nn.Module):
    """What the engine asks a model for."""

    config = None

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = range(layers)

    def rotary_emb(self, hidden: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, hidden  # nothing is turned by them


class _Idle(Decoder):
    """The engine without its arithmetic: caches of one number per row."""

    def __init__(self, layers: int) -> None:
        model = _Empty(layers)
        super().__init__(model, model)

    def _attend(self, layer: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], cache: Any) -> Tensor:
        rows = hidden.new_zeros(1, 1, hidden.shape[1], 1)
        cache.update(rows, rows, layer)
        return hidden

    def _feed(self, layer: int, hidden: Tensor) -> Tensor:
        return hidden
