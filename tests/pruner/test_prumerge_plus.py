"""PruMerge and PruMerge+ against numbers of the released functions and against their definition, token by token."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import component, toy_tokens

from kvtp.types import Selection, VisualTokens

FIXTURES = Path(__file__).parent.parent / "fixtures"
RELEASED = [
    ("prumerge_adaptive", "prumerge_original", None),
    ("prumerge_fixed8", "prumerge_original", 1 / 8),
    ("prumerge_plus_adaptive", "prumerge_plus", None),
]


def select(option: str, tokens: VisualTokens, **keys: object) -> Selection:
    """As the methods have it."""
    budget = component("budget", "adaptive")(torch.zeros(tokens.frames), tokens)
    return component("pruner", option, **keys)(tokens, budget)


@pytest.mark.parametrize(("name", "option", "ratio"), RELEASED)
def test_equals_released_numbers(name: str, option: str, ratio: float | None) -> None:
    """One picture of 576 patches; queries and keys of 64 numbers, the class token's first."""
    with np.load(FIXTURES / f"{name}.npz") as told:
        queries, keys, hidden, kept, out = (
            torch.from_numpy(told[key][0]) for key in ("q", "k", "hidden", "kept", "out")
        )
    attention = (queries[0] @ keys.T / 8).softmax(0)[1:]
    cues = {"cls_attention": attention, "tower_keys_full": keys[1:], "tower_states": hidden[1:]}
    tokens = toy_tokens([576], (24, 24), features=hidden[1:], **cues)
    selection = select(option, tokens, ratio=ratio)
    order = kept.argsort()
    assert selection.index.tolist() == [*kept[order].tolist(), -1]
    torch.testing.assert_close(selection.features, out[[*order.tolist(), -1]], atol=1e-5, rtol=0)


def one_frame(
    attention: np.ndarray, keys: np.ndarray, x: np.ndarray, ratio: float | None, neighbours: int, spatial: bool
) -> tuple[list[int], list[np.ndarray]]:
    """The released arithmetic, and what is added where it divides by zero; rows ascending."""
    count = len(attention)
    if ratio is None:
        low, high = np.percentile(attention, [25, 75])
        most = max(1, sum(value > high + 1.5 * (high - low) for value in attention))
        first, stride = 0, max(1, int(int(1 / (most / count)) / 3))
    else:
        most, stride = max(1, int(count * ratio)), int(1 / ratio)
        first = int(stride / 2)
    kept = set(sorted(range(count), key=lambda row: -attention[row])[:most])
    if spatial:
        kept |= set(range(first, count - 1, stride))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    rows = []
    for i in sorted(kept):
        others = sorted((j for j in range(count) if j != i), key=lambda j, i=i: -float(unit[i] @ unit[j]))
        rows.append(x[i] + sum(attention[j] * x[j] for j in others[:neighbours]))
    dropped = [j for j in range(count) if j not in kept]
    index = sorted(kept)
    if dropped:
        index.append(-1)
        rows.append(sum(attention[j] * x[j] for j in dropped))
    return index, rows


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("ratio", [None, 0.125, 0.3, 0.6, 1.0, 0.01])
@pytest.mark.parametrize("neighbours", [0, 3, 40])
def test_equals_one_frame_at_a_time(ratio: float | None, neighbours: int, spatial: bool) -> None:
    """Frames from flat to peaked attention, some of them not full."""
    size = [36, 36, 36, 7, 0, 1, 36, 2, 36, 36]
    sharp = torch.arange(len(size)).repeat_interleave(torch.tensor(size)) / 2.5
    noise = torch.randn(sum(size), generator=torch.Generator().manual_seed(3))
    tokens = toy_tokens(size, (6, 6), seed=neighbours, cls_attention=(noise * sharp).exp() / 40)
    selection = select("prumerge_plus", tokens, ratio=ratio, neighbours=neighbours, spatial=spatial)
    index, features = [], []
    for t in range(len(size)):
        rows = (tokens.frame == t).nonzero().squeeze(1)
        if not len(rows):
            continue
        values = (tokens.cues.cls_attention, tokens.cues.tower_keys_full, tokens.features)
        kept, merged = one_frame(*(value[rows].numpy() for value in values), ratio, neighbours, spatial)
        index += [int(rows[row]) if row >= 0 else -1 for row in kept]
        features += merged
    assert selection.index.tolist() == index
    torch.testing.assert_close(selection.features, torch.from_numpy(np.array(features)).float(), atol=1e-4, rtol=1e-5)


