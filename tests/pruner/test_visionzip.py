"""VisionZip against the released code's numbers and against its definition, token by token."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from toys import component, toy_budget, toy_tokens, unchecked

from kvtp.types import VisualTokens

FIXTURE = np.load(Path(__file__).parent.parent / "fixtures" / "visionzip.npz")
NEWLINE = 7.0


def released_video() -> VisualTokens:
    """8 frames of 4×4."""
    read = {name: torch.from_numpy(FIXTURE[name]).flatten(0, 1) for name in ("received_attention", "tower_keys")}
    video = torch.from_numpy(FIXTURE["video"]).flatten(0, 1)
    return toy_tokens([16] * 8, (4, 4), features=video, **read)


def one_token_at_a_time(
    tokens: VisualTokens, granted: list[int], ratio: Fraction, variant: str = "paper"
) -> tuple[list[int], torch.Tensor]:
    attention, keys = tokens.cues.received_attention.tolist(), tokens.cues.tower_keys.double()
    x, kept = tokens.features.double(), {}
    for frame, count in enumerate(granted):
        rows = [row for row in range(len(tokens)) if tokens.frame[row] == frame]
        best = sorted(rows, key=lambda row: -attention[row])[: int(count * ratio)]
        for place, row in zip(best if variant == "official" else sorted(best), sorted(best), strict=True):
            kept[place] = x[row]
        rest = [row for row in rows if row not in best]
        if count == 0:
            continue
        few = count - len(best)
        targets = rest[:: max(1, len(rest) // few)][:few]
        joining = {row: [] for row in targets}
        for row in rest:
            if row not in joining:
                cosine = [float(keys[row] @ keys[one] / keys[row].norm() / keys[one].norm()) for one in targets]
                joining[targets[int(np.argmax(cosine))]].append(x[row])
        for row, members in joining.items():
            kept[row] = x[row] + (sum(members) / len(members) if members else 0)
    index = sorted(kept)
    return index, torch.stack([kept[row] for row in index])


@pytest.mark.parametrize("count", [4, 6])
def test_the_released_code(count: int) -> None:
    """Of each frame it tells the dominant tokens, then the contextual ones, each in raster order; a newline ends it."""
    tokens, dominant = released_video(), int(count * 0.75)
    selection = component("pruner", "visionzip", dominant_ratio=0.75)(tokens, toy_budget([count] * 8, tokens))
    theirs = torch.from_numpy(FIXTURE[f"t{count}_tokens"])
    assert (theirs[-1] == NEWLINE).all()
    kept = tokens.keep(selection)
    for frame, told in enumerate(theirs[:-1].unflatten(0, (8, count))):
        rows, mine = selection.index[kept.frame == frame], selection.features[kept.frame == frame]
        whole = torch.isclose(mine, tokens.features[rows], atol=1e-6).all(1)
        assert int(whole.sum()) == dominant, "and all contextual ones have members here"
        assert torch.allclose(torch.cat([mine[whole], mine[~whole]]), told, atol=1e-5, rtol=0)


def test_the_released_code_with_newlines_after_rows() -> None:
    """Its dominant tokens stand in each other's places: of the first frame 5, 6, 13 and 14 in those of 13, 6, 5, 14."""
    tokens, budget = released_video(), toy_budget([6] * 8, released_video())
    said, right = (
        component("pruner", "visionzip", dominant_ratio=0.75, variant=variant)(tokens, budget)
        for variant in ("official", "paper")
    )
    told, lines = torch.from_numpy(FIXTURE["t6grid_tokens"]), []
    kept = tokens.keep(said)
    for frame in range(8):
        for row in range(4):
            lines += [*said.features[(kept.frame == frame) & (kept.row == row)], torch.full((32,), NEWLINE)]
    assert torch.allclose(torch.stack(lines), told, atol=1e-5, rtol=0)
    assert torch.equal(said.index, right.index)
    assert said.index[:6].tolist() == [0, 5, 6, 8, 13, 14]
    assert torch.equal(said.features[1], tokens.features[13])
    assert not torch.allclose(said.features, right.features)
    for frame in range(8):
        mine, theirs = (one.features[6 * frame : 6 * frame + 6] for one in (said, right))
        assert sorted(mine.tolist()) == sorted(theirs.tolist()), "the same set"


PER_FRAME = [16, 16, 16, 16, 3, 1, 0, 9]
GRANTED = [[7, 16, 0, 2, 3, 1, 0, 5], [1, 10, 15, 8, 1, 0, 0, 9], [6] * 4 + [3, 1, 0, 6]]


