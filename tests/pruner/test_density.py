"""Density peaks against the figures of Vista-LLM's released functions, and against loops over points."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal

import pytest
import torch

from kvtp.pruner._density import density_peaks, squared_distances

Point = Sequence[float]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact_squares(points: Sequence[Point]) -> torch.Tensor:
    """Through differences in double precision: distances that are equal on paper stay so."""
    x = torch.tensor(points, dtype=torch.float64)
    return ((x[:, None] - x).square().sum(2) / x.shape[1]).float()[None]


def looped(
    points: Sequence[Point], neighbours: int, itself: bool, far: str
) -> tuple[list[float], list[float], list[float]]:
    """Density, distance to the nearest denser point, their product."""
    count = range(len(points))
    apart = [[math.dist(p, q) / math.sqrt(len(p)) for q in points] for p in points]
    density = []
    for i in count:
        squares = sorted(round(apart[i][j] ** 2, 12) for j in count if itself or j != i)[:neighbours]
        density.append(math.exp(-sum(squares) / len(squares)) if squares else 1.0)
    distance = []
    for i in count:
        denser = [apart[i][j] for j in count if density[j] > density[i]]
        most = max(apart[i]) if far == "row" else max(map(max, apart))
        distance.append(min(denser) if denser else most)
    return density, distance, [a * b for a, b in zip(density, distance, strict=True)]


@pytest.mark.parametrize("case", [0, 1], ids=["K=7", "K=2: two tied maxima, each with its own farthest point"])
def test_released_figures(project_root, case: int) -> None:
    golden = json.loads((project_root / "tests/fixtures/vista_golden.json").read_text())["dpc"][case]
    figures = looped(golden["points"], golden["K"], itself=False, far="row")
    for name, figure in zip(("rho", "delta", "gamma"), figures, strict=True):
        assert figure == pytest.approx(golden[name], abs=6e-6), name
    there = torch.ones(1, 8, dtype=torch.bool)
    peaks = density_peaks(exact_squares(golden["points"]), there, golden["K"], itself=False, far="row")
    assert peaks[0].exp().tolist() == pytest.approx(golden["gamma"], abs=6e-6)


@pytest.mark.parametrize(("itself", "far"), [(False, "row"), (True, "all"), (True, "row"), (False, "all")])
@pytest.mark.parametrize("neighbours", [1, 2, 4, 30])
def test_equals_loops(neighbours: int, itself: bool, far: str) -> None:
    """FastVID's form is itself=True, far=all; Vista-LLM's the first. Points that are not there change nothing."""
    points = normal(3, 9, 5, seed=neighbours)
    there = torch.ones(3, 9, dtype=torch.bool)
    there[1, [0, 4, 8]] = False
    there[2, 2:] = False
    points[~there] = 9.0
    peaks = density_peaks(squared_distances(points), there, neighbours, itself, far)
    for batch in range(3):
        expected = looped(points[batch, there[batch]].tolist(), neighbours, itself, far)[2]
        assert peaks[batch, there[batch]].exp().tolist() == pytest.approx(expected, rel=1e-4)
    assert (peaks[~there] == -torch.inf).all()


@pytest.mark.parametrize("far", ["row", "all"])
@pytest.mark.parametrize("itself", [True, False])
def test_one_point_and_none(itself: bool, far: str) -> None:
    there = torch.tensor([[False, True, False], [False, False, False]])
    peaks = density_peaks(squared_distances(normal(2, 3, 4)), there, 7, itself, far)
    assert torch.equal(peaks.isfinite(), there)
    assert (peaks.exp() == 0).all()  # density 1, but far from nothing


def vista_peaks(*points: Point) -> list[float]:
    there = torch.ones(1, len(points), dtype=torch.bool)
    peaks = density_peaks(squared_distances(torch.tensor([points])), there, 7, itself=False, far="row")
    return peaks[0].tolist()


def test_two_points_are_equally_dense() -> None:
    """exp(−d²)·d with d = 3/√1: a single neighbour, whatever was asked for."""
    assert vista_peaks((1.0,), (4.0,)) == pytest.approx([math.log(3) - 9] * 2)


def test_points_at_one_place() -> None:
    peaks = vista_peaks(*[(0.25, 0.5, 3.0)] * 5)
    assert len(set(peaks)) == 1, "so that the earlier goes first"
    assert math.isfinite(peaks[0])


def exactly(points: Sequence[Point], neighbours: int, itself: bool, far: str) -> list[Decimal]:
    """exp(−mean d²) · distance, in decimals of which the smallest is 1e-999999."""
    rows = [[Decimal(x) for x in point] for point in points]
    count = range(len(rows))
    squares = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / len(p) for q in rows] for p in rows]
    density = []
    for i in count:
        nearest = sorted(squares[i][j] for j in count if itself or j != i)[:neighbours]
        density.append((-sum(nearest) / len(nearest)).exp())
    score = []
    for i in count:
        denser = [squares[i][j] for j in count if density[j] > density[i]]
        most = max(squares[i]) if far == "row" else max(map(max, squares))
        score.append(density[i] * (min(denser) if denser else most).sqrt())
    return score


@pytest.mark.parametrize(("itself", "far"), [(False, "row"), (True, "all")])
@pytest.mark.parametrize("scale", [1e-5, 1e-2, 1, 100])
def test_ranking_at_every_scale(scale: float, itself: bool, far: str) -> None:
    """At 100 densities are below 1e-300, at 1e-5 they differ from 1 in the tenth decimal."""
    points = scale * normal(4, 24, 6, seed=1)
    there = torch.ones(4, 24, dtype=torch.bool)
    peaks = density_peaks(squared_distances(points), there, 4, itself, far)
    for own, ranked in zip(points.tolist(), peaks.argsort(dim=1, descending=True).tolist(), strict=True):
        score = exactly(own, 4, itself, far)
        assert ranked == sorted(range(24), key=lambda i, score=score: -score[i])


def test_squared_distances_far_from_the_origin() -> None:
    """Around their mean little cancels; against differences in double precision."""
    points = normal(2, 6, 16) + 300
    double = points.double()
    expected = (double[:, :, None] - double[:, None]).square().mean(3)
    squared = squared_distances(points)
    assert torch.allclose(squared.double(), expected, atol=1e-5)
    assert (squared.diagonal(dim1=1, dim2=2) == 0).all()


def test_squared_distances_are_symmetric() -> None:
    squared = squared_distances(normal(3, 50, 37))
    assert torch.equal(squared, squared.mT)


def test_squared_distances_of_half_precision() -> None:
    points = normal(1, 6, 16).bfloat16()
    assert torch.equal(squared_distances(points), squared_distances(points.float()))
