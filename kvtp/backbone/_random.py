"""Hosts of noise: the true shapes and the true line, for what depends on sizes alone, as time and memory do.

No weights are read and no tokenizer: a configuration is enough.
"""

import random
from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from accelerate import init_empty_weights
from jaxtyping import Float
from torch import Tensor, nn
from transformers import SiglipVisionModel

from kvtp.backbone._decoder import Pick, greedy
from kvtp.backbone._host import Host
from kvtp.types import Prompt, VisualTokens

VOCABULARY = 32  # of what is asked; every model has more
SPREAD = 0.02  # of biases, and of norms around 1
STOP = -1  # no token of any vocabulary


def with_random_weights(host: Host, text: int, reply: int) -> "RandomHost":
    """A host of the same family and settings whose prompts have `text` tokens beside the video, half of them before it,
    and whose replies have exactly `reply`. `backbone.seed` draws weights and words."""
    kind = type(f"Random{type(host).__name__}", (RandomHost, type(host)), {})
    settings = {field.name: getattr(host, field.name) for field in fields(host) if field.init}
    # one more, as a limit that is reached would save the last token's pass through the LLM
    made: RandomHost = kind(**{**settings, "answer": "generate", "max_new_tokens": reply + 1})
    made.text, made.reply = text, reply
    return made


class RandomHost(Host):
    """What stands before a family of hosts: it reads nothing and has no words.

    `first_token` [s, as `perf_counter` counts]: when the latest reply's first token was known.
    """

    text: int
    reply: int
    first_token = 0.0

    # -- weights ---------------------------------------------------------------------------------------------------

    def furnish(self, model: Any) -> None:
        place, bare = self.placed(model), dict(model.named_parameters(remove_duplicate=False))
        sources = {name: name for name in bare} | dict(self.names.tied)
        made: dict[int, nn.Parameter] = {}  # by what they stand in for, which may have several names
        for name, source in sources.items():
            if id(bare[source]) not in made:
                made[id(bare[source])] = self._noise(source, bare[source], place(source))
            _put(model, name, made[id(bare[source])])
        released = model.state_dict().keys()
        for name, buffer in list(model.named_buffers()):  # as built: rotary frequencies are no noise
            cast = name in released and buffer.is_floating_point()
            _put(model, name, buffer.to(place(name), self.precision if cast else buffer.dtype))

    def pooling_head(self) -> nn.Module:
        """For families that take one from a stock SigLIP: as wide as their tower."""
        config = copy(self.config.vision_config)
        config.vision_use_head, config.num_hidden_layers = True, 0
        with init_empty_weights(include_buffers=False):
            head = SiglipVisionModel(config)
        for name, bare in list(head.named_parameters()):
            _put(head, name, self._noise(name, bare, self.home))
        return head

    def _noise(self, name: str, bare: nn.Parameter, device: torch.device) -> nn.Parameter:
        """Made where it will work, in the precision in which it will. Matrices keep the size of what they multiply;
        the weights of norms are about 1."""
        value = torch.empty(bare.shape, dtype=self.precision, device=device)
        generator = self._generator(device)
        if value.ndim > 1:
            value.normal_(0, value[0].numel() ** -0.5, generator=generator)
        else:
            value.normal_(float(name.endswith("weight")), SPREAD, generator=generator)
        return nn.Parameter(value, requires_grad=False)

    def _generator(self, device: torch.device) -> torch.Generator:
        return self._generators.setdefault(device, torch.Generator(device).manual_seed(self.seed))

    @cached_property
    def _generators(self) -> dict[torch.device, torch.Generator]:
        return {}

    # -- words -----------------------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Any:
        return Numbers()

    @cached_property
    def reader(self) -> Any:
        """For families whose connector reads text, too."""
        return Numbers()

    @cached_property
    def stop(self) -> frozenset[int]:
        return frozenset({STOP})

    def around(self, tokens: VisualTokens, prompt: Prompt) -> tuple[list[int], list[int]]:
        drawn = random.Random(self.seed).choices(range(VOCABULARY), k=self.text)
        return drawn[: self.text // 2], drawn[self.text // 2 :]

    def bare_question(self, after: list[int], prompt: Prompt) -> tuple[int, int]:
        """There are no words: as many tokens as the question has, in the middle."""
        count = min(len(prompt.bare.split()), len(after))
        first = (len(after) - count) // 2
        return first, first + count

    def _pick(self, prompt: Prompt) -> Pick:
        written = 0

        def pick(logits: Float[Tensor, " V"]) -> int:
            nonlocal written
            token = greedy(logits)  # waits for the device
            if not written:
                self.first_token = perf_counter()
            written += 1
            return token if written <= self.reply else STOP

        return pick


@dataclass(frozen=True)
class Read:
    input_ids: list[int]


class Numbers:
    """A tokenizer that knows nothing: every word is some token, every token is written as its number."""

    def __call__(self, text: str, **how: Any) -> Read:
        return Read([sum(word.encode()) % VOCABULARY for word in text.split()])

    def decode(self, ids: list[int], **how: Any) -> str:
        return " ".join(map(str, ids))


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, value)
