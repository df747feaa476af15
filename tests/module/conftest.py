import pytest
import torch
from transformers import AutoTokenizer

from kvtp.backbone._new import new_llava, new_siglip, new_tokenizer
from kvtp.data._describe import corpus

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random LLaVA-OneVision whose pictures are 32 pixels wide: 4 × 4 patches, 2 × 2 tokens."""
    folder = tmp_path_factory.mktemp("llava")
    words = new_tokenizer(corpus(), 800)
    siglip = new_siglip(
        {**TOWER, "image_size": 32, "patch_size": 8}, {**TOWER, "max_position_embeddings": 16}, words, -2.0, 0
    )
    siglip.save_pretrained(folder / "siglip")
    words.save_pretrained(folder / "siglip")
    model = new_llava(siglip, DECODER, words, 0)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)  # else all logits are alike
    model.save_pretrained(folder / "llava")
    words.save_pretrained(folder / "llava")
    assert AutoTokenizer.from_pretrained(folder / "llava").chat_template
    return folder
