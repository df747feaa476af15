"""M-RoPE's positions against examples written by hand, and against `transformers`' own by its rule."""

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from kvtp.backbone._mrope import RULES, sequence_positions, video_positions

CPU = torch.device("cpu")
WHOLE_SECONDS = Version(transformers.__version__) < Version("5.23")  # 5.17 takes 0.7 s for 0 s, 5.23 does not


def slow(before, frames, grid, seconds, rate, after, rule):
    """The rules as they are told, token by token: text takes the next place on all axes, a video begins where the
    text ended, each of its tokens at (begin + truncated time, begin + row, begin + column)."""
    rows = [(place,) * 3 for place in range(before)]
    for frame in range(frames):
        for row in range(grid[0]):
            rows += [(before + int(frame * seconds * rate), before + row, before + column) for column in range(grid[1])]
    goes_on = max(max(row) for row in rows) + 1 if rule == "original" else before + max(grid)
    rows += [(goes_on + place,) * 3 for place in range(after)]
    return torch.tensor(rows).T, max(max(row) for row in rows) + 1


def positions(before, frames, grid, seconds, rate, after, rule):
    return sequence_positions(before, video_positions(frames, grid, seconds, rate, CPU), grid, after, rule)


def test_by_hand():
    """Two words, two token frames of 2 × 3, two words; 1.5 s · 2 a second from one to the next."""
    told, following = positions(2, 2, (2, 3), 1.5, 2, 2, "original")
    assert told.tolist() == [
        [0, 1, *[2] * 6, *[5] * 6, 6, 7],
        [0, 1, 2, 2, 2, 3, 3, 3, 2, 2, 2, 3, 3, 3, 6, 7],
        [0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 2, 3, 4, 6, 7],
    ]
    assert following == 8
    told, following = positions(2, 2, (2, 3), 1.5, 2, 2, "transformers")
    assert told[:, -2:].tolist() == [[5, 6]] * 3
    assert following == 7


def test_text_after_a_long_video():
    """32 × 16 × 16 patches, a second each, after three words: the last frame is at 65; text goes on at 66, or at 11."""
    for rule, first in (("original", 66), ("transformers", 11)):
        told, following = positions(3, 32, (8, 8), 1.0, 2, 40, rule)
        assert told[0, -41] == 65
        assert told[:, -40].tolist() == [first] * 3
        assert following == (106 if rule == "original" else 66), "nobody takes the last frame's place again"


def test_time_is_truncated_after_the_product():
    """0.7 s · 2: 0, 1.4, 2.8, 4.2, 5.6, 7.0 — and 7.0 is not 6.999… (0.7 has no exact binary form)."""
    assert video_positions(6, (1, 1), 0.7, 2, CPU)[0].tolist() == [0, 1, 2, 4, 5, 7]
    assert video_positions(5, (1, 1), 0.2, 2, CPU)[0].tolist() == [0, 0, 0, 1, 1]


CASES = [
    (4, 3, (2, 5), 1.0, 2, 9),
    (0, 7, (3, 2), 0.25, 2, 1),
    (11, 1, (6, 6), 1.0, 2, 30),
    (20, 9, (1, 4), 3.75, 4, 33),
    (2, 40, (2, 2), 0.5, 2, 12),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", CASES)
def test_slow_definition(case, rule):
    told, following = positions(*case, rule)
    expected, next_one = slow(*case, rule)
    assert torch.equal(told, expected)
    assert following == next_one


@pytest.mark.parametrize("case", CASES)
def test_transformers_rule_is_theirs(case):
    """Their get_rope_index, which needs a configuration and no weights."""
    before, frames, (rows, columns), seconds, rate, after = case
    if WHOLE_SECONDS and seconds % 1:
        pytest.skip("this version truncates the seconds before the product")
    model = torch.nn.Module()
    model.config = Qwen2_5_VLConfig(vision_config={"tokens_per_second": rate, "spatial_merge_size": 2})
    model.get_vision_position_ids = Qwen2_5_VLModel.get_vision_position_ids.__get__(model)
    count = frames * rows * columns
    kinds = torch.tensor([[0] * before + [2] * count + [0] * after])
    expected, delta = Qwen2_5_VLModel.get_rope_index(
        model,
        torch.zeros_like(kinds),
        kinds,
        video_grid_thw=torch.tensor([[frames, 2 * rows, 2 * columns]]),
        second_per_grid_ts=torch.tensor([seconds]),
    )
    told, following = positions(*case, "transformers")
    assert torch.equal(told, expected[:, 0])
    assert following == int(delta) + before + count + after
