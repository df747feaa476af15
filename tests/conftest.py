import os
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

os.environ["HF_HUB_OFFLINE"] = "1"

torch.set_num_threads(1)  # two test processes on two cores


@pytest.fixture(scope="session")
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent


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
