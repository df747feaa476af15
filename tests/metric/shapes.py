"""Public shapes of the models that the papers use."""

from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

from kvtp.backbone.base import LLMShape

QWEN2_7B = LLMShape(layers=28, width=3584, heads=28, kv_heads=4, head_dim=128, ffn=18944, vocabulary=152064)
QWEN2_72B = LLMShape(layers=80, width=8192, heads=64, kv_heads=8, head_dim=128, ffn=29568, vocabulary=152064)
LLAMA_7B = LLMShape(layers=32, width=4096, heads=32, kv_heads=32, head_dim=128, ffn=11008, vocabulary=32000)


def decoder(shape: LLMShape) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
    )


def onevision(shape: LLMShape) -> LlavaOnevisionConfig:
    """SigLIP-so400m/14 at 384 pixels, without its last layer, before such a decoder."""
    tower = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=26,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
        vision_use_head=False,
    )
    return LlavaOnevisionConfig(vision_config=tower, text_config=decoder(shape), image_grid_pinpoints=[[384, 384]])
