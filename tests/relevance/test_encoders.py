"""Relevance by dual encoders against transformers' own forward, and against parts put together by hand."""

import shutil
from dataclasses import replace
from string import ascii_letters

import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from toys import LONG, WHERE, component, noise_frames, toy_question, toy_tokens
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, GemmaTokenizer, SiglipTokenizer

from kvtp.command import CommandError
from kvtp.relevance._encoder import Checkpoint, chunks
from kvtp.relevance._similarity import by_token_frame
from kvtp.types import Frames


@pytest.fixture(scope="module")
def frames() -> Frames:
    return noise_frames()


@pytest.fixture
def make(random_checkpoints):
    def make(option: str, **changed):
        folder = changed.pop("folder", random_checkpoints / f"tiny_{option}")
        return component("relevance", option, checkpoint=str(folder), device="cpu", **changed)

    return make


def score(relevance, frames: Frames, count: int = 5, **question) -> torch.Tensor:
    return relevance(frames, toy_tokens([4] * count, (2, 2)), toy_question(**{"text": WHERE, **question}))


def logits(folder, frames: Frames, ids: list[int]) -> torch.Tensor:
    """Of transformers' own forward for one text [T]."""
    model = AutoModel.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder)(images=list(frames.pixels.numpy()), return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), pixel_values=pixels.pixel_values).logits_per_text[0]


@pytest.mark.parametrize("padding", ["max_length", "none"])
@pytest.mark.parametrize(("option", "text"), [("siglip", WHERE), ("clip", "Where is it?")])
def test_it_is_the_models_own_logit(make, random_checkpoints, frames, option: str, text: str, padding: str) -> None:
    folder = random_checkpoints / f"tiny_{option}"
    words = AutoTokenizer.from_pretrained(folder)
    length = AutoModel.from_pretrained(folder).config.text_config.max_position_embeddings
    ids = words(text, padding="max_length" if padding == "max_length" else False, max_length=length).input_ids
    found = score(make(option, padding=padding, frame_chunk=2), frames, text=text)
    torch.testing.assert_close(found, logits(folder, frames, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("option", ["siglip", "clip"])
def test_a_long_question_counts_by_its_best_part(make, random_checkpoints, frames, option: str) -> None:
    folder = random_checkpoints / f"tiny_{option}"
    length = AutoModel.from_pretrained(folder).config.text_config.max_position_embeddings
    words = AutoTokenizer.from_pretrained(folder)
    text = LONG * 4
    bare = words(text, add_special_tokens=False).input_ids
    room = length - (2 if option == "clip" else 0)
    parts = [bare[start : start + room] for start in range(0, len(bare), room)]
    assert len(parts) > 2
    if option == "clip":
        parts = [[words.bos_token_id, *part, words.eos_token_id] for part in parts]
    best = torch.stack([logits(folder, frames, part) for part in parts]).max(0).values
    torch.testing.assert_close(score(make(option, padding="none"), frames, text=text), best, atol=1e-4, rtol=1e-4)


def test_a_predictor_takes_the_best_part_of_what_the_fusion_head_makes_of_each(make, frames) -> None:
    kvtp = make("kvtp", padding="none")
    parts = kvtp.checkpoint.parts(LONG * 4)
    assert len(parts) > 1
    with torch.no_grad():
        seen = kvtp.encoder.look(frames.pixels)
        texts = [kvtp.encoder.model.get_text_features(input_ids=torch.tensor([part])).pooler_output for part in parts]
        scale, bias = kvtp.encoder.scale, kvtp.encoder.bias
        best = torch.stack([kvtp.fusion(seen, text, scale, bias)[0] for text in texts]).max(0).values
    torch.testing.assert_close(score(kvtp, frames, text=LONG * 4), best, atol=1e-4, rtol=1e-4)


@pytest.fixture
def with_words(random_checkpoints, tmp_path):
    """`with_words(tokenizer)`: the random SigLIP, with the files of a tokenizer of another class."""

    def make(tokenizer) -> Checkpoint:
        shutil.copytree(random_checkpoints / "tiny_siglip", tmp_path / "siglip")
        for file in (tmp_path / "siglip").glob("token*"):
            file.unlink()
        tokenizer.save_pretrained(tmp_path / "siglip")
        return Checkpoint(str(tmp_path / "siglip"), None, "siglip", "relevance.checkpoint")

    return make


def test_siglip_reads_with_its_own_tokenizer(with_words, tmp_path) -> None:
    """SentencePiece pieces of the lower-cased text without punctuation, and an end."""
    pieces = tmp_path / "spiece.model"
    with pieces.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter([WHERE, LONG] * 20),
            model_writer=file,
            vocab_size=36,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    found = with_words(SiglipTokenizer(str(pieces)))
    assert isinstance(found.words, SiglipTokenizer)
    plain = SentencePieceProcessor(model_file=str(pieces))
    assert found.parts(WHERE) == [[*plain.encode("where is the red ring"), 1]]
    long = plain.encode("".join(letter for letter in LONG.lower() if letter not in ",?"))
    size = found.length - 1
    assert len(long) > size
    assert found.parts(LONG) == [[*long[start : start + size], 1] for start in range(0, len(long), size)]


def test_siglip_2_reads_in_lower_case(with_words) -> None:
    """Though its tokenizer's class, Gemma's, does not."""
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *ascii_letters, "?"]
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    found = with_words(GemmaTokenizer(vocab=vocabulary, merges=[]))
    assert found.parts("Is it A?") == [[letters.index(letter) for letter in "is▁it▁a?"]]


def test_chunks() -> None:
    """KVTP's example: 70 tokens in parts of 64."""
    assert [len(part) for part in chunks(range(70), 64)] == [64, 6]
    assert [token for part in chunks(range(130), 64) for token in part] == list(range(130))
    assert chunks([], 64) == [[]]


def test_the_debiased_question_is_read(make, frames) -> None:
    siglip = make("siglip")
    assert score(siglip, frames, text="Hm?", debiased=WHERE).equal(score(siglip, frames, text=WHERE))
    assert not score(siglip, frames, text="Hm?").allclose(score(siglip, frames, text=WHERE))


def test_a_token_frame_of_two_pictures_has_the_better_one(make, frames) -> None:
    siglip = make("siglip")
    single, paired = score(siglip, frames), score(siglip, frames, count=3)
    assert paired.tolist() == [max(single[:2].tolist()), max(single[2:4].tolist()), single[4].item()]


@pytest.mark.parametrize(("pictures", "frames", "owners"), [
    (5, 16, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]),  # repeated four times, the fifth never
    (20, 16, None), (24, 16, None), (23, 16, None),  # means of neighbours
    (9, 1, None),
])  # fmt: skip
def test_every_token_frame_has_a_score(pictures, frames, owners) -> None:
    """Of its own pictures in time: by loops over them."""
    times = torch.arange(pictures, dtype=torch.float64)
    scores = torch.randperm(pictures, generator=torch.Generator().manual_seed(0)).float()
    if owners is not None:
        of_frames = times[owners]
        expected = scores[owners].tolist()
    else:
        of_frames = torch.nn.functional.adaptive_avg_pool1d(times[None], frames)[0]
        nearest = [min(range(frames), key=lambda t: abs(of_frames[t] - time)) for time in times]
        expected = [max([float(scores[n]) for n in range(pictures) if nearest[n] == t]) for t in range(frames)]
    assert by_token_frame(scores, times, of_frames).tolist() == expected


