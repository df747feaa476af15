"""What a Q-Former learns from: matching, contrast, and Vista-LLM's alignment of what it looks at with what is asked."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from kvtp.errors import check_choice, check_range, check_whole

CONTRAST = 0.07  # temperature of the contrast; BLIP's first value, here fixed
SMOOTHING = 0.1  # of its labels
POOLS = ("mean", "max")
ROLES = ("textbook", "official")
WEIGHTS = ("masked", "softmax")


def similarity(
    pictures: Float[Tensor, "B queries joint"], texts: Float[Tensor, "N joint"], pool: str
) -> Float[Tensor, "B N"]:
    """Cosine of every picture and text; of a picture's queries `mean`, as Vista-LLM has it, or `max`, as BLIP-2."""
    cosines = torch.einsum("bqd,nd->bqn", F.normalize(pictures, dim=-1), F.normalize(texts, dim=-1))
    return cosines.mean(1) if pool == "mean" else cosines.amax(1)


def contrast(similar: Float[Tensor, "B B"], true: Bool[Tensor, "B B"]) -> Float[Tensor, ""]:
    """Each picture has to find its text among those that are not `true` of it, and each text its picture; the mean of
    both. Labels are smoothed. (The released code takes all but a picture's own text for wrong.)"""
    own = torch.eye(len(similar), dtype=torch.bool, device=similar.device)
    return (_found(similar, true & ~own) + _found(similar.T, true.T & ~own)) / 2


def _found(similar: Float[Tensor, "B B"], out: Bool[Tensor, "B B"]) -> Float[Tensor, ""]:
    """Cross-entropy of the diagonal among all but what is `out`."""
    logs = (similar / CONTRAST).masked_fill(out, -torch.inf).log_softmax(1)
    even = logs.masked_fill(out, 0).sum(1) / (~out).sum(1)
    return -((1 - SMOOTHING) * logs.diagonal() + SMOOTHING * even).mean()


def odds(
    similar: Float[Tensor, "B B"], true: Bool[Tensor, "B B"], roles: str, temperature: float
) -> tuple[Float[Tensor, "B B"], Float[Tensor, "B B"]]:
    """How likely each text is to be drawn as wrong text of picture i, and each picture as wrong picture of text i: rows
    i sum to 1, or are 0 where all is `true`.

    roles: textbook = texts that are like the picture, e^{s_ij/τ}, and pictures that are like the text, e^{s_ji/τ}
    (BLIP); official = Vista-LLM's released code, where axes are swapped: e^{s_ij/τ} over its sum over pictures for
    texts, and e^{s_ij/τ} for pictures: those whose *text* is like picture i.
    """
    logits = similar / temperature
    wrong = logits.masked_fill(true, -torch.inf)
    over_pictures = _softmax(wrong, 0)
    if roles == "textbook":
        return _softmax(wrong, 1), over_pictures.T
    texts = over_pictures / over_pictures.sum(1, keepdim=True).clamp_min(torch.finfo(similar.dtype).tiny)
    return texts, _softmax(logits.masked_fill(true.T, -torch.inf), 1)  # picture j for text i: what must not be true


def _softmax(logits: Float[Tensor, "B B"], axis: int) -> Float[Tensor, "B B"]:
    """0 where all are −∞."""
    return logits.softmax(axis).nan_to_num(0.0)


def draw(odds: Float[Tensor, "B B"], generator: torch.Generator) -> tuple[Int64[Tensor, " B"], Bool[Tensor, " B"]]:
    """One of each row, and whether there is any to draw. `generator`: of the CPU."""
    noise = -torch.empty(odds.shape).exponential_(generator=generator).log()
    # the largest of log-odds + Gumbel noise is a draw
    return (odds.log() + noise.to(odds.device)).argmax(1), odds.any(1)


def key_weights(scores: Float[Tensor, "B P"], keep: int, temperature: float, weights: str) -> Float[Tensor, "B P"]:
    """Soft top-K (equation 14): m = σ((S − K-th largest S) / T), weights that sum to 1.

    weights: masked = m·S / Σ, the paper's "normalized masked scores"; softmax = m·softmax(S/T) / Σ, the released code.
    """
    threshold = scores.topk(min(keep, scores.shape[1]), 1).values[:, -1:]
    mask = ((scores - threshold) / temperature).sigmoid()
    told = mask * (scores if weights == "masked" else (scores / temperature).softmax(1))
    return told / told.sum(1, keepdim=True)


def points(scores: Float[Tensor, "B P"], boxes: Float[Tensor, "B 4"]) -> Bool[Tensor, " B"]:
    """Whether the centre of the patch with the highest score, the first of several, lies in the box (left, top, right,
    bottom, as shares of the picture). Patches are a square, row by row."""
    side = round(scores.shape[1] ** 0.5)
    best = scores.argmax(1)
    centre = torch.stack([best % side, best // side], 1).add(0.5).div(side)
    return ((boxes[:, :2] <= centre) & (centre <= boxes[:, 2:])).all(1)


class Alignment(nn.Module):
    """Cosine of what is looked at most and the text (equations 14 and 15), through the Key Token Projector.

    `width` of the patches' states, `joint` of the texts' features; `hidden`, `dropout` of the projector (the paper does
    not tell them, the released code has 768 and 0.1). `keep`, `temperature`, `weights`: of `key_weights`.
    """

    def __init__(
        self, width: int, joint: int, hidden: int, dropout: float, keep: int, temperature: float, weights: str
    ) -> None:
        super().__init__()
        check_whole("module.alignment.hidden", hidden, 1)
        check_range("module.alignment.dropout", dropout, 0, 1)
        check_whole("module.alignment.keep", keep, 1)
        check_range("module.alignment.temperature", temperature, 1e-6)
        check_choice("module.alignment.weights", weights, WEIGHTS)
        self.keep, self.temperature, self.weights = keep, temperature, weights
        self.projector = nn.Sequential(
            nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, joint)
        )
        for layer in (self.projector[0], self.projector[-1]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, scores: Float[Tensor, "B P"], patches: Float[Tensor, "B P width"], texts: Float[Tensor, "B joint"]
    ) -> Float[Tensor, " B"]:
        weights = key_weights(scores, self.keep, self.temperature, self.weights)
        return F.cosine_similarity(self.projector((weights[:, None] @ patches)[:, 0]), texts, dim=-1)
