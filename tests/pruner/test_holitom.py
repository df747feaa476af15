"""HoliTom against the released code's numbers, and against a token at a time in numpy; its windows against all ways to
cut a short film."""

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_tokens, unchecked

from kvtp.pruner._windows import windows
from kvtp.types import Budget, Selection, VisualTokens

FIXTURE = np.load(Path(__file__).parent.parent / "fixtures" / "holitom.npz")


def select(tokens: VisualTokens, ratio: float = 0.25, **changed: object) -> Selection:
    pruner = component("pruner", "holitom", retention_ratio=ratio, **changed)
    return pruner(tokens, Budget(tokens.per_frame, ratio))


def released() -> VisualTokens:
    """8 frames of 4×4."""
    attention = torch.from_numpy(FIXTURE["received_attention"]).flatten()
    video = torch.from_numpy(FIXTURE["video"]).reshape(128, 32)
    return toy_tokens([16] * 8, (4, 4), features=video, received_attention=attention)


def clip(sizes: list[int], grid: tuple[int, int], seed: int, scattered: bool = False) -> VisualTokens:
    """A scene of three frames, and so on; in each, some cells stand still and others drift. `scattered`: any cells of
    the grid are there, not the first ones."""
    random = np.random.default_rng(seed)
    cells = grid[0] * grid[1]
    there = [np.sort(random.permutation(cells)[:size]) if scattered else np.arange(size) for size in sizes]
    rows, state, moving = [], np.zeros((cells, 12)), np.zeros(cells, dtype=bool)
    for frame, held in enumerate(there):
        if frame % 3 == 0:
            state, moving = random.standard_normal((cells, 12)), random.random(cells) < 0.4
        shown = state + 0.05 * random.standard_normal((cells, 12))
        rows.append(shown[held])
        state = state + moving[:, None] * random.standard_normal((cells, 12))
    place = torch.from_numpy(np.concatenate(there))
    tokens = toy_tokens(sizes, grid, features=torch.from_numpy(np.concatenate(rows)).float(), seed=seed)
    return replace(tokens, row=place // grid[1], column=place % grid[1])


# --- a token at a time ------------------------------------------------------------------------------------------------


def still_cells(tokens: VisualTokens, tau: float) -> np.ndarray:
    """[T, N]: whether the cell is as alike in the next frame."""
    grid = tokens.grid
    features = {
        (frame, row * grid[1] + column): vector.double().numpy()
        for frame, row, column, vector in zip(
            tokens.frame.tolist(), tokens.row.tolist(), tokens.column.tolist(), tokens.features, strict=True
        )
    }
    still = np.zeros((tokens.frames, grid[0] * grid[1]), dtype=bool)
    for (frame, cell), one in features.items():
        two = features.get((frame + 1, cell))
        if two is not None:
            still[frame, cell] = one @ two / (np.linalg.norm(one) * np.linalg.norm(two)) > tau
    return still


def gain(still: np.ndarray, first: int, last: int) -> int:
    return (last - first) * int(still[first:last].all(0).sum()) if last > first else 0


def cut(still: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """The released recursion: a longer window has to be strictly better than no window, and than shorter ones."""
    best, begin = {-1: 0}, {}
    for end in range(len(still)):
        best[end], begin[end] = best[end - 1], end
        for size in range(2, min(end + 1, longest) + 1):
            first = end - size + 1
            if best[first - 1] + gain(still, first, end) > best[end]:
                best[end], begin[end] = best[first - 1] + gain(still, first, end), first
    found, end = [], len(still) - 1
    while end >= 0:
        found.append((begin[end], end))
        end = begin[end] - 1
    return found[::-1]


def clustered(points: list[np.ndarray], count: int, neighbours: int, beta: float) -> dict[int, np.ndarray]:
    """Centres by density peaks, each with the mean of what is nearest to it."""
    size = len(points)
    apart = [[np.linalg.norm(one - two) / math.sqrt(len(one)) for two in points] for one in points]
    near = min(neighbours, count)
    density = [math.exp(-np.mean([d * d for d in sorted(row)[:near]])) for row in apart]
    score = []
    for i in range(size):
        denser = [apart[i][j] for j in range(size) if density[j] > density[i]]
        score.append(density[i] * (min(denser) if denser else max(map(max, apart))))
    centres = sorted(sorted(range(size), key=lambda i: -score[i])[:count])
    members: dict[int, list[np.ndarray]] = {centre: [] for centre in centres}
    for i in range(size):
        if i not in members:
            members[min(centres, key=lambda c: apart[i][c])].append(points[i])
    return {
        centre: beta * points[centre] + (1 - beta) * np.mean(joined, 0) if joined else points[centre]
        for centre, joined in members.items()
    }


def one_token_at_a_time(
    tokens: VisualTokens, ratio: float, tau: float, beta: float, neighbours: int, longest: int
) -> list[tuple[int, np.ndarray]]:
    """Rows and features, window by window: static ones, then frame by frame the dynamic ones."""
    cells = (tokens.row * tokens.grid[1] + tokens.column).tolist()
    held = {place: row for row, place in enumerate(zip(tokens.frame.tolist(), cells, strict=True))}
    features, attention = tokens.features.double().numpy(), tokens.cues.received_attention.tolist()
    still = still_cells(tokens, tau)
    found = cut(still, longest)
    static = [
        [cell for cell in range(still.shape[1]) if last > first and still[first:last, cell].all()]
        for first, last in found
    ]
    reduced = sum((last - first) * len(cells) for (first, last), cells in zip(found, static, strict=True))
    every = len(tokens)
    share = min(Fraction(str(ratio)) * every / (every - reduced), 1)
    out = []
    for (first, last), repeated in zip(found, static, strict=True):
        frames = range(first, last + 1)
        mean = [np.mean([features[held[frame, cell]] for frame in frames], 0) for cell in repeated]
        count = round(len(repeated) * share)
        if count:
            out += [(held[first, repeated[i]], y) for i, y in clustered(mean, count, neighbours, beta).items()]
        for frame in frames:
            own = [row for (at, cell), row in held.items() if at == frame and cell not in repeated]
            best = sorted(own, key=lambda row: -attention[row])[: math.ceil(len(own) * share)]
            out += [(row, features[row]) for row in sorted(best)]
    return out


def agree(selection: Selection, expected: list[tuple[int, np.ndarray]]) -> None:
    assert selection.index.tolist() == [row for row, _ in expected]
    assert selection.features is not None
    assert np.allclose(selection.features.numpy(), np.stack([vector for _, vector in expected]), atol=1e-5)


# --- the released numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ratio", "tau", "variant"),
    [("r25", 0.25, 0.8, "official"), ("r25grid", 0.25, 0.8, "paper"), ("r10", 0.1, 0.65, "official")],
)
def test_the_released_code(name: str, ratio: float, tau: float, variant: str) -> None:
    """In the released order: for hosts with one newline (7.0 everywhere) at the end, and with one per row."""
    expected = FIXTURE[f"{name}_tokens"]
    expected = expected[(expected != 7).any(1)]
    selection = select(released(), ratio, tau=tau, variant=variant)
    assert np.allclose(selection.features.numpy(), expected, atol=1e-6)


STATIC = {0.25: ([2, 6, 7, 9, 14], [9, 10, 14, 15]), 0.1: ([9, 15], [10, 14])}
DYNAMIC = {
    0.25: [[5, 10, 13], [5, 11, 13], [1, 5, 13], [1, 5, 12], [4, 5, 7, 8], [2, 5, 8, 11], [1, 2, 8, 11], [1, 4, 7, 8]],
    0.1: [[5, 13], [5, 13], [1, 13], [1, 12], [4, 8], [5, 11], [2, 11], [1, 7]],
}


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize(("ratio", "tau"), [(0.25, 0.8), (0.1, 0.65)])
def test_the_released_rows(ratio: float, tau: float, variant: str) -> None:
    """Windows (0, 3) and (4, 7): static cells in frames 0 and 4."""
    selection = select(released(), ratio, tau=tau, variant=variant)
    expected = {16 * frame + cell for frame, cells in enumerate(DYNAMIC[ratio]) for cell in cells}
    expected |= {16 * frame + cell for frame, cells in zip((0, 4), STATIC[ratio], strict=True) for cell in cells}
    assert sorted(selection.index.tolist()) == sorted(expected)


@pytest.mark.parametrize("name", ["r25", "r25grid", "r10"])
def test_the_released_windows(name: str) -> None:
    still = still_cells(released(), 0.65 if name == "r10" else 0.8)
    first, length, static = windows(torch.from_numpy(still), 1024)
    assert np.array_equal(torch.stack([first, first + length - 1], 1), FIXTURE[f"{name}_windows"])
    if name == "r25":
        assert ((length - 1) * static.sum(1)).sum() == 57


# --- windows ----------------------------------------------------------------------------------------------------------


def partitions(first: int, frames: int) -> Iterator[list[tuple[int, int]]]:
    if first == frames:
        yield []
    for last in range(first, frames):
        for rest in partitions(last + 1, frames):
            yield [(first, last), *rest]


@pytest.mark.parametrize("longest", [1, 2, 3, 1024])
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_windows_are_the_best_of_all(frames: int, longest: int) -> None:
    random = np.random.default_rng(frames)
    for chance in (0.3, 0.6, 0.8, 0.95):
        still = random.random((frames, 4)) < chance
        still[-1] = False
        first, length, static = windows(torch.from_numpy(still), longest)
        last = first + length - 1
        found = list(zip(first.tolist(), last.tolist(), strict=True))
        saved = {
            tuple(way): sum(gain(still, *window) for window in way)
            for way in partitions(0, frames)
            if all(last - first < longest for first, last in way)
        }
        best = max(saved.values())
        assert found == cut(still, longest)
        assert saved[tuple(found)] == best == ((length - 1) * static.sum(1)).sum()
        for (begin, end), cells in zip(found, static, strict=True):
            assert cells.tolist() == (still[begin:end].all(0) & (end > begin)).tolist()


def test_ties_go_to_the_single_frame_then_to_the_shortest_window() -> None:
    """Cell 0 is still in frames 0–2, cell 1 in frames 2–4."""
    still = torch.zeros(5, 2, dtype=torch.bool)
    assert windows(still, 9)[1].tolist() == [1, 1, 1, 1, 1]  # nothing is
    still[:2, 0], still[2:4, 1] = True, True
    first, length, static = windows(still, 9)  # 2 + 1 tokens saved; cut after frame 1: 1 + 2
    assert first.tolist() == [0, 3]
    assert length.tolist() == [3, 2]
    assert static.tolist() == [[True, False], [False, True]]
    assert windows(still, 2)[1].tolist() == [2, 2, 1]  # as much as 2, 1, 2 and 1, 2, 2


# --- the whole --------------------------------------------------------------------------------------------------------

CLIPS = {
    "square": ([16] * 9, (4, 4), False),
    "not square": ([10] * 7, (2, 5), False),
    "no grid": ([30] * 6, (1, 30), False),
    "ragged": ([16, 12, 16, 0, 9, 16, 16, 1, 16, 16, 16], (4, 4), False),
    "scattered": ([14, 15, 15, 16, 13, 15, 15, 15], (4, 4), True),
    "one frame": ([16], (4, 4), False),
    "two frames": ([25, 25], (5, 5), False),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize(("ratio", "tau"), [(0.1, 0.65), (0.25, 0.8), (0.5, 0.9), (0.8, 0.8)])
def test_equals_one_token_at_a_time(name: str, ratio: float, tau: float) -> None:
    sizes, grid, scattered = CLIPS[name]
    for seed in range(3):
        tokens = clip(sizes, grid, seed, scattered)
        expected = one_token_at_a_time(tokens, ratio, tau, 0.6, 7, 1024)
        agree(select(tokens, ratio, tau=tau, variant="official"), expected)
        agree(select(tokens, ratio, tau=tau), sorted(expected, key=lambda entry: entry[0]))


@pytest.mark.parametrize(
    "changed", [{"beta": 0.0}, {"beta": 1.0}, {"neighbours": 1}, {"neighbours": 3}, {"window_max": 2}, {"tau": -1.0}]
)
def test_options_do_what_they_say(changed: dict[str, float]) -> None:
    tokens = clip([24] * 12, (4, 6), seed=1)
    chosen = {"tau": 0.8, "beta": 0.6, "neighbours": 7, "window_max": 1024}
    usual = one_token_at_a_time(tokens, 0.2, *chosen.values())
    expected = one_token_at_a_time(tokens, 0.2, *(chosen | changed).values())
    assert len(usual) != len(expected) or not all(
        one[0] == two[0] and np.allclose(one[1], two[1]) for one, two in zip(usual, expected, strict=True)
    )
    agree(select(tokens, 0.2, **changed, variant="official"), expected)


def test_a_picture_shown_for_long() -> None:
    """16 cells, 5 frames: one window, r' = 0.1 / (16/80) = 0.5, so 8 centres in the first frame."""
    picture = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 8))).float()
    tokens = toy_tokens([16] * 5, (4, 4), features=picture.repeat(5, 1))
    selection = select(tokens, 0.1)
    assert len(selection) == 8
    assert (selection.index < 16).all()
    centres = select(tokens, 0.1, beta=1.0)
    assert torch.allclose(centres.features, picture[centres.index], atol=1e-6)
    assert torch.equal(centres.index, selection.index)


