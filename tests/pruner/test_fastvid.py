"""FastVID against the released code's numbers, and against a token at a time."""

from dataclasses import replace
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import component, toy_tokens, unchecked

from kvtp.types import Budget, Selection, VisualTokens

FIXTURE = np.load(Path(__file__).parent.parent / "fixtures" / "fastvid.npz")
VARIANTS = ("onevision", "llava_video", "qwen2_5_vl")
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def pruned(tokens: VisualTokens, ratio: float, **changed: object) -> Selection:
    return component("pruner", "fastvid", retention_ratio=ratio, **changed)(tokens, Budget(tokens.per_frame, ratio))


def film(likeness: list[float], per_frame: list[int], grid: tuple[int, int], seed: int = 0) -> VisualTokens:
    """Consecutive frames with these cosines, later ones a little less: each turns in the plane from the one before."""
    angle = np.concatenate([[0.0], np.cumsum(np.arccos(likeness - 1e-4 * np.arange(len(likeness))))])
    scene = torch.tensor(np.stack([np.cos(angle), np.sin(angle)], 1), dtype=torch.float32)
    wide = {cue: torch.zeros(sum(per_frame), 2) for cue in ("tower_states", "tower_keys_full")}
    return toy_tokens(per_frame, grid, width=12, seed=seed, frame_feature=scene, **wide)


# -- one token at a time -----------------------------------------------------------------------------------------------


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def scenes(scene: np.ndarray, least: int, tau: float) -> tuple[list[list[int]], list[float]]:
    like = [cosine(one, two) for one, two in pairwise(scene)]
    cuts = set(sorted(range(len(like)), key=like.__getitem__)[: least - 1]) | {t for t, s in enumerate(like) if s < tau}
    found: list[list[int]] = [[]]
    for frame in range(len(scene)):
        found[-1].append(frame)
        if frame in cuts:
            found.append([])
    return found, like


def peaks(points: dict[int, np.ndarray], count: int) -> list[int]:
    """The `count` density peaks, by their definition."""
    rows = list(points)
    apart = {(i, j): np.linalg.norm(points[i] - points[j]) / len(points[i]) ** 0.5 for i in rows for j in rows}
    density = {i: np.exp(-np.mean(sorted(apart[i, j] ** 2 for j in rows)[:4])) for i in rows}
    score = {}
    for i in rows:
        denser = [apart[i, j] for j in rows if density[j] > density[i]]
        score[i] = density[i] * (min(denser) if denser else max(apart.values()))
    return sorted(rows, key=lambda i: -score[i])[:count]