def attended(outliers: int, count: int = 144) -> torch.Tensor:
    """So many tokens, the last ones, far above the others, which differ a little."""
    return torch.cat([torch.linspace(1, 2, count - outliers), torch.linspace(20, 21, outliers)]) / 1000


@pytest.mark.parametrize(
    ("outliers", "stride"),
    [(0, 48), (1, 48), (4, 12), (8, 6), (10, 4), (14, 3), (17, 2), (24, 2), (25, 1), (30, 1)],
)
def test_grid_widens_in_steps(outliers: int, stride: int) -> None:
    """144 tokens, worked out by hand: ⌊⌊144 / c⌋ / 3⌋. No outlier counts as one."""
    tokens = toy_tokens([144], (12, 12), cls_attention=attended(outliers))
    kept = [*range(0, 143, stride), *range(144 - max(1, outliers), 144)]
    index = select("prumerge_plus", tokens).index.tolist()
    assert [row for row in index if row >= 0] == sorted(set(kept))
    assert index.count(-1) == (len(set(kept)) < 144), "one token for what was dropped, none where nothing was"


@pytest.mark.parametrize(
    ("rho", "stride", "share"),
    [
        (0.03, 11, 0.12),
        (0.055, 6, 0.21),
        (0.08, 4, 0.31),
        (0.10, 3, 0.39),
        (0.12, 2, 0.56),
        (0.15, 2, 0.58),
        (0.20, 1, 1.00),
    ],
)
def test_grid_of_576_tokens_as_released(rho: float, stride: int, share: float) -> None:
    """Strides, and shares kept to a hundredth, of runs of the released code with a share rho of outliers, wherever."""
    outliers = round(576 * rho)
    place = torch.randperm(576, generator=torch.Generator().manual_seed(0))
    peaks = torch.empty(576).index_copy_(0, place, attended(outliers, 576))
    tokens = toy_tokens([576], (24, 24), cls_attention=peaks)
    index = select("prumerge_plus", tokens).index.tolist()
    kept = [row for row in index if row >= 0]
    assert kept == sorted({*range(0, 575, stride), *place[576 - outliers :].tolist()})
    assert len(kept) / 576 == pytest.approx(share, abs=0.015)


def test_the_token_for_the_rest_closes_its_frame() -> None:
    tokens = toy_tokens([16, 16, 16], (4, 4), cls_attention=attended(2, 16).repeat(3))
    kept = tokens.keep(select("prumerge_original", tokens))
    assert kept.original.tolist() == [14, 15, -1, 30, 31, -1, 46, 47, -1]
    assert kept.frame.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert kept.position.tolist() == [14, 15, 15, 30, 31, 31, 46, 47, 47]


def test_frames_do_not_know_each_other() -> None:
    peaks = torch.cat([attended(n, 36) for n in (3, 0, 8)])
    tokens = toy_tokens([36] * 3, (6, 6), cls_attention=peaks)
    whole = tokens.keep(select("prumerge_plus", tokens))
    for t in range(3):
        rows = torch.arange(36 * t, 36 * t + 36)
        cues = {name: getattr(tokens.cues, name)[rows] for name in ("cls_attention", "tower_keys_full")}
        alone = toy_tokens([36], (6, 6), features=tokens.features[rows], **cues)
        alone = alone.keep(select("prumerge_plus", alone))
        assert torch.equal(alone.row, whole.row[whole.frame == t])
        assert torch.equal(alone.column, whole.column[whole.frame == t])
        torch.testing.assert_close(alone.features, whole.features[whole.frame == t])


@pytest.mark.parametrize("ratio", [0, 1.5, -0.1])
def test_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(Exception, match=r"ratio must be in \[.*, 1\], got"):
        component("pruner", "prumerge_plus", ratio=ratio)


def test_the_adaptive_budget_is_no_bound() -> None:
    tokens = toy_tokens([16, 0, 3], (4, 4))
    budget = component("budget", "adaptive")(torch.zeros(3), tokens)
    assert budget.per_frame.tolist() == [16, 0, 3]
    assert 1 - 1e-15 < budget.retention_ratio < 1, "at 1 the pruner would not be called"
