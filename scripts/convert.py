"""A checkpoint in the layout that `transformers` writes: `python scripts/convert.py --help`."""

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

import kvtp.config  # noqa: F401 — its resolvers are used in conf/
from kvtp.command import check_command_line, one_line_errors
from kvtp.ranks import alone

log = logging.getLogger("kvtp.convert")


@hydra.main(version_base="1.3", config_path="../conf", config_name="convert")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        alone("scripts/convert.py")
        from kvtp.cell import make
        from kvtp.convert import convert

        files = convert(make("backbone", cfg.backbone), Path(cfg.target), cfg.shard_gib)
        log.info("%s is written, with %d files of weights", cfg.target, len(files))


if __name__ == "__main__":
    check_command_line("convert")
    main()
