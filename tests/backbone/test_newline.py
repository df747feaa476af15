"""Where the host puts newlines: the layout micro-examples of KVTP's release, and its expected counts."""

import random
from dataclasses import replace
from math import comb

import pytest
import torch

from kvtp.backbone._state import NEWLINES, Prefill, newline_follows, newline_keys
from kvtp.types import Prompt, Selection, VisualTokens

NEWLINE, FRAME_END = -7.0, -9.0


def grid_tokens(frames, rows, columns):
    places = torch.cartesian_prod(torch.arange(frames), torch.arange(rows), torch.arange(columns)).T
    every = torch.arange(places.shape[1])
    return VisualTokens(
        features=every[:, None].float(),
        frame=places[0],
        row=places[1],
        column=places[2],
        frames=frames,
        grid=(rows, columns),
        timestamps=torch.arange(frames, dtype=torch.float64),
        position=every,
        original=every,
    )


def sequence(tokens, newline):
    """The laid-out sequence of a toy whose token i is the number i, newlines −7, text −1 (before) and −2 (after)."""
    text = torch.tensor([[-1.0]]), torch.tensor([[-2.0]])
    prompt = Prompt("", "", (0, 0), "toy")
    ends = {"none": [], "grid_frame": [[NEWLINE], [FRAME_END]]}.get(newline, [[NEWLINE]])
    return Prefill.lay_out(prompt, text[0], tokens, text[1], newline, torch.tensor(ends).reshape(-1, 1))


def shown(state):
    return [int(x) for x in state.hidden[:, 0]]


def cut(state, index):
    return state.keep(Selection(torch.tensor(index, dtype=torch.int64)), renumber=True, compress_cache=False)


@pytest.mark.parametrize(
    ("order", "expected"),
    [([4, 0, 5, 8], [4, -7, 0, -7, 5, -7, 8, -7]), ([0, 4, 5, 8], [0, -7, 4, 5, -7, 8, -7])],
)
def test_three_columns(order, expected):
    """M6, W = 3: `4 NL 0 NL 5 NL 8` in the released order, `0 NL 4 5 NL 8` sorted.

    The release closes the last row only for its random method; this host always closes it.
    """
    assert shown(cut(sequence(grid_tokens(1, 3, 3), "grid"), order)) == [-1, *expected, -2]


def test_rows_without_a_token_get_none():
    """Vista-LLM's release, 4 × 4: of the kept 0 2 3 9 15, called 0 to 4, comes 0 1 2 NL 3 NL 4 NL."""
    assert shown(cut(sequence(grid_tokens(1, 4, 4), "grid"), [0, 2, 3, 9, 15])) == [-1, 0, 2, 3, -7, 9, -7, 15, -7, -2]


def test_full_grid_of_thirteen():
    """M6: newlines at 13, 27, 41, … of 182."""
    state = sequence(grid_tokens(1, 13, 13), "grid")
    newlines = [place - 1 for place, value in enumerate(shown(state)) if value == NEWLINE]
    assert newlines == list(range(13, 182, 14))
    assert state.count == (169, 13, 2)


