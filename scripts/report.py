"""Runs side by side as a page and tables, with intervals and paired tests: `python scripts/report.py experiment=…`."""

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
        from kvtp.report.page import page
        from kvtp.store import Store, write_whole

        found = [(row, Store(row.folder).finished()) for row in rows]
        if missing := [row.run_id for row, predictions in found if predictions is None]:
            raise CommandError(
                f"{len(missing)} of {len(rows)} runs are not finished, the first is {missing[0]}; "
                "let scripts/eval.py with the same words end"
            )
        runs = [(row, predictions or []) for row, predictions in found]
        folder = Path(HydraConfig.get().runtime.output_dir)
        told, tested = accuracies(runs), pairs(runs)
        write(told, folder / "accuracies.csv")
        write(tested, folder / "pairs.csv")
        shots = [(row, predictions, Store(row.folder).samples()) for row, predictions in runs]
        write_whole(folder / "report.html", page(f"{cfg.name} {cfg.run_id}", shots, told, tested))
        log.info("%s\n%s", folder / "report.html", shown(told))


if __name__ == "__main__":
    check_command_line("report")
    main()