def test_no_more_than_there_is() -> None:
    """One picture for 5 frames is 0.2 of its tokens, and r asks for 0.5: r' is 1."""
    picture = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 8))).float()
    tokens = toy_tokens([16] * 5, (4, 4), features=picture.repeat(5, 1))
    selection = select(tokens, 0.5)
    assert selection.index.tolist() == list(range(16))
    assert torch.allclose(selection.features, picture, atol=1e-6)


@pytest.mark.parametrize(("count", "kept"), [(5, 2), (7, 4), (4, 2), (1, 0)])
def test_half_a_centre_goes_to_the_even(count: int, kept: int) -> None:
    """Two frames of n still cells, r' = 0.5: n/2 centres."""
    random = np.random.default_rng(count)
    picture = torch.from_numpy(random.standard_normal((count, 8))).float()
    assert len(select(toy_tokens([count] * 2, (1, count), features=picture.repeat(2, 1)), 0.25)) == kept


def test_what_is_not_still_is_rounded_up_frame_by_frame() -> None:
    """tau = 1 leaves nothing still: 0.3 · 16 = 4.8 and 0.3 · 7 = 2.1, in raster order, features unchanged."""
    tokens = toy_tokens([16, 7, 0, 16], (4, 4))
    selection = select(tokens, 0.3, tau=1.0)
    assert tokens.keep(selection).per_frame.tolist() == [5, 3, 0, 5]
    assert torch.equal(selection.features, tokens.features[selection.index])


