"""What relevance by a dual encoder is, whichever: the question's nearness to each picture."""

from functools import cached_property
from math import ceil
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.backbone._identity import fingerprint
from kvtp.backbone.base import AbstractBackbone
from kvtp.errors import check_choice, check_whole
from kvtp.relevance._encoder import PADDINGS, Checkpoint, Encoder
from kvtp.relevance._fusion import logits
from kvtp.relevance.base import AbstractRelevance
from kvtp.types import Frames, Question, VisualTokens


class Similarity(AbstractRelevance):
    """Logits scale · cos + bias of every picture and the question, debiased if the benchmark has it so.

    A question longer than the text tower reads goes in parts, and each picture has the highest of their logits. Of
    pictures that one token frame stands for, the most relevant counts. A video is looked at once for all its questions.

    `checkpoint`: a folder in the Hugging Face layout, or a hub id with its `revision`. `padding`: see
    `kvtp.relevance._encoder.Encoder`. `frame_chunk`: pictures in the tower at once.
    """

    family: ClassVar[str]

    def __init__(
        self, checkpoint: str, revision: str | None, padding: str, dtype: str, device: str, frame_chunk: int
    ) -> None:
        check_choice("relevance.padding", padding, PADDINGS)
        check_choice("relevance.dtype", dtype, ("float32", "bfloat16", "float16"))
        check_whole("relevance.frame_chunk", frame_chunk, 1)
        self.checkpoint = Checkpoint(checkpoint, revision, self.family, "relevance.checkpoint")
        self.padding, self.dtype, self.frame_chunk = padding, getattr(torch, dtype), frame_chunk
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self._seen: tuple[Frames, Tensor] | None = None

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.checkpoint, self.padding, self.dtype).to(self.device).eval().requires_grad_(False)

    @property
    def identity(self) -> str:
        _ = self.checkpoint.config  # ValueError where there is none
        return fingerprint(self.checkpoint.name, self.checkpoint.revision, "relevance.checkpoint")

    def load(self, backbone: AbstractBackbone) -> None:
        _ = self.encoder

    def look(self, frames: Frames) -> None:
        if self._seen is None or self._seen[0] is not frames:
            parts = [self.encoder.look(pixels).float() for pixels in frames.pixels.split(self.frame_chunk)]
            self._seen = frames, torch.cat(parts)

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        found = self.score(self.pictures(frames, tokens), self.encoder.read([asked(question)])[0].float()).amax(0)
        return by_token_frame(found, frames.timestamps, tokens.timestamps).to(tokens.features.device)

    def pictures(self, frames: Frames, tokens: VisualTokens) -> Float[Tensor, "T d"]:
        """The embeddings of the pictures."""
        self.look(frames)
        assert self._seen is not None
        return self._seen[1]

    def score(self, pictures: Float[Tensor, "T d"], texts: Float[Tensor, "Q d"]) -> Float[Tensor, "Q T"]:
        """One logit per text and picture."""
        return logits(pictures, texts, self.encoder.scale.float(), self.encoder.bias.float())

    def flops(self, frames: Frames, question: Question) -> float:
        pictures = len(frames)
        return self.checkpoint.look_flops(pictures) + self.checkpoint.read_flops(
            pictures, asked(question), self.padding
        )


def asked(question: Question) -> str:
    """What the predictor reads."""
    return question.text if question.debiased is None else question.debiased


def by_token_frame(
    scores: Float[Tensor, "n *each"], pictures: Float[Tensor, " n"], frames: Float[Tensor, " T"]
) -> Float[Tensor, "T *each"]:
    """Of pictures the scores (or several each), and the times [s] of pictures and token frames: each frame gets the
    highest score of its pictures.

    Its pictures are as many as the others' (temporal pairs; the last frame may have fewer). Where numbers do not go
    into each other (hosts that take so many frames from any film) they are those that are nearer to it than to any
    other frame, or if there are none (a picture is repeated), the nearest.
    """
    several = ceil(len(scores) / len(frames))
    if ceil(len(scores) / several) == len(frames):
        missing = scores.new_full((several * len(frames) - len(scores), *scores.shape[1:]), float("-inf"))
        return torch.cat([scores, missing]).unflatten(0, (len(frames), several)).amax(1)
    apart = (frames[:, None] - pictures).abs().to(scores.device)
    nearest = apart.argmin(0).view(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
    best = scores.new_full((len(frames), *scores.shape[1:]), float("-inf")).scatter_reduce(0, nearest, scores, "amax")
    return torch.where(best == float("-inf"), scores[apart.argmin(1)], best)
