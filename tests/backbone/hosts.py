"""Hosts of every family from tiny random checkpoints in the layout of their release, through the real YAML."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from released import tiny_tensors, write_shards

from kvtp.backbone._new import new_siglip, new_tokenizer
from kvtp.command import CONF
from kvtp.data._describe import corpus

VOCABULARY = 400


def host(option: str, **changed: Any) -> Any:
    """What a run would build from conf/backbone/<option>.yaml, with some of its values changed."""
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        section = compose("eval", [f"backbone={option}"]).backbone
    told = {"device": "cpu", "dtype": "float32", "device_map": None, "revision": None, "seed": 0}
    plain = OmegaConf.to_container(section) | told | changed
    return instantiate(plain, _convert_="all")


def write_checkpoint(
    folder: Path, family: str, config: Mapping[str, Any], sizes: Mapping[int, int], depths: Mapping[str, int]
) -> Path:
    """Weights under the released names, config.json, and a tokenizer that knows the words of the small world."""
    write_shards(folder, tiny_tensors(family, sizes, depths))
    (folder / "config.json").write_text(json.dumps(config))
    new_tokenizer(corpus(), VOCABULARY).save_pretrained(folder)
    return folder


LLAVA_VIDEO_SIZES = {3584: 64, 18944: 96, 512: 32, 152064: VOCABULARY, 1152: 32, 4304: 40, 729: 49, 14: 4}
LLAVA_VIDEO_DEPTHS = {"model.layers.": 3, "encoder.layers.": 2}


def llava_video(folder: Path, **told: Any) -> Path:
    """Two layers of tower (28-pixel patches of 4: 7 × 7, an odd side as the release has), three of decoder."""
    words = new_tokenizer(corpus(), VOCABULARY)
    tower = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4}
    whole = {**tower, "num_hidden_layers": 3, "image_size": 28, "patch_size": 4}
    new_siglip(whole, {**tower, "num_hidden_layers": 1}, words, -2.0, 0).save_pretrained(folder / "siglip")
    config = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "mm_vision_tower": str(folder / "siglip"),
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "add_time_instruction": True,
        "force_sample": True,
    }
    return write_checkpoint(folder, "llava_video", config | told, LLAVA_VIDEO_SIZES, LLAVA_VIDEO_DEPTHS)


CLIP = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 24,
    "patch_size": 4,
    "model_type": "clip_vision_model",
}
VICUNA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
}
CLIP_SIZES = {1024: 32, 577: 37, 14: 4}
LLAVA_SIZES = {4096: 64, 11008: 96, 32064: VOCABULARY, 128: 8} | CLIP_SIZES
LLAVA_DEPTHS = {"model.layers.": 3, "encoder.layers.": 3}


def pllava(folder: Path) -> Path:
    """6 × 6 patches; both 4096s come to 64."""
    config = {"model_type": "pllava", "text_config": VICUNA, "vision_config": CLIP | {"intermediate_size": 64}}
    config |= {"vision_feature_layer": -2, "vision_feature_select_strategy": "default", "image_token_index": 3}
    return write_checkpoint(folder, "pllava", config, LLAVA_SIZES, LLAVA_DEPTHS)


def tarsier(folder: Path) -> Path:
    config = {"model_type": "llava", "text_config": VICUNA, "vision_config": CLIP | {"intermediate_size": 64}}
    config |= {"vision_feature_layer": -2, "vision_feature_select_strategy": "default", "image_token_index": 3}
    config |= {"image_newline_idx": 390, "image_new_idx": 391}
    return write_checkpoint(folder, "tarsier", config, LLAVA_SIZES, LLAVA_DEPTHS)
