"""How much the segment that a frame is in looks like what the question's words mean to the language model."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from kvtp.budget._segments import frame_means, segments
from kvtp.errors import check_choice, check_range
from kvtp.relevance.base import AbstractRelevance
from kvtp.tensors import cue
from kvtp.types import Frames, Question, VisualTokens


class Prototype(AbstractRelevance):
    """Cosine of the segment's prototype and the question's mean word embedding: Vista-LLM, equations 3 and 4.

    tau, merge_singletons: where segments end; to be those of budget=segment, whose values conf/ takes.
    variant: the prototype is the mean of the frames' means (paper), or of these at length 1 (official).

    One number per segment: no matrix product, FLOPs 0.
    """

    cues = frozenset({"question_feature"})
    reads_tokens = True

    def __init__(self, tau: float, merge_singletons: bool, variant: str) -> None:
        check_range("relevance.tau", tau, -1, 1)
        check_choice("relevance.variant", variant, ("paper", "official"))
        self.tau = tau
        self.merge_singletons = merge_singletons
        self.variant = variant

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        asked = normalize(cue(tokens, "question_feature").float(), dim=0)
        table = torch.cat([frame_means(tokens), asked[None]]).cpu().double()  # waits for the device: once
        means, asked = table[:-1], table[-1]
        looks = normalize(means, dim=1)
        segment = segments(looks, self.tau, self.merge_singletons)
        meant = means if self.variant == "paper" else looks
        prototype = normalize(torch.zeros_like(meant).index_add_(0, segment, meant), dim=1)
        return (prototype * asked).sum(1)[segment].float().to(tokens.features.device)
