"""What the decoder gets for each question, against transformers' own logits."""

from types import SimpleNamespace

import pytest
import torch
from hydra.errors import InstantiationException
from toys import component
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from kvtp.data._states import half

EACH = 64  # tokens of a frame


@pytest.fixture
def chosen(data, tiny, random_checkpoints):
    """`chosen(budget=…)`: with a trainer that has a backbone."""

    def make(**changed):
        relevance = {
            "checkpoint": str(random_checkpoints / "tiny_siglip"),
            "device": "cpu",
            **changed.pop("relevance", {}),
        }
        made = data("chosen", **{"states": None, "relevance": relevance, **changed})
        made.trainer = SimpleNamespace(lightning_module=SimpleNamespace(backbone=tiny()))
        return made

    return make


def test_whole_frames_nearest_to_each_question(chosen, random_checkpoints) -> None:
    """Two of twelve frames: those with transformers' highest logits for the question's text."""
    batch = chosen(size=3, open_ended=1, lettered=2).batch(0)
    folder = random_checkpoints / "tiny_siglip"
    model, words = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prepare = AutoImageProcessor.from_pretrained(folder)
    parts = batch.parts.of(3, 12, EACH)
    assert [film for film, _ in parts] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [talk.about for talk in batch.talks] == list(range(9))
    assert [talk.form for talk in batch.talks] == ["open_ended", "lettered", "lettered"] * 3
    assert batch.parts.retention == pytest.approx(2 / 12, abs=1e-4)
    for talk, (film, rows) in zip(batch.talks, parts, strict=True):
        pixels = prepare(images=list(batch.seen[film].numpy()), return_tensors="pt").pixel_values
        text = words(talk.prompt.bare, padding="max_length", max_length=64, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(input_ids=text, pixel_values=pixels).logits_per_text[0]
        frames = sorted(logits.topk(2).indices.tolist())
        assert rows.tolist() == [frame * EACH + place for frame in frames for place in range(EACH)]


def test_of_frames_that_are_not_whole_random_tokens(chosen) -> None:
    made = chosen(size=2)
    made.budget = component("budget", "uniform", retention_ratio=0.25, rounding="largest_remainder")
    batch = made.batch(0)
    parts = [rows for _, rows in batch.parts.of(2, 12, EACH)]
    assert all(torch.bincount(rows // EACH, minlength=12).tolist() == [16] * 12 for rows in parts)
    assert all((rows.diff() > 0).all() for rows in parts)
    assert len({tuple(rows.tolist()) for rows in parts}) == len(parts)


def test_a_batch_is_a_function_of_its_number(chosen) -> None:
    one, other = chosen(), chosen()
    other.batch(1)
    first, again = one.batch(3), other.batch(3)
    assert first.talks == again.talks
    pairs = zip(first.parts.parts, again.parts.parts, strict=True)
    assert all(mine[0] == theirs[0] and mine[1].equal(theirs[1]) for mine, theirs in pairs)


def test_validation_asks_all_about_a_film(chosen) -> None:
    made = chosen()
    assert made.held_out == 2
    batch = made.held_out_batch(1)
    kinds = ["colour", "shape", "place", "after", "last"]
    assert sorted(talk.kind for talk in batch.talks) == sorted(kinds + [f"open_{kind}" for kind in kinds])
    asked = {question.text for question in made.asked(1)}
    assert {talk.prompt.bare for talk in batch.talks} == asked


def test_what_needs_a_backbone_is_refused(chosen) -> None:
    with pytest.raises(InstantiationException, match=r"data\.relevance\.tower=own"):
        chosen(relevance={"tower": "backbone"})


def test_labels_can_choose_the_frames(chosen) -> None:
    """Two of twelve frames, two per clip: those of the clip that shows what is asked about, by the film's events."""
    made = chosen(size=4, open_ended=0, lettered=3, kinds=["colour", "place"])
    made.relevance = component("relevance", "oracle")
    batch = made.batch(0)
    films = made.draw(made.random(0))
    for talk, (film, rows) in zip(batch.talks, batch.parts.of(4, 12, EACH), strict=True):
        words = talk.prompt.bare.rstrip("?").split()
        event = next(one for one in films[film].events if one.shape == words[-1])
        assert set((rows // EACH // 2).tolist()) == set(event.clips)


@torch.no_grad()
def test_kept_states_and_pictures_are_of_the_same_films(chosen, tmp_path) -> None:
    looked = chosen(size=2).batch(0)
    kept = chosen(size=2, states=str(tmp_path))
    kept.prepare_data()
    batch = kept.batch(0)
    assert batch.talks == looked.talks
    backbone = kept.trainer.lightning_module.backbone
    for states, pixels in zip(batch.seen, looked.seen, strict=True):
        torch.testing.assert_close(states, half(backbone.look(pixels)))
