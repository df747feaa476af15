"""How well predicted relevance ranks and weighs the frames of a video."""

from jaxtyping import Float
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
    return float(retrieval_normalized_dcg(scores.double(), labels.double()))


def rate_divergence(scores: Float[Tensor, " T"], labels: Float[Tensor, " T"], temperature: float) -> float:
    """KL(oracle ‖ predicted) [nats] between keep rates as shares, softmax(· / temperature) of labels and of scores."""
    predicted, oracle = ((part.double() / temperature).log_softmax(-1) for part in (scores, labels))
    return float(F.kl_div(predicted, oracle, log_target=True, reduction="sum"))
