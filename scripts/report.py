"""Runs side by side as a page and tables, with intervals and paired tests: `python scripts/report.py experiment=…`."""

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.config import compose_rows, labels

log = logging.getLogger("kvtp.report")


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        rows = compose_rows(cfg)
        from kvtp.report.comparison import accuracies, along, pairs, shown, write
        from kvtp.report.figures import svg, sweep
        from kvtp.report.page import page
        from kvtp.store import Store, write_whole

        found = [(row, Store(row.folder).finished()) for row in rows]
        runs = [(row, predictions) for row, predictions in found if predictions is not None]
        if missing := [row.run_id for row, predictions in found if predictions is None]:
            said = (
                f"{len(missing)} of {len(rows)} runs are not finished, the first is {missing[0]}; "
                "let scripts/eval.py with the same words end"
            )
            if not runs:
                raise CommandError(said)
            log.warning("%s", said)
        folder = Path(HydraConfig.get().runtime.output_dir)
        told = accuracies(runs)
        over = ""
        if cfg.axis is not None:
            swept = ("benchmark.",) if cfg.axis == "sparsity" else (f"{cfg.axis}=",)
            series, values = labels([row for row, _ in runs], swept), along(cfg.axis, runs)
            if len({row.retention_ratio for row, _ in runs} - {None}) > 1:
                series = [
                    name if row.retention_ratio is None else f"{name} at {row.retention_ratio:g}"
                    for name, (row, _) in zip(series, runs, strict=True)
                ]
            told = [
                {**line, "series": name, cfg.axis: value}
                for line, name, value in zip(told, series, values, strict=True)
            ]
            figure = sweep(told, cfg.axis)
            figure.savefig(folder / "sweep.png", dpi=110)
            over = svg(figure)
        write(told, folder / "accuracies.csv")
        try:
            tested = pairs(runs)
        except ValueError as error:
            raise CommandError(str(error)) from error
        write(tested, folder / "pairs.csv")
        shots = [(row, predictions, Store(row.folder).samples()) for row, predictions in runs]
        write_whole(folder / "report.html", page(f"{cfg.name} {cfg.run_id}", shots, told, tested, over))
        log.info("%s\n%s", folder / "report.html", shown(told))


if __name__ == "__main__":
    check_command_line("report")
    main()
