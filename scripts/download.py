"""Fetch what a command line's models need, and check it: `python scripts/download.py --help`."""

import logging
import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.config import compose_rows
from kvtp.ranks import alone

log = logging.getLogger("kvtp.download")


@hydra.main(version_base="1.3", config_path="../conf", config_name="download")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        alone("scripts/download.py")
        if not isinstance(cfg.check, bool):
            raise CommandError(f"check must be true or false, got {cfg.check!r}")
        rows = compose_rows(cfg, own=["check"], always=["benchmark=shapes"])  # any: none is asked
        if cfg.check:
            os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's library is imported: nothing is fetched
            from kvtp.check import check

            check(rows, Path(HydraConfig.get().runtime.output_dir))
            return
        from kvtp.download import fetch, remedy, sources, told

        fetched = [fetch(source) for source in sources(rows)]
        log.info("\n%s", told(fetched))
        if bad := list(remedy(fetched)):
            raise CommandError("\n".join([*bad, "then run this again"]))


if __name__ == "__main__":
    check_command_line("download")
    main()
