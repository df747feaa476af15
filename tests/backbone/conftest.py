import os

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny(project_root):
    """`tiny(newline="grid", …)`: the shipped random checkpoint through the real YAML, some keys changed."""
    group = project_root / "conf" / "backbone"

    def make(**changed):
        backbone = OmegaConf.merge(
            OmegaConf.load(group / "llava_onevision.yaml"),
            OmegaConf.load(group / "tiny.yaml"),
            {"device": "cpu"},
            changed,
        )
        del backbone["defaults"]
        paths = {"checkpoints": str(project_root / "checkpoints")}
        return instantiate(
            OmegaConf.create({"backbone": backbone, "paths": paths, "seed": 0}).backbone, _convert_="all"
        )

    return make


@pytest.fixture(scope="session")
def frames():
    from kvtp.types import Frames

    generator = torch.Generator().manual_seed(7)
    pixels = torch.randint(0, 256, (5, 90, 160, 3), generator=generator, dtype=torch.uint8)
    return Frames(pixels, torch.arange(5, dtype=torch.float64), torch.arange(5), duration=5.0, reader="none")


@pytest.fixture(scope="session")
def prompt():
    from kvtp.types import Prompt

    bare = "What comes right after the red square?"
    text = f"{bare}\nA. a circle\nB. nothing\nAnswer with the option's letter from the given choices directly."
    return Prompt(text=text, bare=bare, question_span=(0, len(bare)), preset="test", choices=("A", "B", "blue"))
