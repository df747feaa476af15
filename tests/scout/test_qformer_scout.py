"""The scout against transformers' plain attention, index maps against loops, and what is looked at how often."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from math import floor
from unittest.mock import Mock

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from toys import LONG, WHERE, component, noise_frames, toy_question, toy_tokens, unchecked
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    CLIPConfig,
)

import kvtp.scout.qformer
from kvtp.backbone._pixels import CLIP_MEAN, CLIP_STD, squash
from kvtp.backbone.base import AbstractBackbone
from kvtp.relevance._similarity import by_token_frame
from kvtp.scout._blip2 import match, saliency, see
from kvtp.scout.qformer import QFormer, on_grid
from kvtp.types import Frames


@pytest.fixture(scope="module")
def frames() -> Frames:
    return noise_frames()


@pytest.fixture
def make(random_checkpoints):
    def make(**changed):
        folder = changed.pop("folder", random_checkpoints / "tiny_qformer")
        return component("scout", "qformer", checkpoint=str(folder), device="cpu", **changed)

    return make


def tokens_of(frames: int, grid: tuple[int, int]):
    return toy_tokens([grid[0] * grid[1]] * frames, grid)


def plain(folder, pixels: torch.Tensor, text: str, shared: bool = False) -> torch.Tensor:
    """Equation 6 by the model with plain attention, which tells its weights: one score per picture and patch."""
    model = Blip2ForImageTextRetrieval.from_pretrained(folder, attn_implementation="eager").eval()
    words = AutoTokenizer.from_pretrained(folder)
    ids = words(text, truncation=True, return_tensors="pt").input_ids.expand(len(pixels), -1)
    if shared:
        weights = model.state_dict()
        moved = {
            name.replace("_query.", "."): weight for name, weight in weights.items() if "_query." in name
        }  # intermediate_query → intermediate, output_query → output
        model.load_state_dict(weights | moved)
    with torch.no_grad():
        queries = model.query_tokens.expand(len(pixels), -1, -1)
        attention = model.qformer(
            query_embeds=model.embeddings(input_ids=ids, query_embeds=queries),
            query_length=queries.shape[1],
            encoder_hidden_states=model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True)[0],
            output_attentions=True,
        ).cross_attentions[-1]
    found = torch.zeros(len(pixels), attention.shape[-1] - 1)
    for picture in range(len(pixels)):
        for query in range(attention.shape[2]):
            found[picture] += attention[picture, :, query].max(0).values[1:]
    return found


# -- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text_ffn", ["own", "shared"])
@pytest.mark.parametrize("text", [WHERE, LONG])
def test_scores_are_those_of_plain_attention(make, random_checkpoints, frames, monkeypatch, text_ffn, text) -> None:
    """Pixels apart, which are resized by torch here and by PIL there; LONG is cut off."""
    random = torch.Generator().manual_seed(3)
    pixels = torch.randn(5, 3, 128, 128, generator=random)
    chunks = iter(pixels.split(2))
    monkeypatch.setattr(kvtp.scout.qformer, "squash", lambda *told: next(chunks))
    scout = make(text_ffn=text_ffn, frame_chunk=2)
    cues = scout(frames, toy_question(text=text), tokens_of(5, (16, 16))).cues
    expected = plain(random_checkpoints / "tiny_qformer", pixels, text, shared=text_ffn == "shared")
    torch.testing.assert_close(cues.scout_patches, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cues.scout.view(5, 256), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 1e-4, "patches differ in it"


def test_words_have_layers_of_their_own(make, frames) -> None:
    own, shared = (
        make(text_ffn=kind)(frames, toy_question(text=WHERE), tokens_of(5, (16, 16))).cues.scout
        for kind in ("own", "shared")
    )
    assert not own.allclose(shared, atol=1e-3)


def test_the_question_is_read_as_it_is(make, frames) -> None:
    """Not as relevance predictors have it."""
    scout, tokens = make(), tokens_of(5, (16, 16))
    told = scout(frames, toy_question(text=WHERE), tokens).cues.scout
    assert scout(frames, toy_question(text=WHERE, debiased="What happens?"), tokens).cues.scout.equal(told)
    assert not scout(frames, toy_question(text="What happens?"), tokens).cues.scout.allclose(told)


def test_pictures_are_the_checkpoints_own(make, random_checkpoints, frames, monkeypatch) -> None:
    """Within two of 255 levels: PIL rounds between rows and columns."""
    given = []
    monkeypatch.setattr(kvtp.scout.qformer, "see", lambda model, pixels: given.append(pixels) or see(model, pixels))
    make().look(frames)
    processor = AutoImageProcessor.from_pretrained(random_checkpoints / "tiny_qformer")
    expected = processor(images=list(frames.pixels.numpy()), return_tensors="pt").pixel_values
    torch.testing.assert_close(torch.cat(given), expected, atol=2 * 2 / 255 + 1e-6, rtol=0)


def test_reduction_of_the_specification() -> None:
    """2 heads × 2 queries × (class token + 4)."""
    first = [[0.2, 0.5, 0.1, 0.1, 0.1], [0.2] * 5]
    second = [[0.1, 0.1, 0.6, 0.1, 0.1], [0.4, 0.1, 0.1, 0.3, 0.1]]
    found = saliency(torch.tensor([[first, second]]), "max")
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.8, 0.4, 0.3]]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_it_is_about_the_same(make, frames, dtype) -> None:
    tokens = tokens_of(5, (16, 16))
    full, half = (make(dtype=kind)(frames, toy_question(text=WHERE), tokens).cues.scout for kind in ("float32", dtype))
    assert half.dtype == torch.float32
    assert torch.corrcoef(torch.stack([full, half]))[0, 1] > 0.98


# -- from its grid to the tokens' ----------------------------------------------------------------------------------

ROWS = {
    14: [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13],
    13: [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11, 12],
}


@pytest.mark.parametrize("side", [14, 13])
def test_rows_of_the_released_index_map(side: int) -> None:
    """Scores that differ from row to row alone: a token row has the highest of those that fall into it."""
    patches = torch.arange(16.0)[:, None].expand(16, 16).reshape(1, 256)
    found = on_grid(patches, (side, side)).view(side, side)
    highest = [max(row for row, into in enumerate(ROWS[side]) if into == token) for token in range(side)]
    assert found[:, 0].tolist() == found[:, -1].tolist() == highest
    assert on_grid(patches.view(16, 16).T.reshape(1, 256), (side, side)).view(side, side).equal(found.T)


@pytest.mark.parametrize("grid", [(14, 14), (16, 16), (13, 23), (5, 4), (20, 40), (1, 1), (3, 16)])
def test_a_token_has_the_highest_of_its_patches(grid) -> None:
    random = torch.Generator().manual_seed(0)
    patches = torch.rand(3, 256, generator=random)
    rows, columns = grid
    expected = torch.full((3, rows * columns), -1.0)
    for row in range(16):
        for column in range(16):
            place = floor((row + 0.5) / 16 * rows) * columns + floor((column + 0.5) / 16 * columns)
            expected[:, place] = expected[:, place].maximum(patches[:, row * 16 + column])
    for row in range(rows):
        for column in range(columns):
            if expected[0, row * columns + column] < 0:  # no patch's centre is in it
                own = floor((row + 0.5) / rows * 16) * 16 + floor((column + 0.5) / columns * 16)
                expected[:, row * columns + column] = patches[:, own]
    assert on_grid(patches, grid).equal(expected)


def test_frames_may_lack_tokens(make, frames) -> None:
    """Each of those that are there has what it has among all."""
    scout, question = make(), toy_question(text=WHERE)
    whole = scout(frames, question, tokens_of(5, (7, 7))).cues.scout.view(5, 7, 7)
    some = toy_tokens([3, 49, 1, 20, 30], (7, 7))
    assert scout(frames, question, some).cues.scout.equal(whole[some.frame, some.row, some.column])


def test_pairs_have_the_higher_score() -> None:
    """The specification's example; of an odd number the last stands alone."""
    rows = torch.tensor([[1.0, 5.0], [2.0, 4.0], [9.0, 0.0]])
    times = torch.arange(3, dtype=torch.float64)
    found = by_token_frame(rows, times, torch.tensor([0.5, 2.0], dtype=torch.float64))
    assert found.tolist() == [[2, 5], [9, 0]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_each_patch_counts_by_itself(count: int) -> None:
    """As scores of whole pictures do, whatever pictures and token frames are to each other."""
    rows = torch.rand(5, 6, generator=torch.Generator().manual_seed(count))
    pictures = torch.arange(5, dtype=torch.float64)
    of_frames = torch.linspace(0, 4, count, dtype=torch.float64)
    one_by_one = torch.stack([by_token_frame(rows[:, patch], pictures, of_frames) for patch in range(6)], 1)
    assert by_token_frame(rows, pictures, of_frames).equal(one_by_one)


def test_of_a_pair_the_higher_score_counts(make, frames) -> None:
    scout, question = make(), toy_question(text=WHERE)
    single = scout(frames, question, tokens_of(5, (16, 16))).cues.scout_patches
    paired = replace(tokens_of(3, (16, 16)), timestamps=torch.tensor([0.5, 2.5, 4.0], dtype=torch.float64))
    found = scout(frames, question, paired).cues
    expected = torch.stack([single[0].maximum(single[1]), single[2].maximum(single[3]), single[4]])
    assert found.scout_patches.equal(expected)
    assert found.scout.equal(expected.flatten())


def test_tokens_without_places_are_refused(make, host) -> None:
    """Before weights are read."""
    host.gridded, host.called = False, "VideoChat2"
    scout = make()
    with pytest.raises(ValueError, match="the tokens of VideoChat2 have none; choose another method or backbone"):
        scout.meet(host)
    assert "model" not in vars(scout)


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_it_sees_what_the_tokens_show(make, frames, host, size) -> None:
    """Of a host that crops: the same scores, whatever lies outside the square in the middle."""
    pixels = torch.randint(0, 256, (5, *size, 3), generator=torch.Generator().manual_seed(8), dtype=torch.uint8)
    shown = slice(0, 64), slice(0, 64)
    offset = {64: slice(0, 64), 96: slice(16, 80)}
    square = tuple(offset[length] for length in size)
    host.field.side_effect = lambda told: square if told == size else shown
    other = 255 - pixels
    other[:, square[0], square[1]] = pixels[:, square[0], square[1]]
    found = []
    for seen in (pixels, other, pixels[:, square[0], square[1]]):
        scout = make()
        scout.meet(host)
        found.append(scout(replace(frames, pixels=seen), toy_question(text=WHERE), tokens_of(5, (4, 4))).cues.scout)
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])


