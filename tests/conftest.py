import os
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kvtp.backbone._new import new_llava, new_siglip, new_tokenizer
from kvtp.data._describe import corpus

os.environ["HF_HUB_OFFLINE"] = "1"

torch.set_num_threads(1)  # two test processes on two cores


@pytest.fixture(scope="session")
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def random_checkpoints(tmp_path_factory):
    """What conf/backbone/tiny.yaml looks for, with random weights: no training makes these tests pass."""
    folder = tmp_path_factory.mktemp("checkpoints")
    words = new_tokenizer(corpus(), 400)
    tower = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4}
    vision = {**tower, "num_hidden_layers": 3, "image_size": 128, "patch_size": 8}
    siglip = new_siglip(vision, {**tower, "num_hidden_layers": 1}, words, -2.0, 0)
    decoder = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = new_llava(siglip, {**decoder, "num_key_value_heads": 2, "max_position_embeddings": 32768}, words, 0)
    # as transformers draws them, random logits hardly differ; spread them, so that cuts show
    for weight in (*model.model.language_model.layers.parameters(), model.lm_head.weight):
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=1.0)
    model.save_pretrained(folder / "tiny")
    words.save_pretrained(folder / "tiny")
    siglip.save_pretrained(folder / "tiny_siglip")
    return folder


@pytest.fixture(scope="session")
def tiny(project_root, random_checkpoints):
    """`tiny(newline="grid", …)`: the random checkpoint through the real YAML, some keys changed."""
    group = project_root / "conf" / "backbone"

    def make(**changed):
        backbone = OmegaConf.merge(
            OmegaConf.load(group / "llava_onevision.yaml"),
            OmegaConf.load(group / "tiny.yaml"),
            {"device": "cpu"},
            changed,
        )
        del backbone["defaults"]
        paths = {"checkpoints": str(random_checkpoints)}
        return instantiate(
            OmegaConf.create({"backbone": backbone, "paths": paths, "seed": 0}).backbone, _convert_="all"
        )

    return make
