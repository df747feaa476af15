"""Linear probes find what is linear, and nothing that is not there."""

import pytest
import torch

from kvtp.metric.probe import linear_probe


def draw(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(count, 6, generator=generator)


def test_classes_apart_are_told_apart_and_noise_is_not() -> None:
    """The label is the largest of three coordinates, which a linear map reads off; a shuffled label is chance, 1/3."""
    generator = torch.Generator().manual_seed(0)
    train, test = draw(2000, generator), draw(1000, generator)
    label, truth = train[:, :3].argmax(-1), test[:, :3].argmax(-1)
    assert linear_probe(train, label, test, truth, 1e-3) > 96
    shuffled = label[torch.randperm(len(label), generator=generator)]
    assert linear_probe(train, shuffled, test, truth, 1e-3) == pytest.approx(100 / 3, abs=6)


def test_products_of_signs_are_beyond_it() -> None:
    """XOR of two coordinates is not linear: chance, 1/2."""
    generator = torch.Generator().manual_seed(0)
    train, test = draw(2000, generator), draw(1000, generator)
    accuracy = linear_probe(
        train, (train[:, 0] * train[:, 1] > 0).long(), test, (test[:, 0] * test[:, 1] > 0).long(), 1e-3
    )
    assert accuracy == pytest.approx(50, abs=6)
