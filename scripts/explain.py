"""Where a model looks while it reads a question, and what a method keeps: `python scripts/explain.py --help`."""

import json
import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.config import compose_rows
from kvtp.ranks import alone

log = logging.getLogger("kvtp.explain")


@hydra.main(version_base="1.3", config_path="../conf", config_name="explain")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        alone("scripts/explain.py")
        given = {word.partition("=")[0] for word in HydraConfig.get().overrides.task}
        if {"explain.questions", "explain.ids"} <= given:
            raise CommandError("explain.questions and explain.ids are both given; give one of them")
        rows = compose_rows(cfg, own=["explain"])
        if len(rows) > 1:
            raise CommandError(
                f"scripts/explain.py shows one method, got {len(rows)} runs ({', '.join(row.name for row in rows)}); "
                "give method=…, or -m method=…,…"
            )
        from kvtp.cell import assemble, make
        from kvtp.report.attention import attention_figure
        from kvtp.report.comparison import write
        from kvtp.report.explained import by_layer, file_name, lines, page, shares, shown
        from kvtp.session import versions
        from kvtp.store import write_whole

        explain = make("explain", cfg.explain)
        (cell,) = assemble(rows)
        folder = Path(HydraConfig.get().runtime.output_dir)
        for old in folder.glob("[0-9][0-9][0-9]_*.png"):
            old.unlink()
        about = {"config": OmegaConf.to_container(cfg, resolve=True), "versions": versions()}
        write_whole(folder / "about.json", json.dumps(about, indent=2) + "\n")
        told, found, pictures = [], [], []
        for place, one in enumerate(explain(cell)):
            picture = folder / file_name(place, one.question.id)
            attention_figure(one).savefig(picture)
            log.info("%s", picture)
            pictures.append((one.question, picture))
            told += lines(one)
            found += shares(one)
        layers = by_layer(found)
        write(told, folder / "scores.csv")
        write(layers, folder / "layers.csv")
        table = shown(layers)
        write_whole(folder / "explain.html", page(f"{cfg.name} {cfg.run_id}", pictures, table))
        log.info("%s\n%s", folder / "explain.html", table)


if __name__ == "__main__":
    check_command_line("explain")
    main()
