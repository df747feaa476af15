"""How well predicted relevance ranks and weighs the frames of a video."""

from collections.abc import Sequence
from math import exp, log

from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.retrieval import retrieval_normalized_dcg

from kvtp.budget._rounding import SLACK


def key_recall(scores: Float[Tensor, " T"], labels: Float[Tensor, " T"], share: float) -> float:
    """Of the frames with the highest label, the part that is among the ⌊share·T⌋ (at least one) of highest score;
    among equal scores the earlier frame counts as the higher. Where there are more key frames than places, the part
    of the places."""
    places = max(1, int(share * len(scores) + SLACK))
    chosen = scores.argsort(descending=True, stable=True)[:places]
    key = labels == labels.max()
    return float(key[chosen].sum() / key.sum().clamp_max(places))


def ndcg(scores: Float[Tensor, " T"], labels: Float[Tensor, " T"]) -> float:
    """Discounted cumulative gain over all frames, gains being the labels, as a part of the best order's; frames with
    equal scores share theirs (Järvelin and Kekäläinen 2002)."""
    return min(1.0, float(retrieval_normalized_dcg(scores, labels)))  # it computes in single precision


def rate_divergence(
    scores: Float[Tensor, " T"], labels: Float[Tensor, " T"], temperature: float, own_temperature: float | None = None
) -> float:
    """KL(oracle ‖ predicted) [nats] between keep rates as shares, softmax(· / temperature) of labels and of scores.
    `own_temperature`: another one for the scores."""
    own = temperature if own_temperature is None else own_temperature
    predicted, oracle = (scores.double() / own).log_softmax(-1), (labels.double() / temperature).log_softmax(-1)
    return float(F.kl_div(predicted, oracle, log_target=True, reduction="sum"))


def fitted_temperature(
    judged: Sequence[tuple[Float[Tensor, " T"], Float[Tensor, " T"]]], temperature: float
) -> tuple[float, float]:
    """The temperature of softmax budgets at which rates from scores come nearest to the oracle's, those of the labels
    at `temperature`; and the mean divergence there. `judged`: scores and labels of each question.

    A loss that only wants key frames above the others, as KVTP's, leaves the scale of the scores to chance: logits far
    apart make budgets hard at a temperature that was meant to be soft.
    """

    def divergence(logarithm: float) -> float:
        each = [rate_divergence(scores, labels, temperature, exp(logarithm)) for scores, labels in judged]
        return sum(each) / len(each)

    found = minimize_scalar(divergence, bounds=(log(1e-3), log(1e4)), method="bounded")
    return exp(found.x), float(found.fun)