# -- pictures as large as the tokens' grid -------------------------------------------------------------------------


@pytest.fixture
def host():
    """Whose tokens have a grid of 6 × 10."""
    host = Mock(spec=AbstractBackbone, gridded=True)
    host.field.return_value = (slice(None), slice(None))
    host.blank.side_effect = lambda count, size: tokens_of(count, (6, 10))
    return host


def test_a_patch_may_be_a_token(make, random_checkpoints, frames, monkeypatch, host) -> None:
    pixels, asked = torch.randn(5, 3, 48, 80, generator=torch.Generator().manual_seed(3)), []
    monkeypatch.setattr(
        kvtp.scout.qformer, "squash", lambda frames, height, width, *told: asked.append((height, width)) or pixels
    )
    scout = make(resize="tokens")
    scout.meet(host)
    scout.look(frames)
    cues = scout(frames, toy_question(text=WHERE), tokens_of(5, (6, 10))).cues
    assert asked == [(48, 80)], "6 × 10 patches of 8 pixels"
    expected = plain(random_checkpoints / "tiny_qformer", pixels, WHERE)
    torch.testing.assert_close(cues.scout.view(5, 60), expected, atol=1e-5, rtol=1e-5)
    assert cues.scout_patches is None, "they are on no grid of their own"
    assert scout.supplies == {"scout"}


