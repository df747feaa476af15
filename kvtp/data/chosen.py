"""Questions, and what a method's budget leaves of the video for each: for `module=answerer`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from kvtp.benchmark._world import Film
from kvtp.benchmark.shapes import Shapes
from kvtp.budget.base import AbstractBudget
from kvtp.data._parts import Chosen
from kvtp.data.conversations import Conversations, ShapesTalks, by_letter, in_words
from kvtp.frames._sampler import AbstractSampler
from kvtp.frames.base import ahead
from kvtp.relevance.base import AbstractRelevance
from kvtp.tensors import top_per_frame
from kvtp.types import Frames, Question, VisualTokens


class ShapesChosen(ShapesTalks):
    """A batch = `size` films, about each `open_ended` random questions to be answered in words and `lettered` ones with
    options. For each question the decoder gets what `budget` grants by `relevance`; of frames that are not whole,
    random tokens. With siglip and topk this trains for KeyVideoLLM's hard selection, as KVTP's paper does (§5.2).

    For validation, the benchmark's own questions about `held_out_videos` of the `val` split. `states`, `kinds`: as of
    `data=conversations`.
    """

    def __init__(
        self,
        benchmark: Shapes,
        held_out_videos: int,
        frames: AbstractSampler,
        relevance: AbstractRelevance,
        budget: AbstractBudget,
        states: str | None,
        size: int,
        open_ended: int,
        lettered: int,
        kinds: Sequence[str],
        seed: int,
    ) -> None:
        forms = {"open_ended": open_ended, "lettered": lettered}
        super().__init__(benchmark, held_out_videos, frames, states, size, forms, kinds, seed)
        if relevance.cues or budget.cues:
            raise ValueError(
                f"data.relevance and data.budget must do without the backbone's cues, they need "
                f"{', '.join(sorted(relevance.cues | budget.cues))}; set data.relevance.tower=own, or choose others"
            )
        self.relevance, self.budget = relevance, budget

    @property
    def identity(self) -> str:
        return self.relevance.identity

    def make(self, number: int) -> Conversations:
        rng = self.random(number)
        films = self.draw(rng)
        forms = [form for form, count in self.forms.items() for _ in range(count)]
        asked = [(nth, form, self.any_question(film, rng)) for nth, film in enumerate(films) for form in forms]
        return self._conversations(self.train, films, asked, rng)

    @property
    def held_out(self) -> int:
        return len(self.val.films)

    def make_held_out(self, number: int) -> Conversations:
        """All that is asked about one film."""
        asked = [(0, form, question) for form, count in self.forms.items() if count for question in self.asked(number)]
        return self._conversations(self.val, [self.val.films[number]], asked, self.random(number))

    def _conversations(
        self,
        benchmark: Shapes,
        films: Sequence[Film],
        asked: Sequence[tuple[int, str, Question]],
        rng: np.random.Generator,
    ) -> Conversations:
        shown = list(ahead(self.frames, [benchmark.path(film) for film in films]))
        seen = torch.stack([frames.pixels for frames in shown]) if self.states is None else self.seen(benchmark, films)
        with torch.no_grad():
            parts = [(film, self._part(shown[film], question, rng)) for film, _, question in asked]
        write = {"open_ended": in_words, "lettered": by_letter}
        talks = tuple(write[form](place, question) for place, (_, form, question) in enumerate(asked))
        kept = len(parts[0][1]) / len(self._tokens(shown[0]))
        return Conversations(seen, talks, Chosen(round(kept, 4), parts))

    def _part(self, frames: Frames, question: Question, rng: np.random.Generator) -> Int64[Tensor, " K"]:
        tokens = self._tokens(frames)
        granted = self.budget(self.relevance(frames, tokens, question), tokens)
        return top_per_frame(torch.from_numpy(rng.random(len(tokens))), tokens, granted)

    def _tokens(self, frames: Frames) -> VisualTokens:
        """Without features, on the CPU: batches are made there while the model learns."""
        blank = self.trainer.lightning_module.backbone.blank(len(frames), frames.size)
        places = {
            name: getattr(blank, name).cpu() for name in ("features", "frame", "row", "column", "position", "original")
        }
        return replace(blank, **places, timestamps=frames.timestamps)
