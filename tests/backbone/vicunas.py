"""VideoChat2 and ST-LLM from tiny random checkpoints in the layout of their releases, through the real YAML."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, printable
from typing import Any

import torch
from released import tiny_tensors
from torch.nn import functional as F
from toys import ToyBenchmark, ToyFilm, component
from transformers import (
    BertTokenizer,
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
)

from kvtp.backbone.st_llm import StLlm
from kvtp.backbone.videochat2 import VideoChat2
from kvtp.config import method_choices
from kvtp.pipeline import Pipeline
from kvtp.types import Question

VOCABULARY = 400
QUESTION = Question("q", "film.mp4", "what colour is the circle?")
LLAMA = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
FEW = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *printable[:95], "##", "▁##", "▁###"]
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"?.,:", *ascii_lowercase, "what", "this"]
WORDPIECES += [f"##{letter}" for letter in ascii_lowercase]
QFORMER = {768: 48, 3072: 96, 30523: len(WORDPIECES), 512: 40, 32: 4}
VIDEOCHAT2_SIZES = {1024: 32, 4096: 64, 64: 5, 16: 8} | QFORMER
VIDEOCHAT2_DEPTHS = {"encoder.blocks.": 2, "encoder.layer.": 4, "model.layers.": 3}
ST_LLM_SIZES = {1408: 32, 4224: 96, 6144: 64, 257: 10, 14: 8, 4096: 64, 11008: 96, 32001: VOCABULARY, 64: 20, 1024: 24}
ST_LLM_SIZES |= QFORMER
ST_LLM_DEPTHS = {"visual_encoder.blocks.": 4, "BTAdapter_S.": 2, "BTAdapter_T.": 2, "encoder.layer.": 4}
ST_LLM_DEPTHS |= {"model.layers.": 3}


@dataclass(eq=False)
class TinyVideoChat2(VideoChat2):
    """Four heads in the tower, six in the Q-Former; 3 × 3 patches of 8 pixels."""

    tower_head = 8
    qformer_head = 8
    text_limit = 40
    side = 24


@dataclass(eq=False)
class TinyStLlm(StLlm):
    tower_head = 8
    qformer_head = 8
    text_limit = 40


def vicuna(folder: Path, vocabulary: int) -> Path:
    """Its own weights in two shards, its tokenizer: letters and bytes, and Llama's pieces of `###`."""
    folder.mkdir(parents=True)
    config = LlamaConfig(**LLAMA, vocab_size=vocabulary)
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5) if weight.ndim == 2 else weight.data.add_(0.1)
    bin_shards(folder, model.state_dict())
    config.save_pretrained(folder)
    merges = [("#", "#"), ("▁", "##"), ("▁##", "#")]
    LlamaTokenizer(vocab={piece: place for place, piece in enumerate(FEW)}, merges=merges).save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    """It knows two words and spells the others."""
    BertTokenizer(vocab={piece: place for place, piece in enumerate(WORDPIECES)}).save_pretrained(folder)
    return folder


def bin_shards(folder: Path, tensors: Mapping[str, torch.Tensor], shards: int = 2) -> None:
    for number in range(shards):
        part = {name: tensors[name].clone() for name in list(tensors)[number::shards]}
        torch.save(part, folder / f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin")


def stage3() -> dict[str, torch.Tensor]:
    return tiny_tensors("videochat2", VIDEOCHAT2_SIZES, VIDEOCHAT2_DEPTHS)


def videochat2(folder: Path) -> dict[str, Any]:
    """Keys of a host on what is written to `folder`."""
    (folder / "stage3").mkdir(parents=True)
    torch.save({"model": stage3()}, folder / "stage3" / "videochat2_7b_stage3.pth")
    return {
        "_target_": "backbone.vicunas.TinyVideoChat2",
        "checkpoint": str(folder / "stage3"),
        "llm": str(vicuna(folder / "vicuna", VOCABULARY)),
        "bert": str(bert(folder / "bert")),
        "frames": 5,
        "instruction": "what?",
    }


def shards(family: str) -> dict[str, torch.Tensor]:
    return tiny_tensors(family, ST_LLM_SIZES, ST_LLM_DEPTHS)


def st_llm(folder: Path, family: str = "st_llm") -> dict[str, Any]:
    """Likewise; Vicuna's own vocabulary is smaller by one."""
    (folder / "weights").mkdir(parents=True)
    bin_shards(folder / "weights", shards(family))
    return {
        "_target_": "backbone.vicunas.TinyStLlm",
        "checkpoint": str(folder / "weights"),
        "llm": str(vicuna(folder / "vicuna", VOCABULARY - 1)),
        "bert": str(bert(folder / "bert")),
    }


# -- references ----------------------------------------------------------------------------------------------------


def plain(folder: Path) -> LlamaForCausalLM:
    """Vicuna's own files in `transformers`' model."""
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(folder))
    held = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.bin"))]
    model.load_state_dict({name: weight for part in held for name, weight in part.items()}, strict=True)
    return model.eval()


def pictures(pixels: torch.Tensor) -> torch.Tensor:
    """[T, H, W, 3] → [T, 3, 24, 24]: the shorter side to 24, the middle of the longer one, as CLIP normalises."""
    tall, wide = pixels.shape[1:3]
    short = min(tall, wide)
    size = (int(24 * tall / short), int(24 * wide / short))
    small = F.interpolate(pixels.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True)
    top, left = (size[0] - 24) // 2, (size[1] - 24) // 2
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    return (small[:, :, top : top + 24, left : left + 24] / 255.0 - mean) / deviation


def qformer(tensors: Mapping[str, torch.Tensor], before: str, seen: int) -> InstructBlipQFormerModel:
    """`transformers`' InstructBLIP with released weights."""
    model = InstructBlipQFormerModel(
        InstructBlipQFormerConfig(
            vocab_size=len(WORDPIECES),
            hidden_size=48,
            intermediate_size=96,
            num_attention_heads=6,
            num_hidden_layers=4,
            max_position_embeddings=40,
            layer_norm_eps=1e-12,
            encoder_hidden_size=seen,
        )
    )
    named = {}
    for name, weight in tensors.items():
        if name.startswith(before) and not name.endswith("position_ids"):
            own = name.removeprefix(before).replace("embeddings.LayerNorm", "embeddings.layernorm")
            named[own.replace("attention.self.", "attention.attention.")] = weight
    model.load_state_dict(named, strict=True)
    return model.eval()


def pipeline(backbone: Any, method: str, retention_ratio: float) -> Pipeline:
    """Of the stages that conf/method/<method>.yaml chooses."""
    stages = {
        stage: component(stage, option, retention_ratio=retention_ratio)
        for stage, option in method_choices(method).items()
    }
    return Pipeline(benchmark=ToyBenchmark(QUESTION, ("A", "B")), frames=ToyFilm(16), backbone=backbone, **stages)
