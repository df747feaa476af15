"""Fusion and losses against figures computed elsewhere, and against loops over frames."""

import math

import pytest
import torch
from torch.nn import functional as F

from kvtp.module._relevance_loss import clip_loss, frame_loss
from kvtp.relevance._fusion import Fusion, logits

E = torch.tensor([[1, 0, 0, 0], [1.2, 1.6, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.3, 0.4]])
Q = torch.tensor([[0.0, 1, 0, 0]])
SCALE, BIAS = torch.tensor(10.0), torch.tensor(-2.0)
NEAR = [
    [1.090033, 0.720266, 0, 0],
    [1.109967, 0.879734, 0, 0],
    [0, 0.622459, 0.377541, 0],
    [0, 0.377541, 0.622459, 0],
    [0, 0, 0.3, 0.4],
]
FUSED = {
    "normalised": [-1.391415, 5.887674, 7.823835, -1.416805, -1.669127],
    "paper": [-1.391415, 5.915376, 7.823835, -1.416805, -1.655708],
}


def close(found: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=1e-5)


def test_example() -> None:
    """KVTP's worked example: five frames in clips of two, both temperatures 1."""
    fusion = Fusion(2, 0.05, 0.05, "normalised", 1.0)
    near, far = fusion.context(E)
    close(near, NEAR)
    close(logits(E, Q, SCALE, BIAS)[0], [-2, 6, 8, -2, -2])
    close(logits(near, Q, SCALE, BIAS)[0], [3.512921, 4.211415, 6.550194, 3.18596, -2])
    close(logits(far, Q, SCALE, BIAS)[0], [4.658786, 5.54207, 5.926508, 4.477946, 4.617468])


@pytest.mark.parametrize("query", ["normalised", "paper"])
def test_fused_logits(query: str) -> None:
    close(Fusion(2, 0.05, 0.05, query, 1.0)(E, Q, SCALE, BIAS)[0], FUSED[query])


@pytest.mark.parametrize("clip", [1, 3, 4, 7, 20])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_context_frame_by_frame(clip: int, temperature: float) -> None:
    """Seven frames, each attending in a loop of its own."""
    frames = torch.randn(7, 6, generator=torch.Generator().manual_seed(clip))
    fusion = Fusion(clip, 0.1, 0.2, "paper", temperature)
    near, far = fusion.context(frames)
    for place in range(7):
        start = place // clip * clip
        for found, others in ((near[place], frames[start : start + clip]), (far[place], frames)):
            keys = torch.stack([other / other.norm() for other in others])
            weights = torch.softmax(keys @ frames[place] / (temperature * math.sqrt(6)), 0)
            torch.testing.assert_close(found.detach(), weights @ others)
    if clip == 1:
        torch.testing.assert_close(near.detach(), frames)
    if clip >= 7:
        torch.testing.assert_close(near, far)


def test_every_text_has_logits_of_its_own() -> None:
    frames, parts = torch.randn(5, 4), torch.randn(3, 4)
    fusion = Fusion(2, 0.05, 0.05, "paper", 1.0)
    each = torch.cat([fusion(frames, part[None], SCALE, BIAS) for part in parts])
    torch.testing.assert_close(fusion(frames, parts, SCALE, BIAS), each)


def test_temperatures_learn() -> None:
    fusion = Fusion(2, 0.3, 0.3, "paper", 1.0)
    fusion(E, Q, SCALE, BIAS).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs() > 0 for weight in fusion.parameters())
    assert {name for name, _ in fusion.named_parameters()} == {"local_temperature", "global_temperature"}


def test_losses() -> None:
    """Worked examples: released loss on clips, the paper's on frames; equal labels teach nothing."""
    labels = torch.tensor([4.0, 4, 1, 1, 0])
    found = torch.tensor(FUSED["normalised"])
    assert clip_loss(found, labels, 2).item() == pytest.approx(5.280792, abs=1e-5)
    assert frame_loss(found, labels).item() == pytest.approx(10.919096, abs=1e-5)
    assert frame_loss(torch.tensor([2.0, -1, 0]), torch.tensor([3.0, 0, 0])).item() == pytest.approx(
        1.0245588, abs=1e-6
    )
    even = torch.tensor([2.0, -1, 0], requires_grad=True)
    loss = frame_loss(even, torch.full((3,), 2.0))
    loss.backward()
    assert loss.item() == pytest.approx(3 * math.log(2))
    assert even.grad.abs().max() == 0


def test_clip_pooling() -> None:
    """Softmax pooling of [0, 1, 2, 3] in clips of two: 0.731059 and 2.731059."""
    pooled = torch.tensor([0.731059, 2.731059])
    labels = torch.tensor([1.0, 9.0, 0.0, 9.0])
    expected = -F.logsigmoid(pooled * torch.tensor([0.5, -0.5])).sum()
    assert clip_loss(torch.arange(4.0), labels, 2).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"clip": 0}, "fusion.clip must be"),
        ({"theta": 1.5}, "fusion.theta must be"),
        ({"theta": 0.6, "phi": 0.5}, "fusion.phi must be"),
        ({"query": "both"}, "fusion.query must be"),
        ({"temperature": 0.0}, "fusion.temperature must be above 0, got 0"),
    ],
)
def test_bad_settings_are_refused(bad: dict, rule: str) -> None:
    usual = {"clip": 8, "theta": 0.05, "phi": 0.05, "query": "paper", "temperature": 1.0}
    with pytest.raises(ValueError, match=rule):
        Fusion(**(usual | bad))