def test_it_must_know_whose_tokens(make, frames) -> None:
    with pytest.raises(ValueError, match="must know whose tokens; call meet"):
        make(resize="tokens").look(frames)


# -- how often, and at what cost -----------------------------------------------------------------------------------


def test_a_video_is_looked_at_once(make, frames, monkeypatch) -> None:
    looked = []
    monkeypatch.setattr(kvtp.scout.qformer, "see", lambda model, px: looked.append(len(px)) or see(model, px))
    scout, tokens = make(frame_chunk=3), tokens_of(5, (16, 16))
    scout.look(frames)
    first = scout(frames, toy_question(text=WHERE), tokens).cues.scout
    assert not scout(frames, toy_question(text=LONG), tokens).cues.scout.allclose(first)
    assert scout(frames, toy_question(text=WHERE), tokens).cues.scout.equal(first)
    assert looked == [3, 2]
    other = replace(frames, pixels=255 - frames.pixels)
    assert not scout(other, toy_question(text=WHERE), tokens).cues.scout.allclose(first)
    assert looked == [3, 2, 3, 2]


def test_on_a_gpu_it_works_beside_the_backbone(make, frames, monkeypatch) -> None:
    """With queues that only write down: the host never waits, the question waits in its queue for the look."""
    told = []

    class Queue:
        def __init__(self, name):
            self.name = name

        def __getattr__(self, verb):
            return lambda other="": told.append((self.name, verb, getattr(other, "name", other))) or "the look"

    own, backbones = Queue("own"), Queue("backbone's")

    @contextmanager
    def within(stream):
        told.append((stream.name, "begins", ""))
        yield
        told.append((stream.name, "ends", ""))

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: backbones)
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda states, stream: told.append((stream.name, "keeps", "")))
    monkeypatch.setattr(kvtp.scout.qformer, "squash", lambda *told_to: told.append("squashes") or squash(*told_to))
    monkeypatch.setattr(kvtp.scout.qformer, "see", lambda *told_to: told.append("sees") or see(*told_to))
    expected = make()(frames, toy_question(text=WHERE), tokens_of(5, (16, 16))).cues.scout
    told.clear()
    with unchecked():
        scout = make(frame_chunk=3)
        scout.stream = own
        with monkeypatch.context() as patch:
            cat = torch.cat
            patch.setattr(
                torch, "cat", lambda parts, *dim, **told_to: told.append("joins") or cat(parts, *dim, **told_to)
            )
            scout.look(frames)
        assert told[:2] == [("own", "wait_stream", "backbone's"), ("own", "begins", "")]
        assert told[-3:] == ["joins", ("own", "record_event", ""), ("own", "ends", "")], "all of it is waited for"
        work = [one for one in told if one in ("squashes", "sees")]
        assert work == ["squashes", "squashes", "sees", "sees"], "copies from the host come first"
        for _ in range(2):
            told.clear()
            found = scout(frames, toy_question(text=WHERE), tokens_of(5, (16, 16))).cues.scout
            assert told == [("backbone's", "wait_event", "the look"), ("backbone's", "keeps", "")]
            assert found.equal(expected)


