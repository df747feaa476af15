"""The predictor's training: its loss by hand, what learns, and what it leaves."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toys import component, toy_question, toy_tokens
from transformers import SiglipImageProcessor

from kvtp.data.sparsekv import Judged, Judgements
from kvtp.module._relevance_loss import clip_loss, frame_loss
from kvtp.module.relevance import Relevance
from kvtp.types import Frames

FUSION = {"clip": 2, "theta": 0.1, "phi": 0.2, "query": "paper", "temperature": 0.5}
TEXTS = ("Where is the red ring?", "Which object comes last?")


@pytest.fixture(scope="module")
def siglip(checkpoint: Path) -> str:
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(checkpoint / "siglip")
    return str(checkpoint / "siglip")


def module(siglip: str, **changed: Any) -> Relevance:
    told = {"revision": None, "padding": "max_length", "fusion": FUSION, "loss": "frame", "share": 0.2}
    told |= {"rate_temperature": 2, "gradient_checkpointing": False, "lr": 1e-3, "temperature_lr": None}
    return Relevance(siglip, **{**told, "weight_decay": 0.0, "warmup": 1, "betas": (0.9, 0.98), **changed})


def video(frames: int, seed: int) -> Judged:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (frames, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 6, (2, frames), generator=generator).float()
    return Judged(f"{seed}.mp4", pixels, TEXTS, labels)


BATCH = Judgements((video(5, 0), video(3, 1)))


@pytest.mark.parametrize("loss", ["frame", "clip"])
def test_the_loss_is_the_mean_over_questions(siglip: str, loss: str) -> None:
    trained = module(siglip, loss=loss)
    trained.log_dict = lambda *told, **more: None
    each = []
    for one in BATCH.videos:
        for scores, labels in zip(trained.score(one), one.labels, strict=True):
            each.append(frame_loss(scores, labels) if loss == "frame" else clip_loss(scores, labels, 2))
    torch.testing.assert_close(trained.training_step(BATCH, 0), sum(each) / 4)


def test_what_is_trained_is_what_is_used(siglip: str, tmp_path: Path) -> None:
    """Saved, and read as relevance=kvtp, it gives the scores that training saw."""
    trained = module(siglip)
    with torch.no_grad():
        trained.fusion.local_temperature.add_(0.3)
        trained.encoder.model.logit_bias.add_(1)
    trained.save(tmp_path)
    assert json.loads((tmp_path / "fusion.json").read_text())["theta"] == 0.1
    used = component("relevance", "kvtp", checkpoint=str(tmp_path), device="cpu")
    long = " ".join(TEXTS * 3)  # of several parts, the best of which counts
    one = BATCH.videos[0]._replace(texts=(*TEXTS, long))
    frames = Frames(one.pixels, torch.arange(5).double(), torch.arange(5), 5.0, "none")
    with torch.no_grad():
        expected = trained.score(one)
    for text, scores in zip(one.texts, expected, strict=True):
        found = used(frames, toy_tokens([4] * 5, (2, 2)), toy_question(text=text))
        torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_everything_learns(siglip: str, checkpointing: bool) -> None:
    trained = module(siglip, gradient_checkpointing=checkpointing)
    trained.log_dict = lambda *told, **more: None
    trained.training_step(BATCH, 0).backward()
    still = {name for name, weight in trained.named_parameters() if weight.grad is None or not weight.grad.any()}
    # a softmax does not change with what a bias of the keys adds to all of it
    assert not {name for name in still if "k_proj.bias" not in name}


def test_gradients_are_the_same_with_checkpointing(siglip: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        trained = module(siglip, gradient_checkpointing=checkpointing)
        trained.log_dict = lambda *told, **more: None
        trained.training_step(BATCH, 0).backward()
        gradients.append({name: weight.grad for name, weight in trained.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4)


def test_temperatures_may_have_a_rate_of_their_own(siglip: str) -> None:
    trained = module(siglip, temperature_lr=0.5)
    trained._trainer = SimpleNamespace(max_steps=10)
    groups = trained.configure_optimizers()["optimizer"].param_groups
    rates = {id(weight): group["initial_lr"] for group in groups for weight in group["params"]}
    assert {rates[id(weight)] for weight in trained.fusion.parameters()} == {0.5}
    assert {rates[id(weight)] for weight in trained.encoder.parameters()} == {1e-3}


def test_it_learns_which_frame_matters(siglip: str) -> None:
    """One video whose third frame matters: after some steps it is the best."""
    torch.manual_seed(0)
    labels = torch.tensor([[0.0, 0, 5, 0, 0]]).expand(2, 5)
    batch = Judgements((video(5, 0)._replace(labels=labels),))
    trained = module(siglip)
    trained.log_dict = lambda *told, **more: None
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = trained.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert trained.score(batch.videos[0]).argmax(1).tolist() == [2, 2]
