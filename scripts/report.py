"""Several runs side by side, with intervals and paired tests: `python scripts/report.py experiment=…`."""

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.config import compose_rows

log = logging.getLogger("kvtp.report")


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        rows = compose_rows(cfg)
        from kvtp.report.comparison import accuracies, pairs, shown, write
        from kvtp.store import Store

        found = [(row, Store(row.folder).finished()) for row in rows]
        runs = [(row, predictions) for row, predictions in found if predictions is not None]
        if missing := [row.run_id for row, predictions in found if predictions is None]:
            raise CommandError(
                f"{len(missing)} of {len(rows)} runs are not finished, the first is {missing[0]}; "
                "let scripts/eval.py with the same words end"
            )
        folder = Path(HydraConfig.get().runtime.output_dir)
        told = accuracies(runs)
        write(told, folder / "accuracies.csv")
        write(pairs(runs), folder / "pairs.csv")
        log.info("%s\n%s", folder, shown(told))


if __name__ == "__main__":
    check_command_line("report")
    main()
