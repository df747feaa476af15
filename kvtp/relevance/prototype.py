"""How much the segment that a frame is in looks like what the question's words mean to the language model."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from kvtp.budget._segments import frame_features, segments
from kvtp.errors import check_range
from kvtp.relevance.base import AbstractRelevance
from kvtp.tensors import cue
from kvtp.types import Frames, Question, VisualTokens


class Prototype(AbstractRelevance):
    """Cosine of the segment's prototype and the question's mean word embedding: Vista-LLM, equations 3 and 4.

    The prototype is the mean of the frames' features at length 1, as released; in equation 3 of the paper a frame
    counts the more the longer its own mean is.

    tau, merge_singletons: where segments end, as in budget=segment. One number per segment: no matrix product, FLOPs 0.
    """

    cues = frozenset({"question_feature"})
    reads_tokens = True

    def __init__(self, tau: float, merge_singletons: bool) -> None:
        check_range("relevance.tau", tau, -1, 1)
        self.tau = tau
        self.merge_singletons = merge_singletons

    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> Float[Tensor, " T"]:
        asked = normalize(cue(tokens, "question_feature").float(), dim=0)
        table = torch.cat([frame_features(tokens), asked[None]]).cpu().double()  # waits for the device: once
        features, asked = table[:-1], table[-1]
        segment = segments(features, self.tau, self.merge_singletons)
        prototype = normalize(torch.zeros_like(features).index_add_(0, segment, features), dim=1)
        return (prototype * asked).sum(1)[segment].float().to(tokens.features.device)
