"""The rows that a command line asks for, without a process."""

from contextlib import nullcontext

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import open_dict

from kvtp.command import CONF
from kvtp.config import Row, compose_rows


def composed_rows(*words: str) -> list[Row]:
    """As in a task of scripts/eval.py: Hydra's node is gone, and known by HydraConfig."""
    known = GlobalHydra.instance().is_initialized()
    with nullcontext() if known else initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        cfg = compose("eval", list(words), return_hydra_config=True)
    cfg.hydra.mode = RunMode.RUN
    cfg.hydra.overrides.hydra = [word for word in words if word.startswith("hydra.")]
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = cfg.hydra.run.dir
    HydraConfig.instance().set_config(cfg)
    try:
        task = cfg.copy()
        with open_dict(task):
            del task["hydra"]
        return compose_rows(task)
    finally:
        HydraConfig.instance().cfg = None
