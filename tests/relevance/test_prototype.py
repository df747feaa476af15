"""Vista-LLM's relevance of a segment, against its definition told in loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from toys import component, toy_frames, toy_question, toy_tokens, unchecked

from kvtp.command import CONF
from kvtp.types import VisualTokens


def prototype(tokens: VisualTokens, tau: float, merge: bool = False, variant: str = "paper") -> torch.Tensor:
    relevance = component("relevance", "prototype", tau=tau, merge_singletons=merge, variant=variant)
    return relevance(toy_frames(range(tokens.frames), tokens.frames), tokens, toy_question())


def test_by_hand() -> None:
    """The prototype of the first two is (5.4, 0.3); as released, where a frame counts as one however long it is,
    (0.9, 0.3)."""
    looks = torch.tensor([[10.0, 0.0], [0.8, 0.6], [0.0, 2.0]])
    tokens = toy_tokens([1] * 3, (1, 1), width=2, features=looks, question_feature=torch.tensor([3.0, 0.0]))
    expected = [5.4 / (5.4**2 + 0.3**2) ** 0.5] * 2 + [0]
    assert prototype(tokens, 0.7).tolist() == pytest.approx(expected, abs=1e-6)
    expected = [0.9 / 0.9**0.5, 0.9 / 0.9**0.5, 0]
    assert prototype(tokens, 0.7, variant="official").tolist() == pytest.approx(expected, abs=1e-6)
    assert prototype(tokens, 0.9).tolist() == pytest.approx([1, 0.8, 0], abs=1e-6)


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("seed", range(10))
def test_definition(seed: int, variant: str) -> None:
    random = np.random.default_rng(seed)
    size = random.integers(1, 7, 12)
    features = torch.from_numpy(random.normal(size=(size.sum(), 5)) + 0.5).float()
    tokens = toy_tokens(size.tolist(), (1, 6), width=5, seed=seed, features=features)
    frames = [part.double().mean(0).numpy() for part in features.split(size.tolist())]
    means, frames = frames, [mean / np.linalg.norm(mean) for mean in frames]
    parts = [[0]]
    for t in range(1, 12):
        if frames[t - 1] @ frames[t] < 0.6:
            parts.append([])
        parts[-1].append(t)
    question = tokens.cues.question_feature.double().numpy()
    expected = []
    for part in parts:
        mean = np.mean([(means if variant == "paper" else frames)[t] for t in part], axis=0)
        expected += [mean @ question / np.linalg.norm(mean) / np.linalg.norm(question)] * len(part)
    assert 1 < len(parts) < 12
    assert prototype(tokens, 0.6, variant=variant).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("merge", [False, True])
def test_the_question_does_not_move_the_cuts(merge: bool) -> None:
    tokens = toy_tokens([4] * 20, (2, 2), width=3)
    changes = []
    for seed in range(4):
        question = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        score = prototype(replace(tokens, cues=replace(tokens.cues, question_feature=question)), 0.3, merge)
        changes.append((score.diff() != 0).tolist())
    assert any(changes[0])
    assert changes[1:] == changes[:-1]


def test_singletons_are_not_frames_of_their_own() -> None:
    looks = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    tokens = toy_tokens([1] * 3, (1, 1), width=2, features=looks, question_feature=torch.tensor([0.0, 1.0]))
    assert prototype(tokens, 0.5).tolist() == pytest.approx([0, 0, 1])
    assert prototype(tokens, 0.5, merge=True).tolist() == pytest.approx([0.2**0.5] * 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(dtype: torch.dtype) -> None:
    tokens = toy_tokens([196] * 4, (14, 14), width=32)
    lower = replace(tokens, features=(tokens.features + 2).to(dtype))
    exact = replace(tokens, features=lower.features.float())
    assert prototype(lower, 0.9).tolist() == pytest.approx(prototype(exact, 0.9).tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("overrides", "tau", "merge"),
    [
        (["budget=segment", "budget.tau=0.9"], 0.9, False),
        (["budget=segment_released"], 0.95, True),
        (["budget=segment", "budget.merge_singletons=true", "relevance.tau=0.5"], 0.5, True),
        (["budget=uniform"], 0.8, False),
    ],
)
def test_segments_are_those_of_the_budget(overrides: list[str], tau: float, merge: bool) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        cfg = compose("eval", ["relevance=prototype", *overrides])
        relevance = instantiate(cfg.relevance, _convert_="all")
    assert (relevance.tau, relevance.merge_singletons) == (tau, merge)


def test_without_the_question() -> None:
    tokens = toy_tokens([4] * 2, (2, 2))
    with pytest.raises(ValueError, match="question_feature"):
        prototype(replace(tokens, cues=replace(tokens.cues, question_feature=None)), 0.9)


def test_tau_is_a_cosine() -> None:
    with unchecked(), pytest.raises(InstantiationException, match="tau must be in"):
        component("relevance", "prototype", tau=1.5)
