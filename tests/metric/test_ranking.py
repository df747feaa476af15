"""Ranking of frames by hand, and by definitions."""

import math

import pytest
import torch

from kvtp.metric.ranking import fitted_temperature, key_recall, ndcg, rate_divergence


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


def test_the_fitted_temperature_is_that_of_the_scale() -> None:
    """Scores that are the labels seven times as far apart need seven times the temperature, and nothing is lost."""
    random = torch.Generator().manual_seed(0)
    labels = [torch.randint(0, 6, (9,), generator=random).float() for _ in range(5)]
    found, least = fitted_temperature([(7 * label + 3, label) for label in labels], 2)
    assert found == pytest.approx(14, rel=1e-3)
    assert least == pytest.approx(0, abs=1e-6)


def test_the_fitted_temperature_is_the_best_of_a_grid() -> None:
    random = torch.Generator().manual_seed(1)
    judged = [(torch.randn(8, generator=random) + label, label) for label in torch.eye(8)[:5] * 5]
    found, least = fitted_temperature(judged, 2)

    def mean(own: float) -> float:
        return sum(rate_divergence(scores, labels, 2, own) for scores, labels in judged) / 5

    assert least == pytest.approx(mean(found))
    assert all(least <= mean(found * factor) for factor in (0.2, 0.5, 0.8, 0.95, 1.05, 1.25, 2, 5))
