"""Every frame matters equally."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.relevance.base import AbstractRelevance
from kvtp.types import Frames, Question, VisualTokens


class Uniform(AbstractRelevance):
    """0 for all frames."""

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        return torch.zeros(tokens.frames, device=tokens.features.device)
