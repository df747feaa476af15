"""The Q-Former against `transformers`' InstructBLIP (with text) and BLIP-2 (without); its cost by torch's counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Blip2QFormerConfig, Blip2QFormerModel, InstructBlipQFormerConfig, InstructBlipQFormerModel

from kvtp.backbone._connector import Connector, connector_macs
from kvtp.backbone._qformer import QFormer, QFormerShape, lavis_names
from kvtp.backbone._weights import Layout

SIZES = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 6,
    "num_hidden_layers": 5,
    "encoder_hidden_size": 20,
}
READS = QFormerShape(width=48, ffn=80, heads=6, layers=5, seen=20, words=30, positions=16)
DEAF = QFormerShape(width=48, ffn=80, heads=6, layers=5, seen=20)
TO_LAVIS = (
    (r"^embeddings\.layernorm\.", "bert.embeddings.LayerNorm."),
    (r"^layernorm\.", "bert.embeddings.LayerNorm."),
    (r"^(embeddings|encoder)\.", r"bert.\1."),
    (r"\.(attention|crossattention)\.attention\.", r".\1.self."),
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spread(model):
    """Random weights under which attention is uneven and norms are no identities."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=1.5 * weight.shape[1] ** -0.5)
        else:
            torch.nn.init.normal_(weight, mean=float("norm" in name.lower() and "weight" in name), std=0.2)
    return model.eval()


def same(reference, shape):
    """Ours with its weights, through LAVIS' names; nothing is left over and nothing missing."""
    layout = Layout(renames=(*TO_LAVIS, *lavis_names(r"bert\.", "")))
    ours = QFormer(shape)
    ours.load_state_dict({layout(name): weight for name, weight in reference.state_dict().items()}, strict=True)
    return ours.eval()


@pytest.fixture(scope="module")
def instructed():
    config = InstructBlipQFormerConfig(**SIZES, vocab_size=30, max_position_embeddings=16, layer_norm_eps=1e-12)
    config._attn_implementation = "eager"
    return spread(InstructBlipQFormerModel(config))


@pytest.fixture(scope="module")
def blip2():
    return spread(Blip2QFormerModel(Blip2QFormerConfig(**SIZES, layer_norm_eps=1e-12)))


TEXT = torch.tensor([[3, 29, 7, 0, 11], [1, 1, 2, 3, 4]])


@torch.inference_mode()
def test_with_text_it_is_instructblips(instructed):
    queries, seen = noise(2, 4, 48), noise(2, 9, 20, seed=1)
    told = instructed(TEXT, query_embeds=queries, encoder_hidden_states=seen).last_hidden_state
    rows, maps = same(instructed, READS)(queries, seen, TEXT)
    torch.testing.assert_close(rows, told, atol=1e-5, rtol=0)
    assert rows.shape == (2, 4 + 5, 48)
    assert maps == {}
    assert (rows[0] - rows[1]).abs().max() > 0.1, "all alike would show nothing"


@torch.inference_mode()
def test_without_text_it_is_blip2s(blip2):
    queries, seen = noise(2, 4, 48), noise(2, 9, 20, seed=1)
    told = blip2(queries, encoder_hidden_states=seen).last_hidden_state
    torch.testing.assert_close(same(blip2, DEAF)(queries, seen)[0], told, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_queries_alone_in_one_that_could_read(instructed, blip2):
    """InstructBLIP's without text is BLIP-2's with the same weights."""
    queries, seen = noise(2, 4, 48), noise(2, 9, 20, seed=1)
    shared = {name.replace("embeddings.", ""): weight for name, weight in instructed.state_dict().items()}
    twin = Blip2QFormerModel(blip2.config)
    twin.load_state_dict({name: shared[name] for name in twin.state_dict()}, strict=True)
    told = twin.eval()(queries, encoder_hidden_states=seen).last_hidden_state
    torch.testing.assert_close(same(instructed, READS)(queries, seen)[0], told, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_maps_are_the_softmaxed_weights(instructed):
    """Recorded where `transformers` computes them, eagerly; asking for them changes nothing else."""
    queries, seen, model = noise(2, 4, 48), noise(2, 9, 20, seed=1), same(instructed, READS)
    recorded = {}
    hooks = [
        layer.crossattention.attention.register_forward_hook(lambda _, __, out, n=n: recorded.update({n: out[1]}))
        for n, layer in enumerate(instructed.encoder.layer)
        if n % 2 == 0
    ]
    instructed(TEXT, query_embeds=queries, encoder_hidden_states=seen)
    for hook in hooks:
        hook.remove()
    plain, _ = model(queries, seen, TEXT)
    rows, maps = model(queries, seen, TEXT, maps=(0, 4))
    torch.testing.assert_close(rows, plain, atol=1e-5, rtol=0)
    assert maps.keys() == {0, 4}
    for layer, weights in maps.items():
        assert weights.shape == (2, 6, 4, 9)
        torch.testing.assert_close(weights, recorded[layer], atol=1e-5, rtol=0)
    assert recorded[4].std() > 0.01


def test_what_cannot_be_is_refused(instructed):
    queries, seen = noise(1, 4, 48), noise(1, 9, 20)
    with pytest.raises(
        ValueError, match=r"must be among the layers that look at the picture \(0, 2, 4\), got \[1, 6\]"
    ):
        QFormer(READS)(queries, seen, maps=(0, 1, 6))
    with pytest.raises(ValueError, match="reads no text; give text=None"):
        QFormer(DEAF)(queries, seen, TEXT[:1])


@pytest.mark.parametrize("text", [0, 7])
@pytest.mark.parametrize("shape", [READS, QFormerShape(768, 3072, 12, 12, 1408, 30523, 512)], ids=["tiny", "full"])
def test_macs_equal_torch_counter(shape, text):
    with torch.device("meta"):
        connector = Connector(shape, (3, 2), 64, eps=1e-5)
        words = torch.zeros(text, dtype=torch.long) if text else None
        states = torch.zeros(4, 9, shape.seen)
    with FlopCounterMode(display=False) as counter:
        connector(states, words)
    assert counter.get_total_flops() == 2 * 4 * connector_macs(shape, 5, text, 9, 64)
