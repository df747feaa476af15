"""What methods cost on a backbone, from shapes alone: `python scripts/meter.py --help`."""

import logging
from pathlib import Path

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kvtp.command import ROOT, CommandError, check_command_line, one_line_errors
from kvtp.config import compose_rows
from kvtp.errors import check_whole

log = logging.getLogger("kvtp.meter")


@hydra.main(version_base="1.3", config_path="../conf", config_name="meter")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        frames = OmegaConf.to_container(cfg.meter.frames)
        try:
            if not isinstance(frames, list) or not frames:
                raise ValueError(f"meter.frames must be a list of whole numbers, got {cfg.meter.frames!r}")
            for count in frames:
                check_whole("meter.frames", count, 1)
            if any(word.startswith(("frames", "benchmark")) for word in HydraConfig.get().overrides.task):
                raise ValueError(
                    "nothing is seen or asked here, frames=… and benchmark=… say nothing; give meter.frames=[…]"
                )
            check_whole("meter.text", cfg.meter.text, 1)
            check_whole("meter.reply", cfg.meter.reply, 0)
            check_whole("meter.repeats", cfg.meter.repeats, 0)
            if cfg.meter.threads is not None:
                check_whole("meter.threads", cfg.meter.threads, 1)
        except ValueError as error:
            raise CommandError(str(error)) from error
        folder = Path(HydraConfig.get().runtime.output_dir)
        if cfg.meter.published:
            tell_published(folder)
            return
        rows = compose_rows(cfg, own="meter", always=["benchmark=shapes"])  # any: none is asked
        import torch

        from kvtp.metric.meter import meter
        from kvtp.report.comparison import write
        from kvtp.report.costs import bars, shown, table

        if cfg.meter.threads is not None:
            torch.set_num_threads(cfg.meter.threads)
        lines = meter(rows, frames, cfg.meter.text, cfg.meter.reply, cfg.meter.repeats)
        write(table(lines), folder / "costs.csv")
        bars(lines).savefig(folder / "costs.png", dpi=130)
        log.info("%s\n%s", folder, shown(lines))
        used = {
            row.config["relevance"]["checkpoint"]: row.name for row in rows if "checkpoint" in row.config["relevance"]
        }
        for checkpoint, name in used.items():
            log.info("the cost of choosing the tokens of %s is with the predictor %s", name, checkpoint)


def tell_published(folder: Path) -> None:
    from kvtp.metric.account import Account
    from kvtp.metric.published import lines, published
    from kvtp.report.comparison import write
    from kvtp.report.costs import shown_published

    shapes = [
        compose("eval", ["backbone=llava_onevision", f"backbone.checkpoint={ROOT}/shapes/llava_onevision_{size}"])
        for size in ("7b", "72b")
    ]
    accounts = [Account(instantiate(one.backbone, device="cpu")) for one in shapes]
    cells = published(ROOT / "published", *accounts)
    write(list(lines(cells)), folder / "published.csv")
    log.info("%s\n%s", folder, shown_published(cells))


if __name__ == "__main__":
    check_command_line("meter")
    main()
