"""A BLIP-2's passes one by one against transformers' own forward, and a new one against the SigLIP it is made of."""

import pytest
import torch
from released import released
from torch.nn.functional import normalize
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    SiglipModel,
)

from kvtp.data._describe import corpus
from kvtp.scout._blip2 import look, match, read, see
from kvtp.scout._new import SPECIAL, new_blip2, new_words

TEXTS = ["Where is the red ring?", "circle", "a blue square in the top left corner"]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def models(random_checkpoints):
    """The same one with fused and with plain attention, which tells its weights."""
    return [
        Blip2ForImageTextRetrieval.from_pretrained(random_checkpoints / "tiny_qformer", attn_implementation=kind).eval()
        for kind in ("sdpa", "eager")
    ]


@pytest.fixture(scope="module")
def asked(random_checkpoints):
    words = AutoTokenizer.from_pretrained(random_checkpoints / "tiny_qformer")(TEXTS, padding=True, return_tensors="pt")
    assert 0 in words.attention_mask
    pixels = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    return {"pixel_values": pixels, "input_ids": words.input_ids, "attention_mask": words.attention_mask}


@torch.no_grad()
def test_matching_is_the_models_own(models, asked) -> None:
    model, plain = models
    queries, attention = match(
        model, see(model, asked["pixel_values"]), asked["input_ids"], asked["attention_mask"], mapped=False
    )
    assert attention is None
    expected = plain(**asked, use_image_text_matching_head=True).logits_per_image
    torch.testing.assert_close(model.itm_head(queries).mean(1), expected, **CLOSE)
    assert expected.std() > 1e-3, "pictures and texts differ in it"


@torch.no_grad()
def test_without_a_mask_all_are_words(models, asked) -> None:
    model = models[0]
    seen, ids = see(model, asked["pixel_values"]), asked["input_ids"]
    (all_words, mapped), (told, same) = (match(model, seen, ids, mask, True) for mask in (None, torch.ones_like(ids)))
    torch.testing.assert_close(all_words, told, **CLOSE)
    torch.testing.assert_close(mapped, same, **CLOSE)
    padded = match(model, seen, ids, asked["attention_mask"], True)[1]
    alone = match(model, seen[1:2], ids[1:2, : asked["attention_mask"][1].sum()], None, True)[1]
    torch.testing.assert_close(padded[1:2], alone, **CLOSE)
    assert not padded[1].allclose(mapped[1], **CLOSE)


@torch.no_grad()
def test_attention_is_the_last_cross_attentions(models, asked) -> None:
    model, plain = models
    seen = see(model, asked["pixel_values"])
    _, attention = match(model, seen, asked["input_ids"], asked["attention_mask"], mapped=True)
    queries = plain.query_tokens.expand(3, -1, -1)
    told = plain.qformer(
        query_embeds=plain.embeddings(input_ids=asked["input_ids"], query_embeds=queries),
        query_length=6,
        attention_mask=torch.cat([torch.ones(3, 6, dtype=torch.long), asked["attention_mask"]], 1),
        encoder_hidden_states=seen,
        output_attentions=True,
    ).cross_attentions
    assert len(told) == 2
    torch.testing.assert_close(attention, told[-1], **CLOSE)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 4, 6))
    assert attention.std() > 1e-3


def test_attention_can_be_trained(models, asked) -> None:
    model = models[0]
    layer = model.qformer.encoder.layer[2].crossattention.attention
    _, attention = match(model, see(model, asked["pixel_values"]), asked["input_ids"], None, mapped=True)
    weights = [layer.query.weight, layer.key.weight, model.query_tokens, model.embeddings.word_embeddings.weight]
    for gradient in torch.autograd.grad(attention[..., 1:].square().sum(), weights):
        assert gradient.abs().sum() > 0
    assert not layer.query._forward_hooks, "nothing stays behind"


