"""Run methods over a benchmark: `python scripts/eval.py --help`."""

import hydra
from omegaconf import DictConfig

from kvtp.command import CommandError, check_command_line, one_line_errors, sweeping
from kvtp.config import compose_rows


@hydra.main(version_base="1.3", config_path="../conf", config_name="eval")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        rows = compose_rows(cfg)
        from kvtp.cell import assemble, make  # imports torch, which a misspelt command need not wait for

        lacking: list[str] = []
        cells = assemble(rows, lacking)
        make("runner", rows[0].config["runner"])(cells, wait=sweeping())
        if lacking:
            raise CommandError(f"{len(lacking)} of {len(rows)} runs were left out, the first is {lacking[0]}")


if __name__ == "__main__":
    check_command_line()
    main()
