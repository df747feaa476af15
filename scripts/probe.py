"""What the tower's tokens tell, linearly: `python scripts/probe.py --help`."""

import json
import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

import kvtp.config  # noqa: F401 — its resolvers are used in conf/
from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.errors import check_whole

log = logging.getLogger("kvtp.probe")


@hydra.main(version_base="1.3", config_path="../conf", config_name="probe")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        try:
            check_whole("films", cfg.films, 1)
        except ValueError as error:
            raise CommandError(str(error)) from error
        from kvtp.cell import make
        from kvtp.data._describe import ATTRIBUTES
        from kvtp.data.moments import Pictures
        from kvtp.metric.probe import linear_probe

        backbone, benchmark, frames = (make(stage, cfg[stage]) for stage in ("backbone", "benchmark", "frames"))
        known = Pictures.of(benchmark.other("train", cfg.films), frames, backbone)
        asked = Pictures.of(benchmark, frames, backbone)
        told = {
            name: linear_probe(known.tokens, known.labels[name], asked.tokens, asked.labels[name], cfg.decay)
            for name in ATTRIBUTES
        }
        result = Path(cfg.result)
        result.parent.mkdir(parents=True, exist_ok=True)
        of = {"backbone": backbone.identity, "videos": benchmark.videos_identity, "films": cfg.films}
        result.write_text(json.dumps({**told, "pictures": len(asked.tokens), **of}, indent=1) + "\n")
        log.info("%s", "  ".join(f"{name} {accuracy:.1f} %" for name, accuracy in told.items()))


if __name__ == "__main__":
    check_command_line("probe")
    main()
