"""What every relevance promises, whichever YAML configures it."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toys import component, options, toy_frames, toy_question, toy_tokens

CHECKPOINTS = {"siglip": "tiny_siglip", "kvtp": "tiny_kvtp", "clip": "tiny_clip"}
LONG = "What comes right after the red square that the blue circle came after, and where is it in the picture?"


@pytest.fixture(params=options("relevance"))
def relevance(request, random_checkpoints):
    if request.param not in CHECKPOINTS:
        return component("relevance", request.param)
    return component(
        "relevance", request.param, checkpoint=str(random_checkpoints / CHECKPOINTS[request.param]), device="cpu"
    )


def test_one_finite_score_per_frame(relevance) -> None:
    tokens = toy_tokens([4] * 5, (2, 2))
    frames = toy_frames([0, 1, 2, 3, 4], 5)
    score = relevance(frames, tokens, toy_question(relevance=(1.0, 0.0)))
    assert score.shape == (5,)
    assert score.dtype == torch.float32
    assert score.isfinite().all()


@pytest.mark.parametrize("text", ["Where is it?", LONG])
def test_flops_are_those_that_torch_counts(relevance, tiny, text: str) -> None:
    """Of one question about a new video; LONG needs several parts."""
    tokens = toy_tokens([4] * 5, (2, 2))
    frames, question = toy_frames([0, 1, 2, 3, 4], 5), toy_question(relevance=(1.0, 0.0), text=text)
    relevance.load(tiny(head=None))
    # the counter does not know the CPU's fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        relevance(frames, tokens, question)
    assert relevance.flops(frames, question) == counter.get_total_flops()
