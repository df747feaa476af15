"""The Q-Former's training: its losses against transformers' own forward, what learns, and what it leaves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from toys import component, toy_question, toy_tokens
from transformers import SiglipModel

from kvtp.data.region_text import Regions
from kvtp.module._alignment import key_weights
from kvtp.module.qformer import QFormer
from kvtp.scout._blip2 import saliency
from kvtp.types import Frames

QFORMER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
ALIGNMENT = {"hidden": 24, "dropout": 0.1, "keep": 4, "temperature": 0.1, "weights": "masked"}
TEXTS = ("a red ring at the top left", "What shape is the blue object?")


@pytest.fixture(scope="module")
def siglip(checkpoint: Path) -> str:
    return str(checkpoint / "siglip")


def module(siglip: str, **changed: Any) -> QFormer:
    torch.manual_seed(0)
    new = {"qformer": {**QFORMER, "max_position_embeddings": 32}, "queries": 3, "joint": 8, "vocabulary": 300}
    told: dict[str, Any] = {"checkpoint": None, "revision": None, "new": {**new, "siglip": siglip, "seed": 0}}
    told |= {"length": 16, "weight": 2.0, "alignment": ALIGNMENT, "itc_pool": "mean", "negatives": "textbook"}
    told |= {"negatives_temperature": 0.07, "lr": 1e-3, "weight_decay": 0.0, "warmup": 1, "betas": (0.9, 0.98)}
    made = QFormer(**{**told, **changed})
    made.told = {}
    made._trainer = SimpleNamespace(is_global_zero=False)
    made.log_dict = lambda values, **more: made.told.update(values)
    return made


def pairs(texts: tuple[str, ...] = TEXTS, side: int = 32, seed: int = 0) -> Regions:
    generator = torch.Generator().manual_seed(seed)
    pixels = tuple(torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8) for _ in texts)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5]]).expand(len(texts), -1)
    return Regions(pixels, texts, boxes, torch.eye(len(texts), dtype=torch.bool), 5)


def given(trained: QFormer, text: str) -> dict[str, torch.Tensor]:
    return trained.words(text, return_tensors="pt").to("cpu")


@torch.no_grad()
def test_losses_are_those_of_transformers_forward(siglip: str) -> None:
    """Of two pairs, each is the other's only wrong one: six lines, each run alone and without padding."""
    trained = module(siglip, itc_pool="max").eval()
    batch = pairs()
    loss = trained.training_step(batch, 0)
    pixels = [(pixels[None].permute(0, 3, 1, 2) / 255 - 0.5) / 0.5 for pixels in batch.pixels]

    def forward(picture: int, text: int, matching: bool) -> torch.Tensor:
        words = given(trained, TEXTS[text])
        told = {"input_ids": words.input_ids, "attention_mask": words.attention_mask}
        return trained.model(
            pixel_values=pixels[picture], use_image_text_matching_head=matching, **told
        ).logits_per_image

    logits = torch.cat([forward(picture, text, True) for picture, text in ((0, 0), (1, 1), (0, 1), (1, 0))])
    terms = F.cross_entropy(logits, torch.tensor([1, 1, 0, 0]), reduction="none")
    # a wrong text for each picture, and a wrong picture for each text: the same two lines, twice
    itm = (terms[:2].sum() + 2 * terms[2:].sum()) / 6
    torch.testing.assert_close(trained.told["train/itm"], itm, atol=1e-5, rtol=1e-4)
    cosines = torch.tensor([[forward(picture, text, False).item() for text in (0, 1)] for picture in (0, 1)])
    rows = [F.cross_entropy(one / 0.07, torch.arange(2), label_smoothing=0.1) for one in (cosines, cosines.T)]
    torch.testing.assert_close(trained.told["train/itc"], sum(rows) / 2, atol=1e-4, rtol=1e-4)

    model = trained.model
    model.set_attn_implementation("eager")
    cosine = []
    for pixel, text in zip(pixels, TEXTS, strict=True):
        seen, words = model.vision_model(pixel_values=pixel).last_hidden_state, given(trained, text)
        queries = model.query_tokens
        joined = model.embeddings(input_ids=words.input_ids, query_embeds=queries)
        attention = model.qformer(
            query_embeds=joined, query_length=3, encoder_hidden_states=seen, output_attentions=True
        ).cross_attentions[-1]
        scores = torch.stack([attention[0, :, :, patch].mean(0).sum() for patch in range(1, 17)])
        key = key_weights(scores[None], 4, 0.1, "masked") @ seen[0, 1:]
        state = model.qformer(query_embeds=model.embeddings(input_ids=words.input_ids), query_length=0)
        feature = model.text_projection(state.last_hidden_state[:, 0])
        cosine.append(F.cosine_similarity(trained.alignment.projector(key), feature))
    torch.testing.assert_close(trained.told["train/align"], 1 - torch.cat(cosine).mean(), atol=1e-4, rtol=1e-4)
    total = trained.told["train/itm"] + trained.told["train/itc"] + 2 * trained.told["train/align"]
    torch.testing.assert_close(loss, total)


