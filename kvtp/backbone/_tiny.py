"""Writes a tiny random LLaVA-OneVision, and the stock SigLIP its pooling head comes from, in the Hugging Face layout.

`python -m kvtp.backbone._tiny FOLDER` remakes `checkpoints/` (same seed, same bytes). The weights are random: it runs
the real classes through the real loading code, and its answers mean nothing.
"""

import sys
from pathlib import Path

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
# ChatML, one user turn: the video first, then the text
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ '<video>\n' if part['type'] == 'video' else part['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "user assistant system Answer with the option's letter from the given choices directly. The best answer is:",
    "What colour is the circle? What comes right after the red square? Where is the triangle? A. B. C. D. E.",
)


def tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE like Qwen2's, trained on a few words: any text goes in."""
    empty = Qwen2Tokenizer(
        eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=list(SPECIAL), chat_template=CHAT
    )
    return empty.train_new_from_iterator(WORDS, vocab_size=320)


def write(
    folder: Path,
    *,
    seed: int = 0,
    layers: int = 4,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    side: int = 128,
    patch: int = 8,
    tower_layers: int = 3,
    tower_width: int = 48,
) -> None:
    """`folder/tiny`: model and tokenizer; `folder/tiny_siglip`: the same tower with post-norm and pooling head."""
    torch.manual_seed(seed)
    words = tokenizer()
    tower = SiglipVisionConfig(
        hidden_size=tower_width,
        intermediate_size=2 * tower_width,
        num_hidden_layers=tower_layers,
        num_attention_heads=4,
        image_size=side,
        patch_size=patch,
    )
    siglip = SiglipVisionModel(tower)
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**{**tower.to_dict(), "vision_use_head": False}),
            text_config=Qwen2Config(
                vocab_size=len(words),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=kv_heads,
                max_position_embeddings=32768,
                tie_word_embeddings=False,
            ),
            image_token_index=words.convert_tokens_to_ids("<image>"),
            video_token_index=words.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=[[side, side]],
            tie_word_embeddings=False,
        )
    )
    model.model.vision_tower.load_state_dict(siglip.state_dict(), strict=False)
    # default initialisation is so small that random logits hardly differ; spread them, so that cuts show
    for weight in (*model.model.language_model.layers.parameters(), model.lm_head.weight):
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder / "tiny")
    words.save_pretrained(folder / "tiny")
    siglip.save_pretrained(folder / "tiny_siglip")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