@pytest.mark.parametrize("granted", GRANTED)
@pytest.mark.parametrize("ratio", ["0", "0.5", "0.7", "0.84375", "0.99"])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_equals_one_token_at_a_time(variant: str, ratio: str, granted: list[int]) -> None:
    tokens = toy_tokens(PER_FRAME, (4, 4), seed=len(ratio))
    pruner = component("pruner", "visionzip", dominant_ratio=float(ratio), variant=variant)
    selection = pruner(tokens, toy_budget(granted, tokens))
    index, features = one_token_at_a_time(tokens, granted, Fraction(ratio), variant)
    assert selection.index.tolist() == index
    assert torch.allclose(selection.features.double(), features, atol=1e-5)


@pytest.mark.parametrize(("ratio", "dominant"), [("0.84375", 42), ("0.58", 29), ("0.56", 28)])
def test_the_share_of_whole_tokens_is_rounded_down(ratio: str, dominant: int) -> None:
    """Of 50 tokens; 0.58 · 50 is 28.999999999999996 in double precision."""
    tokens = toy_tokens([196], (14, 14), tower_keys=torch.ones(196, 4))  # all the rest joins one
    selection = component("pruner", "visionzip", dominant_ratio=float(ratio))(tokens, toy_budget([50], tokens))
    index, features = one_token_at_a_time(tokens, [50], Fraction(ratio))
    assert selection.index.tolist() == index
    assert torch.allclose(selection.features.double(), features, atol=1e-5)
    assert set(tokens.cues.received_attention.topk(dominant).indices.tolist()) <= set(index)
    others = sorted(set(range(196)) - set(tokens.cues.received_attention.topk(dominant).indices.tolist()))
    assert set(index) & set(others) == set(others[:: len(others) // (50 - dominant)][: 50 - dominant])


def test_a_number_of_tokens_holds_whatever_the_budget() -> None:
    """Which therefore binds no frame: one that differs between frames is refused, as for all whose scope is video."""
    tokens = toy_tokens([16, 3, 0, 16], (4, 4))
    fixed, free = component("pruner", "visionzip", tokens=5), component("pruner", "visionzip")
    assert (fixed.scope, free.scope) == ("video", "frame")
    said, same = fixed(tokens, toy_budget([2, 2, 0, 2], tokens)), free(tokens, toy_budget([5, 3, 0, 5], tokens))
    assert torch.equal(said.index, same.index)
    assert torch.equal(said.features, same.features)


def test_the_mean_is_added_and_not_averaged() -> None:
    """One token of eight that are all alike: x + mean of seven x."""
    tokens = toy_tokens([8], (2, 4), features=torch.full((8, 3), 1.5))
    selection = component("pruner", "visionzip")(tokens, toy_budget([1], tokens))
    assert selection.index.tolist() == [0]
    assert torch.allclose(selection.features, torch.full((1, 3), 3.0))


def test_ties_go_to_the_earlier() -> None:
    """Equal attention, equal keys: the first are dominant, and all the rest joins the first contextual token."""
    alike = {"received_attention": torch.ones(9), "tower_keys": torch.ones(9, 2)}
    tokens = toy_tokens([9], (3, 3), features=torch.eye(9), **alike)
    selection = component("pruner", "visionzip", dominant_ratio=0.5)(tokens, toy_budget([4], tokens))
    assert selection.index.tolist() == [0, 1, 2, 5]
    joined = torch.eye(9)[2] + torch.eye(9)[[3, 4, 6, 7, 8]].mean(0)
    assert torch.allclose(selection.features, torch.stack([*torch.eye(9)[:2], joined, torch.eye(9)[5]]))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"dominant_ratio": 1.0}, r"dominant_ratio must be in \[0, 1\), got 1.0"),
        ({"dominant_ratio": -0.1}, r"dominant_ratio must be in \[0, 1\), got -0.1"),
        ({"tokens": 0}, r"tokens must be a whole number in \[1, inf\], got 0"),
        ({"variant": "released"}, "variant must be one of paper, official"),
        ({"positions": "reset"}, "positions must be one of keep, renumber"),
    ],
)
def test_what_cannot_be(changed: dict, complaint: str) -> None:
    with unchecked(), pytest.raises(InstantiationException, match=complaint):
        component("pruner", "visionzip", **changed)