def test_a_video_is_looked_at_once(make, frames, monkeypatch) -> None:
    siglip = make("siglip")
    looked = []
    look = siglip.encoder.look
    monkeypatch.setattr(siglip.encoder, "look", lambda pixels: looked.append(len(pixels)) or look(pixels))
    siglip.look(frames)
    first = score(siglip, frames)
    assert score(siglip, frames).equal(first)
    assert looked == [5]
    other = replace(frames, pixels=255 - frames.pixels)
    assert not score(siglip, other).allclose(first)
    assert looked == [5, 5]


def test_the_backbones_tower_is_used_where_it_is_the_same(make, tiny, random_checkpoints, frames) -> None:
    backbone = tiny(head=str(random_checkpoints / "tiny_siglip"))
    tokens = backbone.encode(frames, frozenset({"frame_feature"}))
    own, asked, found = (make("siglip", tower=tower) for tower in ("own", "backbone", "auto"))
    assert asked.cues == {"frame_feature"}
    assert found.cues == frozenset()
    for _ in range(2):  # as for two methods
        own.load(backbone)
        asked.load(backbone)
        found.load(backbone)
    assert own.cues == frozenset()
    question = toy_question(text=WHERE)
    expected = own(frames, tokens, question)
    for shared in (asked, found):
        assert shared.cues == {"frame_feature"}
        # the one resizes pictures with torch, the other with PIL
        torch.testing.assert_close(shared(frames, tokens, question), expected, atol=1e-2, rtol=1e-2)
        assert shared.flops(frames, question) < own.flops(frames, question) / 5


