"""Training sees what inference sees, and learns what it is told."""

import json
from math import ceil

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer, SiglipModel

from kvtp.backbone._new import new_llava
from kvtp.data._parts import Drawn, random_part
from kvtp.data._states import half
from kvtp.data.conversations import Conversations, Talk
from kvtp.module.answerer import Answerer
from kvtp.module.captioner import Captioner
from kvtp.types import Frames, Prompt, Selection

FRAMES = 6


@pytest.fixture
def backbone(tiny, checkpoint):
    return lambda **changed: tiny(checkpoint=str(checkpoint / "llava"), head=None, **changed)


def prompt(text: str) -> Prompt:
    return Prompt(text, text, (0, len(text)), "test")


def conversations(retention: float) -> Conversations:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (2, FRAMES, 32, 32, 3), generator=generator, dtype=torch.uint8)
    talks = (
        Talk(0, prompt("What colour is the ring?\nA. red"), "A", "lettered", "colour"),
        Talk(1, prompt("Where is it?"), "red ring top left", "captions", "caption"),
        Talk(0, prompt("What shape is the white object?\nA. ring\nB. cross"), "B", "lettered", "shape"),
    )
    return Conversations(pixels, talks, Drawn(retention, 1.0, 11))


@pytest.mark.parametrize("retention", [1.0, 0.3])
@pytest.mark.parametrize("newline", ["one_token", "grid"])
@pytest.mark.parametrize("pool", ["bilinear", "average"])
def test_training_sees_what_inference_sees(backbone, retention: float, newline: str, pool: str) -> None:
    """The line, question by question: encode, cut, embed, prefill, then the reply token by token."""
    module = Answerer(backbone(newline=newline, pool=pool), 1e-3, 0.0, 0, (0.9, 0.98))
    batch = conversations(retention)
    with torch.no_grad():
        logits, target = module.replies(batch)
    line = backbone(newline=newline, pool=pool)
    generator = torch.Generator().manual_seed(11)
    parts = [Selection(random_part(FRAMES, 4, retention, 1.0, generator)) for _ in batch.seen]
    for nth, talk in enumerate(batch.talks):
        pixels = batch.seen[talk.about]
        frames = Frames(pixels, torch.arange(FRAMES).double(), torch.arange(FRAMES), float(FRAMES), "none")
        state = line.embed(line.encode(frames, frozenset()), talk.prompt)
        state = state.keep(parts[talk.about], renumber=True, compress_cache=False)
        state = line.prefill(state, line.shape.layers)
        said = [*line.ids(talk.reply), line.tokenizer.eos_token_id]
        assert target[nth].tolist() == said + [-100] * (target.shape[1] - len(said))
        with torch.inference_mode():
            for step in range(len(said)):
                expected = (
                    line.decoder.logits(state) if step == 0 else line.decoder._step(state, said[step - 1], step - 1)
                )
                torch.testing.assert_close(logits[nth, step], expected, atol=2e-4, rtol=1e-3)


def test_loss_weighs_forms_alike_and_replies_alike(backbone) -> None:
    """Mean over forms of the mean over replies of the mean over their tokens, counted token by token."""
    module = Answerer(backbone(), 1e-3, 0.0, 0, (0.9, 0.98))
    module.log = module.log_dict = lambda *_, **__: None
    batch = conversations(0.5)
    with torch.no_grad():
        logits, target = module.replies(batch)
        loss = module.training_step(batch, 0)
    means = []
    for row, reply in zip(logits, target, strict=True):
        said = [(place, token) for place, token in enumerate(reply.tolist()) if token >= 0]
        means.append(sum(-F.log_softmax(row[place], -1)[token].item() for place, token in said) / len(said))
    assert loss.item() == pytest.approx(((means[0] + means[2]) / 2 + means[1]) / 2, rel=1e-5)


def test_prompts_of_a_batch_begin_alike(backbone) -> None:
    line = backbone()
    module = Answerer(line, 1e-3, 0.0, 0, (0.9, 0.98))
    line.around = lambda tokens, asked: ([1] if asked.text.startswith("Where") else [2], [3])
    with pytest.raises(ValueError, match="same text before the video"):
        module.replies(conversations(0.5))