def test_float_noise_costs_no_token() -> None:
    """0.07 · 100 is a little more than 7 in floating point, but no reason for an eighth token."""
    assert 0.07 * 100 > 7
    tokens = toy_tokens([100] * 2, (10, 10))
    assert tokens.keep(select(tokens, 0.07, tau=1.0)).per_frame.tolist() == [7, 7]


def test_among_equals_the_earlier() -> None:
    """Equal attention in a single frame; equal static tokens in a window of two."""
    flat = torch.full((16,), 1 / 16)
    tokens = toy_tokens([16], (4, 4), received_attention=flat)
    assert select(tokens, 0.25).index.tolist() == [0, 1, 2, 3]
    same = toy_tokens([16] * 2, (4, 4), features=torch.ones(32, 8))
    assert select(same, 0.125).index.tolist() == [0, 1, 2, 3]
    assert torch.allclose(select(same, 0.125).features, torch.ones(4, 8))


def test_a_row_of_prompt_follows_the_other() -> None:
    pruner = component("pruner", "holitom")
    assert (pruner.positions, pruner.scope, pruner.layers) == ("renumber", "video", (0,))
    assert pruner.cues == {"received_attention"}
    assert component("pruner", "holitom", positions="keep").positions == "keep"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"retention_ratio": 0}, "retention_ratio must be in"),
        ({"tau": 1.1}, "tau must be in"),
        ({"beta": -0.1}, "beta must be in"),
        ({"neighbours": 0}, "neighbours must be a whole number"),
        ({"window_max": 0}, "window_max must be a whole number"),
        ({"window_max": 2.5}, "window_max must be a whole number"),
        ({"variant": "released"}, "variant must be one of"),
        ({"positions": "new"}, "positions must be one of"),
    ],
)
def test_options_are_checked(changed: dict[str, object], rule: str) -> None:
    ratio = changed.pop("retention_ratio", 0.3)
    with unchecked(), pytest.raises(InstantiationException, match=rule):
        component("pruner", "holitom", retention_ratio=ratio, **changed)
