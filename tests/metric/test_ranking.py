"""Ranking of frames by hand, and by definitions."""

import math

import pytest
import torch

from kvtp.metric.ranking import key_recall, ndcg, rate_divergence


@pytest.mark.parametrize(
    ("scores", "labels", "share", "recall"),
    [
        ([9, 8, 1, 2, 3, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0, 0, 0, 0], 0.2, 1),
        ([9, 1, 8, 2, 3, 0, 0, 0, 0, 0], [5, 5, 3, 0, 0, 0, 0, 0, 0, 0], 0.2, 0.5),
        ([0, 0, 0, 0, 0, 0, 0, 0, 1, 2], [5, 5, 5, 0, 0, 0, 0, 0, 0, 0], 0.2, 0),
        ([3, 2, 1, 0], [5, 5, 5, 0], 0.5, 1),  # three key frames, two places: both are taken by key frames
        ([1, 1, 1, 1], [0, 5, 0, 0], 0.3, 0),  # one place goes to the first of equals
        ([0, 7, 0], [0, 5, 0], 0.01, 1),  # one place at least
    ],
)
def test_key_recall(scores: list[float], labels: list[float], share: float, recall: float) -> None:
    assert key_recall(torch.tensor(scores).float(), torch.tensor(labels).float(), share) == recall


def test_ndcg_by_its_sum() -> None:
    scores, labels = torch.tensor([0.1, 3.0, 2.0, 1.0]), torch.tensor([5.0, 0.0, 3.0, 0.0])
    gained = 0 / math.log2(2) + 3 / math.log2(3) + 0 / math.log2(4) + 5 / math.log2(5)
    best = 5 / math.log2(2) + 3 / math.log2(3)
    assert ndcg(scores, labels) == pytest.approx(gained / best)


def test_rate_divergence_by_its_sum() -> None:
    scores, labels = [1.0, -2.0, 0.5], [5.0, 0.0, 3.0]

    def shares(values: list[float]) -> list[float]:
        weights = [math.exp(value / 2) for value in values]
        return [weight / sum(weights) for weight in weights]

    expected = sum(p * math.log(p / q) for p, q in zip(shares(labels), shares(scores), strict=True))
    assert rate_divergence(torch.tensor(scores), torch.tensor(labels), 2) == pytest.approx(expected)
    assert rate_divergence(torch.tensor(labels) - 7, torch.tensor(labels), 2) == pytest.approx(0, abs=1e-12)