@torch.no_grad()
def test_text_and_picture_alone_meet_as_in_the_model(models, asked) -> None:
    """Its contrastive similarity: the query nearest to the text."""
    model, plain = models
    texts = read(model, asked["input_ids"], asked["attention_mask"])
    pictures = look(model, see(model, asked["pixel_values"]))
    assert (texts.shape, pictures.shape) == ((3, 16), (3, 6, 16))
    nearest = (normalize(pictures, dim=-1) @ normalize(texts, dim=-1).T).amax(1)
    torch.testing.assert_close(nearest, plain(**asked).logits_per_image, **CLOSE)


# -- a new one -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_new_tower_is_the_siglips(models, random_checkpoints, asked) -> None:
    """Without its class token to the last bit or so, with it nearly: that is one row of 257."""
    siglip = SiglipModel.from_pretrained(random_checkpoints / "tiny_siglip").eval()
    expected = siglip.vision_model(pixel_values=asked["pixel_values"]).last_hidden_state
    vision = models[0].vision_model
    patches = vision.embeddings(asked["pixel_values"])[:, 1:]
    alone = vision.post_layernorm(vision.encoder(inputs_embeds=patches).last_hidden_state)
    torch.testing.assert_close(alone, expected, **CLOSE)
    off = (see(models[0], asked["pixel_values"])[:, 1:] - expected).abs().mean() / expected.abs().mean()
    assert 0 < off < 0.02


def test_a_new_one_is_known_to_transformers(random_checkpoints) -> None:
    folder = random_checkpoints / "tiny_qformer"
    model, words = Blip2ForImageTextRetrieval.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.image_token_index is None
    assert words.model_max_length == model.config.qformer_config.max_position_embeddings == 24
    assert len(words) == model.config.qformer_config.vocab_size
    pictures = AutoImageProcessor.from_pretrained(folder)
    white = torch.full((3, 40, 60), 255, dtype=torch.uint8).numpy()
    ready = pictures(images=[white], return_tensors="pt").pixel_values
    assert ready.shape == (1, 3, 128, 128)
    assert ready.unique().tolist() == [1.0]


def test_queries_of_a_new_one_differ(random_checkpoints) -> None:
    """Else all would learn the same."""
    siglip, words = SiglipModel.from_pretrained(random_checkpoints / "tiny_siglip"), new_words(corpus(), 200)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    one, same, other = (new_blip2(siglip, layers, 6, 16, words, seed).state_dict() for seed in (0, 0, 1))
    assert len(one["query_tokens"][0].unique(dim=0)) == 6
    assert all(weight.equal(same[name]) for name, weight in one.items())
    assert not one["query_tokens"].equal(other["query_tokens"])


def test_words_are_those_of_the_sentences() -> None:
    letters = 5 + 2 * 68  # special ones, and all of ASCII but capitals, at the beginning of a word and in it
    sentences = ["The red circle", "a red square, a red circle", "it"]
    words = new_words(sentences, letters + 2)
    assert words.convert_ids_to_tokens(words("The RED circles?").input_ids) == [
        *("[CLS]", "t", "##h", "##e", "red", "circle", "##s", "?", "[SEP]")
    ]
    assert words.unk_token_id not in words("Zebra 10%!", add_special_tokens=False).input_ids
    assert words.get_vocab() == new_words(sentences[::-1], letters + 2).get_vocab()
    assert len(new_words(sentences, 1000)) == letters + 5
    assert [words.convert_tokens_to_ids(token) for token in SPECIAL] == list(range(5))
    assert words(["red", "red circle"], padding=True).attention_mask == [[1, 1, 1, 0], [1, 1, 1, 1]]
    with pytest.raises(ValueError, match="vocabulary must be"):
        new_words(sentences, letters - 1)


# -- the released one ----------------------------------------------------------------------------------------------


def test_released_weights_fit() -> None:
    config = Blip2Config(
        vision_config=Blip2VisionConfig(num_hidden_layers=39, hidden_size=1408, intermediate_size=6144),
        qformer_config=Blip2QFormerConfig(vocab_size=30523, use_qformer_text_input=True),
        image_text_hidden_size=256,
    )
    with torch.device("meta"):
        model = Blip2ForImageTextRetrieval(config)
    assert {name: tuple(weight.shape) for name, weight in model.state_dict().items()} == released("blip2_itm")