def test_all_but_the_tower_learns(siglip: str) -> None:
    """And the tower is in eval mode, whatever mode the rest is in."""
    trained = module(siglip)
    for mode in (True, False, True):
        trained.train(mode)
        assert not any(part.training for part in trained.model.vision_model.modules())
        assert trained.model.qformer.dropout.training == mode
    trained.training_step(pairs(), 0).backward()
    learns = {name for name, weight in trained.named_parameters() if weight.requires_grad}
    assert {name for name, _ in trained.named_parameters()} - learns == {
        f"model.vision_model.{name}" for name, _ in trained.model.vision_model.named_parameters()
    }
    still = {name for name in learns if (grad := trained.get_parameter(name).grad) is None or not grad.any()}
    # a softmax does not change with what a bias of the keys adds to all of it
    assert not {name for name in still if not name.endswith("attention.key.bias")}


def test_without_weight_nothing_is_aligned(siglip: str) -> None:
    """But its part of the loss is told, and every parameter has a gradient, as several processes need it."""
    trained = module(siglip, weight=0.0)
    loss = trained.training_step(pairs(), 0)
    torch.testing.assert_close(loss, trained.told["train/itm"] + trained.told["train/itc"])
    loss.backward()
    assert not trained.alignment.projector[0].weight.grad.any()


def test_what_is_drawn_depends_on_the_batch_alone(siglip: str) -> None:
    """Dropout, too: not on what was drawn before, as a resumed training has drawn less."""
    trained = module(siglip)
    first = trained.training_step(pairs(), 0)
    torch.rand(7)
    assert trained.training_step(pairs(), 1).equal(first)
    assert not trained.training_step(pairs()._replace(seed=6), 0).equal(first)


def test_where_all_is_true_there_are_only_pairs(siglip: str) -> None:
    trained = module(siglip).eval()
    nothing = pairs()._replace(true=torch.ones(2, 2, dtype=torch.bool))
    found = trained._passes(nothing)
    assert found.labels.tolist() == [1, 1]
    assert trained._passes(pairs()).labels.tolist() == [1, 1, 0, 0, 0, 0]
    assert trained.training_step(nothing, 0).isfinite()
    one = pairs(("a red ring",))
    assert trained.training_step(one, 0).isfinite()


def test_pictures_may_have_unlike_sizes(siglip: str) -> None:
    trained = module(siglip).eval()
    wide = pairs(side=32)
    mixed = wide._replace(pixels=(wide.pixels[0], torch.zeros(20, 50, 3, dtype=torch.uint8)))
    pixels = trained._pixels(mixed)
    assert pixels.shape == (2, 3, 32, 32)
    assert pixels[1].eq(-1).all()
    assert pixels[0].equal(trained._pixels(wide)[0])