@pytest.mark.parametrize(
    ("newline", "expected"),
    [
        ("grid", [0, 1, -7, 2, 3, -7, 4, 5, -7, 6, 7, -7]),
        ("frame", [0, 1, 2, 3, -7, 4, 5, 6, 7, -7]),
        ("one_token", [0, 1, 2, 3, 4, 5, 6, 7, -7]),
        ("grid_frame", [0, 1, -7, 2, 3, -7, -9, 4, 5, -7, 6, 7, -7, -9]),
        ("none", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_modes(newline, expected):
    state = sequence(grid_tokens(2, 2, 2), newline)
    assert shown(state) == [-1, *expected, -2]
    assert shown(cut(state, [])) == [-1, -2]


@pytest.mark.parametrize(("frames", "side", "newline", "expected"), [
    (64, 14, "none", 12_544), (64, 14, "one_token", 12_545), (64, 14, "frame", 12_608), (64, 14, "grid", 13_440),
    (64, 13, "none", 10_816),
])  # fmt: skip
def test_llava_video_counts(frames, side, newline, expected):
    """64 frames of LLaVA-Video: bilinear 14×14 or average 13×13 tokens, by newline mode."""
    assert len(sequence(grid_tokens(frames, side, side), newline)) - 2 == expected


@pytest.mark.parametrize(("kept", "random_order", "ascending"), [
    (16, 13.8, 8.4), (33, 29.8, 11.3), (84, 76.8, 12.0), (169, 155.8, 12.0),
])  # fmt: skip
def test_expected_newlines_of_random_picks(kept, random_order, ascending):
    """M16, 13×13: newlines between neighbours (so without the last row's), random order and sorted.

    Closed forms: (n − 1)(1 − 12/168) changes of row in random order; sorted, rows with ≥ 1 of n tokens, less one.
    The tabled figures are simulated: at n = 16 sorted the exact value is 8.61, not 8.4.
    """
    in_random_order = (kept - 1) * (1 - 12 / 168)
    sorted_order = 13 * (1 - comb(156, kept) / comb(169, kept)) - 1
    assert in_random_order == pytest.approx(random_order, abs=0.35)
    assert sorted_order == pytest.approx(ascending, abs=0.25)
    tokens, rng = grid_tokens(1, 13, 13), random.Random(kept)

    def between(index):
        picked = tokens.keep(Selection(torch.tensor(index)))
        return int(newline_follows(newline_keys(picked, "grid")).sum()) - 1

    draws = [rng.sample(range(169), kept) for _ in range(300)]
    assert sum(map(between, draws)) / 300 == pytest.approx(in_random_order, abs=0.35)
    assert sum(between(sorted(d)) for d in draws) / 300 == pytest.approx(sorted_order, abs=0.35)


@pytest.mark.parametrize("newline", NEWLINES)
def test_cuts_after_cuts(newline):
    """Cutting twice leaves what cutting once to the same tokens leaves, rows and newlines alike."""
    tokens, rng = grid_tokens(3, 3, 4), random.Random(1)
    for _ in range(20):
        first = sorted(rng.sample(range(36), rng.randint(1, 36)))
        second = sorted(rng.sample(range(len(first)), rng.randint(0, len(first))))
        once = cut(sequence(tokens, newline), [first[place] for place in second])
        twice = cut(cut(sequence(tokens, newline), first), second)
        assert shown(twice) == shown(once)
        assert twice.count == once.count


def test_a_kind_without_a_newline_is_refused():
    """It would be filled with what stands next in memory."""
    tokens, text = grid_tokens(1, 2, 2), torch.zeros(1, 1)
    with pytest.raises(ValueError, match="newline=grid_frame needs 2 kinds of newlines, this host has 1"):
        Prefill.lay_out(Prompt("", "", (0, 0), ""), text, tokens, text, "grid_frame", torch.tensor([[NEWLINE]]))


def test_positions_keep_or_renumber():
    state = sequence(grid_tokens(1, 2, 2), "grid")  # -1 | 0 1 NL 2 3 NL | -2
    kept = state.keep(Selection(torch.tensor([1, 2])), renumber=False, compress_cache=False)
    assert kept.position.tolist() == [0, 2, 3, 4, 6, 7]
    assert kept.next_position == 8
    assert kept.visual.position.tolist() == [2, 4]
    again = state.keep(Selection(torch.tensor([1, 2])), renumber=True, compress_cache=False)
    assert again.position.tolist() == [0, 1, 2, 3, 4, 5]
    assert again.next_position == 6


def test_three_axes_of_positions_are_kept():
    state = sequence(grid_tokens(1, 2, 2), "none")
    state = replace(state, position=torch.stack([state.position, state.position * 10, state.position * 100]))
    for renumber in (False, True):  # M-RoPE always keeps
        kept = state.keep(Selection(torch.tensor([3])), renumber=renumber, compress_cache=False)
        assert kept.position.tolist() == [[0, 4, 5], [0, 40, 50], [0, 400, 500]]
        assert kept.visual.position.tolist() == [[4], [40], [400]]
        assert kept.next_position == state.next_position
