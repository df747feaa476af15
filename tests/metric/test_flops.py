"""Closed forms against torch's counter on meta tensors, and against figures computed elsewhere."""

import pytest
import torch
from metric.shapes import QWEN2_7B, QWEN2_72B, decoder
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionMultiModalProjector

from kvtp.backbone._siglip import Tower, bare
from kvtp.backbone._skeleton import Seeing
from kvtp.backbone.base import LLMShape, VisionShape
from kvtp.metric.flops import cache_bytes, llm_decode, llm_prefill, vision, vision_cues

TINY = LLMShape(layers=3, width=64, heads=8, kv_heads=2, head_dim=8, ffn=160, vocabulary=99)
EVERYWHERE = {"full_attention": None}  # a mask that is made already: to make one, transformers needs real tensors


def counted(run) -> float:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def model(shape: LLMShape) -> Qwen2ForCausalLM:
    with torch.device("meta"):
        return Qwen2ForCausalLM(decoder(shape))


@pytest.mark.parametrize("shape", [TINY, QWEN2_7B, QWEN2_72B], ids=["tiny", "7B", "72B"])
@pytest.mark.parametrize("length", [1, 17, 3_136, 12_544])
def test_prefill_equals_torch_counter(shape, length):
    llm = model(shape)

    def run():
        ids = torch.zeros(1, length, dtype=torch.long)
        llm(ids, attention_mask=EVERYWHERE, use_cache=False, logits_to_keep=1)

    assert llm_prefill(shape, [length] * shape.layers, [length] * shape.layers) == counted(run)


@pytest.mark.parametrize("shape", [TINY, QWEN2_7B, QWEN2_72B], ids=["tiny", "7B", "72B"])
@pytest.mark.parametrize("cut", [(2, 900, 225), (1, 500, 1)])
def test_cut_inside_the_llm_equals_torch_counter(shape, cut):
    """Layers before the cut on all rows, the others on those kept."""
    layer, before, after = cut
    rows = [before] * layer + [after] * (shape.layers - layer)
    llm = model(shape)

    def run():
        for block, count in zip(llm.model.layers, rows, strict=True):
            turn = torch.zeros(1, count, shape.head_dim)
            block(torch.zeros(1, count, shape.width), position_embeddings=(turn, turn), attention_mask=None)
        llm.lm_head(torch.zeros(1, 1, shape.width))

    assert llm_prefill(shape, rows, rows) == counted(run)


def test_cut_between_attention_and_mlp_equals_torch_counter():
    """One layer: attention on 40 rows, MLP on 9."""
    shape = LLMShape(layers=1, width=64, heads=8, kv_heads=2, head_dim=8, ffn=160, vocabulary=99)
    llm = model(shape)

    def run():
        turn = torch.zeros(1, 40, 8)
        block = llm.model.layers[0]
        block.self_attn(torch.zeros(1, 40, 64), position_embeddings=(turn, turn), attention_mask=None)
        block.mlp(torch.zeros(1, 9, 64))
        llm.lm_head(torch.zeros(1, 1, 64))

    assert llm_prefill(shape, [40], [9]) == counted(run)


@pytest.mark.parametrize("shape", [TINY, QWEN2_7B], ids=["tiny", "7B"])
def test_decode_equals_torch_counter(shape):
    """Three tokens one by one, on a cache of different length in each layer."""
    rows = [40 + 3 * layer for layer in range(shape.layers)]
    llm = model(shape)

    def run():
        cache = DynamicCache()
        for layer, count in enumerate(rows):
            kept = torch.zeros(1, shape.kv_heads, count, shape.head_dim)
            cache.update(kept, kept, layer)
        turn = torch.zeros(1, 1, shape.head_dim)
        for _ in range(3):
            hidden = torch.zeros(1, 1, shape.width)
            for block in llm.model.layers:
                hidden = block(
                    hidden, position_embeddings=(turn, turn), attention_mask=None, past_key_values=cache, use_cache=True
                )
            llm.lm_head(torch.zeros(1, 1, shape.width))

    assert llm_decode(shape, rows, 3) == counted(run)
    assert llm_decode(shape, rows, 0) == 0


def test_figures_computed_elsewhere():
    """specs: TMACs of Qwen2-7B on 64 frames of 196 and of 49 tokens, with K = 2 and 25 %, half of attention; a decode
    step; GiB of cache in bf16."""

    def tmacs(rows, causal=False):
        return llm_prefill(QWEN2_7B, rows, rows, causal) / 2e12

    assert tmacs([12_544] * 28) == pytest.approx(113.435, abs=5e-4)
    assert tmacs([3_136] * 28) == pytest.approx(22.438, abs=5e-4)
    assert tmacs([12_544] * 2 + [3_136] * 26) == pytest.approx(28.937, abs=5e-4)
    assert tmacs([12_544] * 28, causal=True) == pytest.approx(97.644, abs=2e-3)
    assert llm_decode(QWEN2_7B, [12_543] * 28, 1) / 2e9 == pytest.approx(9.588, abs=5e-4)
    assert cache_bytes(QWEN2_7B, [12_544] * 28, 2) / 2**30 == pytest.approx(0.67, abs=5e-3)


@pytest.mark.parametrize("cue", ["tower_keys", "received_attention", "probe_attention"])
def test_cues_equal_torch_counter(cue):
    """What the tower computes a second time for pruning: `kvtp.backbone._siglip` on meta tensors, with and without."""
    config = SiglipVisionConfig(num_hidden_layers=2, **SMALL)
    with torch.device("meta"):
        siglip = SiglipVisionModel(config)
        tower = Tower(siglip, 2, siglip)

    def run(cues):
        return counted(lambda: tower(torch.zeros(3, 3, 32, 32), frozenset(cues)))

    shape = VisionShape(16, 16, 3 * 8 * 8, 32, 80, 2, 2, 2 * 16**2, 0)
    assert vision_cues(shape, 3, {cue}) == run({cue}) - run(set())
    assert vision_cues(shape, 3, {"question_feature"}) == 0


SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
SMALL = {"hidden_size": 32, "intermediate_size": 80, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}


@pytest.mark.parametrize("sizes", [SO400M, SMALL], ids=["so400m", "small"])
@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("pooled", [True, False])
def test_vision_equals_torch_counter(sizes, frames, pooled):
    """Tower of four layers, of which three run; projector to width 96; SigLIP's own pooling head."""
    config = SiglipVisionConfig(num_hidden_layers=4, **sizes)
    width, patches = config.hidden_size, (config.image_size // config.patch_size) ** 2
    with torch.device("meta"):
        siglip = SiglipVisionModel(config)
        onevision = type("Config", (), {"vision_config": config, "text_config": decoder(TINY)})
        onevision.vision_feature_layer, onevision.projector_hidden_act = -1, "gelu"
        onevision.multimodal_projector_bias = True
        projector = LlavaOnevisionMultiModalProjector(onevision)
        seeing = Seeing(siglip, 3)

    def run():
        states = seeing(torch.zeros(frames, 3, config.image_size, config.image_size))
        projector(states)
        if pooled:
            bare(siglip).head(states)

    shape = VisionShape(
        rows=patches,
        patches=patches,
        patch_values=3 * config.patch_size**2,
        width=width,
        ffn=config.intermediate_size,
        ffn_matrices=2,
        layers=3,
        pairs=3 * patches**2,
        connector=patches * (width + TINY.width) * TINY.width,
    )
    assert vision(shape, frames, pooled) == counted(run)
