"""Train a part of the line: `python scripts/train.py --help`."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kvtp.command import check_command_line, one_line_errors
from kvtp.config import training_settings


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        folder = Path(HydraConfig.get().runtime.output_dir)
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        settings = training_settings(OmegaConf.to_container(cfg))  # type: ignore[arg-type]
        from kvtp.training import train  # imports torch, which a misspelt command need not wait for

        train(config, settings, folder)


if __name__ == "__main__":
    check_command_line("train")
    main()