@pytest.mark.parametrize("resize", ["square", "tokens"])
@pytest.mark.parametrize("text", [WHERE, LONG])
def test_flops_are_those_that_torch_counts(make, frames, host, resize: str, text: str) -> None:
    """Of one question about a new video."""
    scout, question, tokens = make(resize=resize, frame_chunk=2), toy_question(text=text), tokens_of(5, (6, 10))
    scout.meet(host)
    scout.load(host)
    # the counter does not know the CPU's fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        scout(frames, question, tokens)
    assert scout.flops(frames, question) == counter.get_total_flops()


@pytest.fixture(scope="module")
def released(tmp_path_factory, random_checkpoints):
    """The files of Salesforce/blip2-itm-vit-g that hold no weights; the tokenizer is another."""
    folder = tmp_path_factory.mktemp("blip2-itm-vit-g")
    Blip2Config(
        vision_config=Blip2VisionConfig(),
        qformer_config=Blip2QFormerConfig(vocab_size=30523, use_qformer_text_input=True),
        image_text_hidden_size=256,
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(random_checkpoints / "tiny_qformer" / name, folder)
    BlipImageProcessor(
        size={"height": 224, "width": 224}, image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD)
    ).save_pretrained(folder)
    return folder


def test_of_full_size(make, released) -> None:
    """ViT-g, 39 layers of 257 rows, is 0.52 TFLOP a picture; the question adds two in a hundred."""
    scout, question = make(folder=released), toy_question(text=WHERE)
    pixels = torch.zeros(1, dtype=torch.uint8).expand(2, 360, 640, 3)
    frames = Frames(pixels, torch.arange(2).double(), torch.arange(2), 2.0, "none")
    assert (scout.patches, scout.checkpoint.pictures.side) == (256, 224)
    assert (scout.checkpoint.pictures.mean, scout.checkpoint.pictures.deviation) == (CLIP_MEAN, CLIP_STD)
    with torch.device("meta"):
        model = Blip2ForImageTextRetrieval(scout.checkpoint.config).eval()
    ids = torch.zeros(2, len(scout.checkpoint.words(WHERE).input_ids), dtype=torch.long, device="meta")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        seen = see(model, torch.empty(2, 3, 224, 224, device="meta"))
        tower = counter.get_total_flops()
        match(model, seen, ids, None, mapped=True)
    assert scout.flops(frames, question) == counter.get_total_flops()
    assert tower / 2 == pytest.approx(0.5207e12, rel=1e-3)
    assert counter.get_total_flops() / tower < 1.05