def dealt(total: int, parts: int) -> list[int]:
    return [total // parts + (part < total % parts) for part in range(parts)]


def one_token_at_a_time(
    tokens: VisualTokens, ratio: float, variant: str, least: int = 8, tau: float = 0.9, step: int = 4, d: float = 0.4,
    beta: float = 0.6, ignore: float = 0.95,
) -> dict[int, np.ndarray]:  # fmt: skip
    """Row -> what stands in it."""
    x, attention = tokens.features.double().numpy(), tokens.cues.probe_attention
    rows = [(tokens.frame == frame).nonzero()[:, 0].tolist() for frame in range(tokens.frames)]
    segments, like = scenes(tokens.cues.frame_feature.double().numpy(), least, tau)
    kept = {}
    for segment in segments:
        keeping = segment
        if variant == "qwen2_5_vl":
            keeping = [frame for frame in segment if frame == segment[-1] or like[frame] < ignore]
        holders = sorted(keeping[::-1][::step])
        assert len(holders) == ceil(len(keeping) / step)
        granted = {frame: int(ratio * len(rows[frame]) + 1e-9) for frame in segment}
        if variant == "onevision":
            context = {frame: int(d * granted[frame] + 1e-9) for frame in segment}
            salient = {frame: granted[frame] - context[frame] for frame in segment}
            anchors = dict.fromkeys(holders, sum(context.values()) // len(holders))
        else:
            whole = sum(granted.values())
            some = int(d * whole + 1e-9)
            if variant == "qwen2_5_vl":
                some = max(some, 1)
            salient = dict(zip(keeping, dealt(max(whole - some, 0), len(keeping)), strict=True))
            anchors = dict(zip(holders, dealt(some, len(holders))[::-1], strict=True))
        if variant == "qwen2_5_vl":
            anchors = {frame: min(k, len(rows[frame]) // 2) for frame, k in anchors.items()}
            salient = {frame: min(s, len(rows[frame]) - anchors.get(frame, 0)) for frame, s in salient.items()}
        whole_rows = [row for frame in segment for row in rows[frame]]
        most = {f: sorted(rows[f], key=lambda row: -float(attention[row]))[:s] for f, s in salient.items()}
        rest = [row for row in whole_rows if all(row not in chosen for chosen in most.values())]
        kept |= {row: x[row] for chosen in most.values() for row in chosen}
        for frame, count in anchors.items():
            chosen = peaks({row: x[row] for row in rows[frame] if row in rest}, count)
            pool = rest if variant == "onevision" else [row for row in rest if row not in chosen]
            joined: dict[int, list[int]] = {row: [] for row in chosen}
            for row in pool if chosen else []:
                joined[max(chosen, key=lambda anchor: cosine(x[row], x[anchor]))].append(row)
            for anchor, members in joined.items():
                own = max(1 / (len(members) + 1), beta)
                mean = np.mean([x[row] for row in members], 0) if members else 0
                kept[anchor] = own * x[anchor] + (1 - own) * mean
    return kept


def same(selection: Selection, expected: dict[int, np.ndarray], tokens: VisualTokens) -> None:
    assert selection.index.tolist() == sorted(expected)
    features = tokens.keep(selection).features.numpy()
    np.testing.assert_allclose(features, np.reshape([expected[row] for row in sorted(expected)], (-1, 12)), atol=1e-5)


FILMS = {
    "several scenes": ([0.99, 0.97, 0.5, 0.96, 0.93, 0.99, 0.8, 0.99, 0.92, 0.99, 0.94, 0.96], [20] * 13, (4, 5)),
    "one scene": ([0.97] * 9, [15] * 10, (3, 5)),
    "still": ([0.999] * 8, [16] * 9, (4, 4)),
    "fewer frames than scenes": ([0.99, 0.98], [12] * 3, (3, 4)),
    "one frame": ([], [16], (4, 4)),
    "two frames, no grid": ([0.99], [7, 7], (1, 7)),
    "uneven": ([0.99, 0.97, 0.93, 0.5, 0.99], [16, 3, 9, 16, 1, 12], (4, 4)),
}


@every_variant
@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize(("ratio", "own"), [
    (0.25, {}),
    (0.1, {"segments_min": 1}),
    (0.4, {"segments_min": 3, "anchor_step": 2, "ignore": 0.98}),
    (0.3, {"segments_min": 2, "anchor_step": 3, "context_ratio": 0.7, "beta": 0.1}),
])  # fmt: skip
def test_one_token_at_a_time(variant: str, name: str, ratio: float, own: dict[str, float]) -> None:
    tokens = film(*FILMS[name], seed=len(name))
    names = {"segments_min": "least", "anchor_step": "step", "context_ratio": "d"}
    expected = one_token_at_a_time(tokens, ratio, variant, **{names.get(key, key): v for key, v in own.items()})
    same(pruned(tokens, ratio, variant=variant, **own), expected, tokens)


# -- the released code -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "ratio", "own"), [
    ("ov25", 0.25, {"segments_min": 3}),
    ("ov40", 0.4, {"segments_min": 2, "anchor_step": 2}),
    ("qwen40", 0.4, {"segments_min": 3, "variant": "qwen2_5_vl"}),
])  # fmt: skip
def test_the_released_code(name: str, ratio: float, own: dict[str, object]) -> None:
    """8 frames of 4×4, without the noise that breaks its ties."""
    video = torch.from_numpy(FIXTURE["video"]).flatten(0, 1)
    scene = torch.from_numpy(FIXTURE["frame_feature"])
    attention = torch.from_numpy(FIXTURE["probe_attention"]).flatten()
    wide = {cue: torch.zeros(128, 64) for cue in ("tower_states", "tower_keys_full")}
    tokens = toy_tokens([16] * 8, (4, 4), features=video, frame_feature=scene, probe_attention=attention, **wide)
    selection = pruned(tokens, ratio, **own)
    assert selection.index.tolist() == FIXTURE[f"{name}_index"].tolist()
    np.testing.assert_allclose(selection.features, FIXTURE[f"{name}_tokens"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("variant", "side", "counts"), [
    ("onevision", 14, {0.1: 1216, 0.15: 1856, 0.2: 2496, 0.25: 3136}),
    ("llava_video", 13, {0.1: 1024, 0.25: 2688}),
])  # fmt: skip
def test_released_counts(variant: str, side: int, counts: dict[float, int]) -> None:
    """64 frames, eight scenes of eight; newlines are not among the tokens."""
    like = [0.5 if frame % 8 == 0 else 0.99 for frame in range(1, 64)]
    tokens = film(like, [side**2] * 64, (side, side))
    assert {ratio: len(pruned(tokens, ratio, variant=variant)) for ratio in counts} == counts


# -- invariants --------------------------------------------------------------------------------------------------------


def test_every_token_of_a_scene_is_merged_once_per_holder() -> None:
    """onevision, with `beta` 0: an anchor a that n tokens went to becomes (a + their sum)/(n + 1). So n + 1 times what
    they became, added up over the anchors of one frame, is these anchors and all tokens that are not salient."""
    tokens = film([0.99] * 5, [10] * 6, (2, 5))
    selection = pruned(tokens, 0.4, segments_min=1, beta=0, context_ratio=0.25)  # R 4: 3 salient, ⌊1·6/2⌋ anchors
    best = tokens.cues.probe_attention.reshape(6, 10).topk(3).indices
    rest = torch.ones(60, dtype=torch.bool)
    rest[(10 * torch.arange(6)[:, None] + best).flatten()] = False
    for holder in (1, 5):
        of_holder = rest[selection.index] & (tokens.frame[selection.index] == holder)
        before, after = tokens.features[selection.index[of_holder]].double(), selection.features[of_holder].double()
        whole = before.sum(0) + tokens.features[rest].double().sum(0)
        times = torch.linalg.lstsq(after.T, whole).solution
        torch.testing.assert_close(times @ after, whole, atol=1e-4, rtol=0)
        torch.testing.assert_close(times, times.round(), atol=1e-3, rtol=0)
        assert int(times.round().sum()) == int(rest.sum()) + 3


@every_variant
def test_salient_tokens_are_unchanged(variant: str) -> None:
    tokens = film([0.99] * 4 + [0.5] + [0.97] * 4, [16] * 10, (4, 4))
    selection = pruned(tokens, 0.4, variant=variant, segments_min=1)
    changed = (selection.features != tokens.features[selection.index]).any(1)
    per_frame = torch.bincount(tokens.frame[selection.index[changed]], minlength=10)
    holders = [frame for frame in (0, 4, 5, 9) if variant != "qwen2_5_vl" or frame in (4, 9)]
    assert per_frame.nonzero().flatten().tolist() == holders
    attention = tokens.cues.probe_attention
    for frame in tokens.frame[selection.index].unique().tolist():
        rows = selection.index[~changed & (tokens.frame[selection.index] == frame)]
        best = (tokens.frame == frame).nonzero()[:, 0]
        best = best[attention[best].argsort(descending=True)[: len(rows)]].sort().values
        assert torch.equal(rows, best)


@pytest.mark.parametrize("variant", ["llava_video", "qwen2_5_vl"])
def test_an_anchor_that_nothing_goes_to_is_unchanged(variant: str) -> None:
    """One frame of 4 tokens, all kept or anchors: nothing is left to merge."""
    tokens = film([], [4], (2, 2))
    selection = pruned(tokens, 1.0, variant=variant)
    assert selection.index.tolist() == [0, 1, 2, 3]
    assert torch.equal(selection.features, tokens.features)


@pytest.mark.parametrize("variant", ["onevision", "llava_video"])
@pytest.mark.parametrize("ratio", [0.5, 0.7, 1.0])
def test_no_more_anchors_than_there_are_tokens(variant: str, ratio: float) -> None:
    """Where the released code fails: the fourth and the eighth frame keep all that they have, the others ⌊.6·r·N⌋ or,
    of llava_video, one more."""
    tokens = film([0.99] * 7, [16] * 8, (4, 4))
    selection = pruned(tokens, ratio, variant=variant, segments_min=1)
    per_frame = tokens.keep(selection).per_frame
    assert per_frame[[3, 7]].tolist() == [16, 16]
    granted = int(16 * ratio)
    others = per_frame[[0, 1, 2, 4, 5, 6]]
    if variant == "onevision":
        assert (others == granted - int(0.4 * granted)).all()
    else:
        salient = 8 * granted - int(0.4 * 8 * granted)
        assert others.tolist() == [salient // 8 + (frame < salient % 8) for frame in (0, 1, 2, 4, 5, 6)]


def test_nothing_granted_but_an_anchor() -> None:
    """r·N below one token: onevision and llava_video keep nothing, qwen2_5_vl an anchor of each scene."""
    tokens = film([0.5, 0.5], [9] * 3, (3, 3))
    assert [len(pruned(tokens, 0.1, variant=variant)) for variant in VARIANTS] == [0, 0, 3]


@every_variant
def test_like_tokens(variant: str) -> None:
    """All equal: the first places are taken, and means of equals are equal."""
    tokens = film([0.99] * 3, [16] * 4, (4, 4))
    tokens = replace(
        tokens, features=torch.ones(64, 12), cues=replace(tokens.cues, probe_attention=torch.ones(64) / 16)
    )
    selection = pruned(tokens, 0.5, variant=variant, segments_min=1)
    for frame in range(4):
        places = selection.index[selection.index // 16 == frame] % 16
        assert places.tolist() == list(range(len(places)))
    torch.testing.assert_close(selection.features, torch.ones(len(selection), 12), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("changed", "message"), [
    ({"variant": "qwen"}, r"variant must be one of onevision, llava_video, qwen2_5_vl, got 'qwen'; nearest: "),
    ({"segments_min": 0}, r"segments_min must be a whole number in \[1, inf\], got 0"),
    ({"anchor_step": 0}, r"anchor_step must be a whole number in \[1, inf\], got 0"),
    ({"context_ratio": 1.5}, r"context_ratio must be in \[0, 1\], got 1\.5"),
    ({"beta": -1.0}, r"beta must be in \[0, 1\], got -1"),
    ({"tau": 2.0}, r"tau must be in \[-1, 1\], got 2"),
    ({"ignore": 2.0}, r"ignore must be in \[-1, 1\], got 2"),
    ({"retention_ratio": 0.0}, r"retention_ratio must be in \(0, 1\], got 0"),
])  # fmt: skip
def test_wrong_values_name_the_rule(changed: dict[str, object], message: str) -> None:
    with unchecked(), pytest.raises(Exception, match=message):
        component("pruner", "fastvid", **changed)
