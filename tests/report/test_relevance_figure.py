"""Predicted beside true relevance."""

from io import BytesIO

import pytest
import torch

from kvtp.report.relevance import relevance_figure


def test_bars_are_the_labels_shares_and_lines_the_predictors() -> None:
    pixels = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    pixels[2] = 255
    labels, scores = torch.tensor([[0.0, 0, 5, 0]]), torch.tensor([[1.0, 1, 1, 1]])
    strip, panel = relevance_figure(pixels, ["Where?"], labels, scores, 2).axes
    shown = strip.images[0].get_array()
    assert shown.shape == (64, 256, 3)
    assert [int(shown[0, 64 * place + 32, 0]) for place in range(4)] == [0, 0, 255, 0]
    assert [bar.get_height() for bar in panel.patches] == pytest.approx([6.5865, 6.5865, 80.2404, 6.5865], abs=1e-3)
    assert panel.lines[0].get_ydata().tolist() == [25, 25, 25, 25]
    assert panel.get_title(loc="left") == "Where?"


def test_a_question_is_no_formula() -> None:
    """Matplotlib reads $…$ as mathematics, and refuses what it cannot read."""
    pixels, even = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.ones(1, 2)
    relevance_figure(pixels, [r"Is it $x_$, or $\frac$?"], even, even, 2).savefig(BytesIO())
