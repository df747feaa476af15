"""The closed form against torch's counter on meta tensors, and against a figure computed elsewhere."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from kvtp.backbone.base import LLMShape
from kvtp.metric.flops import llm_prefill

QWEN2_7B = LLMShape(layers=28, width=3584, heads=28, kv_heads=4, head_dim=128, ffn=18944, vocabulary=152064)


def counted(config, length):
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config)
        ids = torch.zeros(1, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(ids, attention_mask={"full_attention": None}, use_cache=False, logits_to_keep=1)
    return counter.get_total_flops()


@pytest.mark.parametrize("length", [1, 17, 300])
def test_equals_torch_counter(length):
    config = Qwen2Config(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=99,
    )
    shape = LLMShape(layers=3, width=64, heads=8, kv_heads=2, head_dim=8, ffn=160, vocabulary=99)
    assert llm_prefill(shape, [length] * 3, [length] * 3) == counted(config, length)


def test_qwen2_7b():
    """113.435 and 22.438 TMACs for 64 frames of 196 and of 49 tokens."""
    assert llm_prefill(QWEN2_7B, [12_544] * 28, [12_544] * 28) / 2e12 == pytest.approx(113.435, abs=5e-4)
    assert llm_prefill(QWEN2_7B, [3_136] * 28, [3_136] * 28) / 2e12 == pytest.approx(22.438, abs=5e-4)


def test_cut_inside_the_llm():
    """K = 2, 25 % kept after it: 28.937 TMACs."""
    rows = [12_544] * 2 + [3_136] * 26
    assert llm_prefill(QWEN2_7B, rows, rows) / 2e12 == pytest.approx(28.937, abs=5e-4)


def test_cut_between_attention_and_mlp_equals_torch_counter():
    """One layer on meta tensors: attention on 40 rows, MLP on 9."""
    config = Qwen2Config(hidden_size=64, intermediate_size=160, num_attention_heads=8, num_key_value_heads=2)
    shape = LLMShape(layers=1, width=64, heads=8, kv_heads=2, head_dim=8, ffn=160, vocabulary=0)
    with torch.device("meta"):
        layer = Qwen2DecoderLayer(config, 0)
        config._attn_implementation = "sdpa"
        rotary = torch.zeros(1, 40, 8), torch.zeros(1, 40, 8)
        with FlopCounterMode(display=False) as counter:
            layer.self_attn(torch.zeros(1, 40, 64), position_embeddings=rotary, attention_mask=None)
            layer.mlp(torch.zeros(1, 9, 64))
    assert llm_prefill(shape, [40], [9]) == counter.get_total_flops()
