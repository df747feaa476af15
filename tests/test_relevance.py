"""What every relevance that needs no weights promises, and the oracle by hand."""

import pytest
import torch
from toys import component, toy_frames, toy_question, toy_tokens


@pytest.mark.parametrize("option", ["uniform", "oracle"])
def test_one_finite_score_per_frame(option: str) -> None:
    tokens = toy_tokens([4] * 5, (2, 2))
    frames = toy_frames([0, 1, 2, 3, 4], 5)
    score = component("relevance", option)(frames, tokens, toy_question(relevance=(1.0, 0.0)))
    assert score.shape == (5,)
    assert score.dtype == torch.float32
    assert score.isfinite().all()
