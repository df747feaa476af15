"""New models of the real classes with random weights: where the small world's training starts."""

import json
import math
from collections.abc import Iterable, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
)

from kvtp.backbone._siglip import bare
from kvtp.errors import check_whole

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
# ChatML, one user turn: the video first, then the text
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ '<video>\n' if part['type'] == 'video' else part['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BYTES = 256
WORD_SPREAD, PLACE_SPREAD = 2.0, 0.5
SCALE = math.log(10.0)  # what the sigmoid loss starts with (Zhai et al. 2023, alg. 1)


def new_tokenizer(sentences: Iterable[str], vocabulary: int) -> Qwen2Tokenizer:
    """Byte-level BPE like Qwen2's, of at most `vocabulary` entries: any text goes in, words of the sentences as one."""
    check_whole("vocabulary", vocabulary, BYTES + len(SPECIAL))
    empty = Qwen2Tokenizer(
        eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=list(SPECIAL), chat_template=CHAT
    )
    return empty.train_new_from_iterator(sentences, vocab_size=vocabulary)


def new_siglip(
    vision: Mapping[str, Any], text: Mapping[str, Any], words: PreTrainedTokenizerBase, bias: float, seed: int
) -> SiglipModel:
    """`vision`, `text`: keys of the towers' configurations. `bias` of the logits."""
    torch.manual_seed(seed)
    special = {"bos_token_id": None, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    sizes = {"vocab_size": len(words), "projection_size": vision["hidden_size"]}
    model = SiglipModel(SiglipConfig(vision_config=dict(vision), text_config={**text, **sizes, **special}))
    # as transformers draws them (0.125 at this width) texts are so much alike at first that they collapse into one
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=WORD_SPREAD)
    # random position codes say nothing of left and right until each of them is learnt
    position = model.vision_model.embeddings.position_embedding.weight
    position.data.copy_(PLACE_SPREAD * plane_waves(isqrt(len(position)), position.shape[1]))
    torch.nn.init.constant_(model.logit_scale, SCALE)
    torch.nn.init.constant_(model.logit_bias, bias)
    return model


def write_processors(folder: Path, model: LlavaOnevisionForConditionalGeneration) -> None:
    """What `transformers`' own processors for images and videos need to know, beside the model.

    The video processor's file is written by hand: its class only imports where torchvision is.
    """
    vision = model.config.vision_config
    half = [0.5, 0.5, 0.5]  # SigLIP's; the class's default is CLIP's
    pictures = LlavaOnevisionImageProcessor(
        size={"height": vision.image_size, "width": vision.image_size},
        image_grid_pinpoints=model.config.image_grid_pinpoints,
        image_mean=half,
        image_std=half,
    )
    pictures.save_pretrained(folder)
    told = pictures.to_dict()
    shared = ("do_convert_rgb", "do_normalize", "do_rescale", "do_resize", "resample", "rescale_factor", "size")
    video = {key: told[key] for key in shared} | {"image_mean": half, "image_std": half}
    files = {
        "video_preprocessor_config.json": {"video_processor_type": "LlavaOnevisionVideoProcessor"} | video,
        "processor_config.json": {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": (vision.image_size // vision.patch_size) ** 2,
            "vision_feature_select_strategy": model.config.vision_feature_select_strategy,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def plane_waves(side: int, width: int) -> Float[Tensor, "P C"]:
    """2-D sine-cosine position codes of side × side patches, row by row (MoCo v3, app. A; base 100 for few patches)."""
    frequency = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    angles = [place.reshape(-1, 1) * frequency for place in (row, column)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], -1)


def new_llava(
    siglip: SiglipModel, decoder: Mapping[str, Any], words: PreTrainedTokenizerBase, seed: int
) -> LlavaOnevisionForConditionalGeneration:
    """A LLaVA-OneVision with the SigLIP's vision tower (without its pooling head); projector and decoder are random.

    `decoder`: keys of `Qwen2Config`. ValueError if `words` has no token for a video.
    """
    if "<video>" not in words.get_vocab():
        raise ValueError(
            f"the tokenizer beside the SigLIP must have the tokens {', '.join(SPECIAL)}, that of {words.name_or_path} "
            "has no <video>; take a SigLIP that module=siglip has trained"
        )
    torch.manual_seed(seed)
    tower = siglip.config.vision_config
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**{**tower.to_dict(), "vision_use_head": False}),
            text_config=Qwen2Config(vocab_size=len(words), tie_word_embeddings=False, **decoder),
            image_token_index=words.convert_tokens_to_ids("<image>"),
            video_token_index=words.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=[[tower.image_size, tower.image_size]],
            tie_word_embeddings=False,
        )
    )
    weights = bare(siglip.vision_model).state_dict()
    body = {name: weight for name, weight in weights.items() if not name.startswith("head.")}
    bare(model.model.vision_tower).load_state_dict(body)
    model.generation_config.eos_token_id = words.eos_token_id
    return model