def test_what_is_trained_is_what_is_used(siglip: str, tmp_path: Path) -> None:
    """Saved, and read as scout=qformer, it gives the scores that validation saw; trained on, it begins there."""
    trained = module(siglip).eval()
    with torch.no_grad():
        for weight in trained.model.qformer.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    trained.save(tmp_path)
    batch = pairs()
    with torch.no_grad():
        expected = saliency(trained._passes(batch).attention, "max")
    scout = component("scout", "qformer", checkpoint=str(tmp_path), device="cpu")
    for place, text in enumerate(TEXTS):
        frames = Frames(
            batch.pixels[place][None], torch.zeros(1, dtype=torch.float64), torch.zeros(1).long(), 1.0, "none"
        )
        tokens = scout(frames, toy_question(text=text), toy_tokens([16], (4, 4)))
        torch.testing.assert_close(tokens.cues.scout_patches[0], expected[place], atol=1e-4, rtol=1e-4)
    later = module(siglip, checkpoint=str(tmp_path)).eval()
    assert later.origin == str(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(saliency(later._passes(batch).attention, "max"), expected)


def test_a_checkpoint_must_match_pictures_and_texts(siglip: str) -> None:
    with pytest.raises(
        ValueError, match=r"module.checkpoint must be a BLIP-2 whose Q-Former reads text .* got the siglip"
    ):
        module(siglip, checkpoint=siglip)


def test_the_tower_is_the_siglips(siglip: str) -> None:
    """Up to the class token, which a SigLIP has not: its states are near those of transformers' SigLIP."""
    trained = module(siglip).eval()
    pixels = trained._pixels(pairs())
    with torch.no_grad():
        mine = trained._passes(pairs()).patches
        theirs = SiglipModel.from_pretrained(siglip).vision_model(pixel_values=pixels).last_hidden_state
    assert F.cosine_similarity(mine, theirs, dim=-1).min() > 0.9


def test_validation_tells_what_is_right(siglip: str) -> None:
    """Boxes that hold all centres are always hit, empty ones never; whole pictures say nothing of where it points, a
    batch of nothing says nothing at all. Right and wrong pairs weigh the same."""
    trained = module(siglip).eval()
    batch = pairs()
    for box, expected in (
        ([0.0, 0.0, 1.0, 1.0], []),
        ([0.0, 0.0, 1.0, 0.99], [1.0, 1.0]),
        ([0.3, 0.3, 0.3, 0.3], [0.0, 0.0]),
    ):
        trained._told = []
        trained.validation_step(batch._replace(boxes=torch.tensor([box]).expand(2, -1)), 0)
        told = [value for name, value in trained._told if name == "val/pointing"]
        assert told == expected
    counts = {name: sum(1 for other, _ in trained._told if other == name) for name, _ in trained._told}
    assert counts == {"val/alignment": 2, "val/itm": 2, "val/pointing": 2, "val/pointing_mean": 2}
    trained._told = []
    empty = Regions((), (), torch.zeros(0, 4), torch.zeros(0, 0, dtype=torch.bool), 0)
    trained.validation_step(empty, 0)
    assert not trained._told


def test_the_first_pairs_are_drawn(siglip: str, tmp_path: Path) -> None:
    trained = module(siglip).eval()
    shown = []
    trained._trainer = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path)
    trained.show = lambda name, path: shown.append((name, path.name))
    trained.validation_step(pairs(), 1)
    assert not shown
    trained.validation_step(pairs(), 0)
    assert shown == [("val/where", "pointing.png")]
    assert (tmp_path / "pointing.png").stat().st_size > 5000


def test_it_learns_pairs_by_heart(siglip: str) -> None:
    """A black and a white picture; of matching alone, the last to be learnt, nothing more is asked than a beginning."""
    trained = module(siglip, alignment={**ALIGNMENT, "dropout": 0.0})
    black, white = (torch.full((32, 32, 3), tone, dtype=torch.uint8) for tone in (0, 255))
    batch = pairs()._replace(pixels=(black, white))
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    losses = []
    for step in range(120):
        optimizer.zero_grad()
        loss = trained.training_step(batch._replace(seed=step), step)
        loss.backward()
        optimizer.step()
        losses.append({name: value.item() for name, value in trained.told.items()})
    assert losses[-1]["train/itm"] < 0.6 < losses[0]["train/itm"]
    assert losses[-1]["train/itc"] < 0.4 < losses[0]["train/itc"]
    assert losses[-1]["train/align"] < 0.1 < losses[0]["train/align"]