def test_the_tower_is_frozen_and_the_rest_learns(backbone) -> None:
    module = Answerer(backbone(), 1e-3, 0.0, 0, (0.9, 0.98))
    module.log = module.log_dict = lambda *_, **__: None
    before = {name: weight.clone() for name, weight in module.model.named_parameters()}
    optimizer = torch.optim.AdamW([weight for weight in module.parameters() if weight.requires_grad], lr=1e-2)
    first = module.training_step(conversations(0.5), 0).item()
    for _ in range(30):
        optimizer.zero_grad()
        module.training_step(conversations(0.5), 0).backward()
        optimizer.step()
    assert module.training_step(conversations(0.5), 0).item() < 0.2 * first
    for name, weight in module.model.named_parameters():
        assert torch.equal(weight, before[name]) == (".vision_tower." in name), name


def test_states_stand_for_pictures(backbone) -> None:
    module = Answerer(backbone(), 1e-3, 0.0, 0, (0.9, 0.98))
    batch = conversations(0.5)
    states = torch.stack([half(module.backbone.look(pixels)) for pixels in batch.seen])
    with torch.no_grad():
        torch.testing.assert_close(module.replies(batch)[0], module.replies(batch._replace(seen=states))[0])


@pytest.mark.parametrize("retention", [0.05, 0.1, 1 / 3, 0.7, 1.0])
def test_random_part_keeps_what_it_is_told(retention: float) -> None:
    part = random_part(8, 9, retention, 2.0, torch.Generator().manual_seed(0))
    assert len(part) == ceil(retention * 72)
    assert (part.diff() > 0).all()


def test_random_part_is_fair_when_even_and_spreads_when_not() -> None:
    """Every token is equally likely; kept counts per frame then vary as a hypergeometric draw does, else more."""
    generator = torch.Generator().manual_seed(0)
    counts = {unevenness: torch.zeros(300, 8) for unevenness in (0.0, 3.0)}
    chosen = torch.zeros(72)
    for unevenness, table in counts.items():
        for nth in range(300):
            part = random_part(8, 9, 0.25, unevenness, generator)
            table[nth] = torch.bincount(part // 9, minlength=8)
            chosen[part] += unevenness == 0
    assert (chosen / 300 - 0.25).abs().max() < 0.11  # four standard deviations
    variance = 18 * (1 / 8) * (7 / 8) * (72 - 18) / 71
    assert counts[0.0].var().item() == pytest.approx(variance, rel=0.1)
    assert counts[3.0].var().item() > 2 * variance


def test_captioner_starts_from_the_siglip_and_keeps_its_start(tiny, checkpoint, tmp_path) -> None:
    decoder = {
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 4096,
    }

    def module(seed: int) -> Captioner:
        backbone = tiny(checkpoint=str(tmp_path / "start"), head=None)
        return Captioner(str(checkpoint / "siglip"), decoder, backbone, 1e-3, 0.0, 0, (0.9, 0.98), seed)

    first = module(0)
    stock = SiglipModel.from_pretrained(checkpoint / "siglip").vision_model.state_dict()
    tower = first.model.model.vision_tower.state_dict()
    assert {name for name in stock if name not in tower} == {name for name in stock if "head." in name}
    assert all(torch.equal(weight, stock[name]) for name, weight in tower.items())
    again = module(1)  # the folder is there: what was begun goes on
    assert torch.equal(again.model.lm_head.weight, first.model.lm_head.weight)
    first.save(tmp_path / "saved")
    pictures = json.loads((tmp_path / "saved" / "preprocessor_config.json").read_text())
    assert (pictures["size"], pictures["image_mean"]) == ({"height": 32, "width": 32}, [0.5, 0.5, 0.5])
    assert (tmp_path / "saved" / "video_preprocessor_config.json").exists()
    assert torch.equal(
        tiny(checkpoint=str(tmp_path / "saved"), head=None).model.lm_head.weight, first.model.lm_head.weight
    )


def test_a_tokenizer_without_a_video_token_is_refused(checkpoint) -> None:
    words = AutoTokenizer.from_pretrained(checkpoint / "siglip")
    words.get_vocab = lambda: {"red": 0}
    with pytest.raises(ValueError, match="has no <video>; take a SigLIP"):
        new_llava(SiglipModel.from_pretrained(checkpoint / "siglip"), {}, words, 0)
