from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kvtp.command import CONF

SMALL = {"clips": 6, "events": 2, "fps": 4, "videos": 6, "workers": 1}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`data("scenes", cells=2)`: what conf/data/scenes.yaml describes, of a small world."""
    paths = {"data": str(tmp_path_factory.mktemp("data"))}

    def make(option: str, **changed: Any) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
            chosen = compose("train", [f"data={option}"]).data
        small = {"benchmark": SMALL, "held_out_videos": 2, "frames": {"count": 12}}
        parent = OmegaConf.create({"seed": 0, "paths": paths, "data": OmegaConf.merge(chosen, small, changed)})
        return instantiate(parent.data, _convert_="all")

    make.root = Path(paths["data"])
    return make