# -- what is refused -----------------------------------------------------------------------------------------------


def test_a_checkpoint_that_is_not_there(make, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"scout\.checkpoint .*none"):
        _ = make(folder=tmp_path / "none").identity


def test_another_family(make, tmp_path) -> None:
    CLIPConfig().save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"scout\.checkpoint must be a BLIP-2 .* got the clip .*blip2-itm-vit-g"):
        _ = make(folder=tmp_path / "clip").identity
    Blip2Config().save_pretrained(tmp_path / "generates")
    with pytest.raises(ValueError, match=r"whose Q-Former reads text"):
        _ = make(folder=tmp_path / "generates").identity


def test_weights_that_are_missing(make, host, random_checkpoints, tmp_path) -> None:
    """transformers would draw them at random."""
    shutil.copytree(random_checkpoints / "tiny_qformer", tmp_path / "other")
    small = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "ffn_dim": 8}
    config = Blip2Config.from_pretrained(tmp_path / "other")
    config.text_config = config.text_config.__class__(**small, word_embed_proj_dim=8)
    generating = Blip2ForConditionalGeneration(config)
    generating.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"lacks \d+ of its weights, first embeddings\.position_embeddings"):
        make(folder=tmp_path / "other").load(host)


def test_pictures_that_are_prepared_otherwise(make, host, random_checkpoints, tmp_path) -> None:
    shutil.copytree(random_checkpoints / "tiny_qformer", tmp_path / "other")
    BlipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"resized to 128 × 128 bicubically, .* says \(64, 64\)"):
        make(folder=tmp_path / "other").load(host)


def test_its_identity_is_its_weights(make, random_checkpoints, tmp_path) -> None:
    shutil.copytree(random_checkpoints / "tiny_qformer", tmp_path / "tiny_qformer")
    known = make().identity
    assert known == make(folder=tmp_path / "tiny_qformer").identity != ""
    file = tmp_path / "tiny_qformer" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"1234")
    assert make(folder=tmp_path / "tiny_qformer").identity != known


@pytest.mark.parametrize(("key", "value"), [("text_ffn", "none"), ("resize", "crop"), ("dtype", "int8")])
def test_choices(key: str, value: str) -> None:
    usual = {"text_ffn": "own", "resize": "square", "dtype": "float32"}
    with pytest.raises(ValueError, match=rf"scout\.{key} must be"):
        QFormer(checkpoint="here", revision=None, device="cpu", frame_chunk=1, **{**usual, key: value})