@pytest.mark.parametrize("place", ["embeddings.patch_embedding", "encoder.layers.1.mlp.fc2", "head.layernorm"])
def test_another_tower_is_not(make, tiny, random_checkpoints, frames, place: str) -> None:
    """Be it in a single weight of its tower or of its pooling head."""
    backbone = tiny(head=str(random_checkpoints / "tiny_siglip"))
    asked, found = make("siglip", tower="backbone"), make("siglip")
    for relevance in (asked, found):
        weight = relevance.encoder.model.vision_model.get_submodule(place).weight
        with torch.no_grad():
            weight.view(-1)[3] += 0.01
    with pytest.raises(CommandError, match=r"relevance\.tower=auto"):
        asked.load(backbone)
    found.load(backbone)
    assert found.cues == frozenset()
    halved = make("siglip", dtype="bfloat16")
    halved.load(backbone)
    assert halved.cues == frozenset(), "what was asked for is not what the backbone has"
    headless = tiny(head=None)
    plain = make("siglip")
    plain.load(headless)
    assert plain.cues == frozenset()
    assert score(plain, frames).equal(score(make("siglip", tower="own"), frames))


def test_its_identity_loads_nothing(make) -> None:
    """Processes are told their devices after it has been asked for."""
    kvtp = make("kvtp")
    assert kvtp.identity
    assert not {"fusion", "encoder"} & set(vars(kvtp))


def test_what_is_saved_of_the_fusion_head_is_used(make, random_checkpoints, frames) -> None:
    """By equation 9, from the model's own embeddings, with the settings and temperatures of the file: clips of 2,
    θ 0.1, φ 0.2, temperature 0.05."""
    folder = random_checkpoints / "tiny_kvtp"
    kvtp, model = make("kvtp"), AutoModel.from_pretrained(folder)
    with torch.no_grad():
        seen = kvtp.encoder.look(frames.pixels)
        words = AutoTokenizer.from_pretrained(folder)(WHERE, padding="max_length", max_length=64, return_tensors="pt")
        text = model.get_text_features(input_ids=words.input_ids).pooler_output[0]

    def nearness(picture: torch.Tensor) -> torch.Tensor:
        return model.logit_scale.exp() * torch.cosine_similarity(picture, text, dim=0) + model.logit_bias

    expected = []
    for place in range(5):
        mixed = 0.7 * nearness(seen[place])
        for weight, group in ((0.1, seen[place // 2 * 2 : place // 2 * 2 + 2]), (0.2, seen)):
            keys = torch.stack([other / other.norm() for other in group])
            share = torch.softmax(keys @ seen[place] / (0.05 * 48**0.5), 0)
            mixed = mixed + weight * nearness(share @ group)
        expected.append(mixed.item())
    assert score(kvtp, frames).tolist() == pytest.approx(expected, abs=1e-3)


def test_without_fusion_it_is_a_siglip(make, random_checkpoints, frames) -> None:
    plain = score(make("siglip"), frames)
    assert score(make("kvtp", fusion="none"), frames).equal(plain)
    assert not score(make("kvtp"), frames).allclose(plain)
    assert score(make("kvtp", folder=random_checkpoints / "tiny_siglip", fusion="none"), frames).equal(plain)


def test_a_siglip_without_a_fusion_head_is_no_kvtp(make, random_checkpoints) -> None:
    with pytest.raises(ValueError, match=r"relevance\.fusion=none"):
        _ = make("kvtp", folder=random_checkpoints / "tiny_siglip").identity


def test_other_models_are_refused(make, random_checkpoints, tmp_path) -> None:
    with pytest.raises(ValueError, match="must be a siglip model"):
        _ = make("siglip", folder=random_checkpoints / "tiny_clip").identity
    with pytest.raises(ValueError, match="neither a folder"):
        _ = make("clip", folder=tmp_path / "nothing").identity


def test_its_identity_is_that_of_weights_and_fusion(make, random_checkpoints, tmp_path) -> None:
    shutil.copytree(random_checkpoints / "tiny_kvtp", tmp_path / "tiny_kvtp")
    here = make("kvtp", folder=tmp_path / "tiny_kvtp")
    assert here.identity == make("kvtp").identity
    told = (tmp_path / "tiny_kvtp" / "fusion.json").read_text()
    (tmp_path / "tiny_kvtp" / "fusion.json").write_text(told.replace("0.1", "0.3"))
    assert here.identity != make("kvtp").identity
