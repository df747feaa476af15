"""Runs side by side as a page and tables, with intervals and paired tests: `python scripts/report.py experiment=…`.

Or one run again without its model: task=rescore, judge, submit.
"""

import logging
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.config import compose_rows
from kvtp.errors import check_choice

log = logging.getLogger("kvtp.report")
TASKS = ("compare", "rescore", "judge", "submit")
OWN = ("task", "run", "reader", "root", "upload", "pull", "into")  # beside the keys of conf/eval.yaml


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        if cfg.task != "compare":
            again(cfg)
            return
        given = {word.partition("=")[0] for word in HydraConfig.get().overrides.task}
        if idle := sorted(given & (set(OWN) - {"task", "pull", "into"})):
            raise CommandError(f"{', '.join(idle)} say nothing without task=rescore, judge or submit; give a task")
        rows = compose_rows(cfg, own=OWN)
        from kvtp.report.compare import Asked, compare

        plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["paper", "into"]))
        compare(
            Asked(
                title=cfg.run_id if cfg.rows is not None else f"{cfg.name} {cfg.run_id}",
                rows=rows,
                folder=Path(HydraConfig.get().runtime.output_dir),
                cache=Path(cfg.paths.outputs) / "cache",
                papers=None if plain["paper"] is None else tuple(plain["paper"]),
                axis=cfg.axis,
                curves=None if cfg.curves is None else Path(cfg.curves),
                source=cfg.pull,
                into=tuple(map(Path, [plain["into"]] if isinstance(plain["into"], str) else plain["into"])),
            )
        )


def again(cfg: DictConfig) -> None:
    """One run's replies, read, judged or handed in."""
    try:
        check_choice("task", cfg.task, TASKS)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if cfg.run is None:
        raise CommandError(f"task={cfg.task} needs run=<the folder of a finished run>, outputs/<name>/<run_id>")
    given = {word.partition("=")[0] for word in HydraConfig.get().overrides.task}
    needs = {"rescore": {"reader"}, "judge": {"judge"}, "submit": {"upload"}}[cfg.task]
    if idle := sorted(word for word in given if word.partition(".")[0] not in {"task", "run", "root", "paths"} | needs):
        raise CommandError(f"{', '.join(idle)} say nothing to task={cfg.task}: the run was told by its folder")
    from kvtp.rescore import read_again, reopen, rescored, submit

    folder = Path(cfg.run)
    if cfg.task == "rescore":
        rescored(reopen(folder, cfg.root, reader=cfg.reader), "rescored", cfg.reader)
    elif cfg.task == "judge":
        if "judge" not in given:
            raise CommandError("task=judge needs judge=<who judges>, openai or another option of that group")
        judge: Any = OmegaConf.to_container(cfg.judge, resolve=True)
        run = reopen(folder, cfg.root, judge=judge)
        try:
            run.benchmark.prepare()
        except ValueError as error:
            raise CommandError(str(error)) from error
        if judge.get("dry_run"):
            read_again(run, {})
            log.info("nothing was asked, nothing is written")
            return
        rescored(run, "judged", run.benchmark.parser)
    else:
        submit(reopen(folder, cfg.root), cfg.upload)


if __name__ == "__main__":
    check_command_line("report")
    main()
