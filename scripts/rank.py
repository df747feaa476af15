"""How well a relevance finds the frames that matter: `python scripts/rank.py --help`."""

import json
import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.config import ranked
from kvtp.errors import check_range

log = logging.getLogger("kvtp.rank")


@hydra.main(version_base="1.3", config_path="../conf", config_name="rank")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        from kvtp.cell import make
        from kvtp.ranking import rank, summary

        benchmark, frames, relevance = (make(stage, cfg[stage]) for stage in ("benchmark", "frames", "relevance"))
        try:
            check_range("share", cfg.share, 0, 1)
            check_range("rate_temperature", cfg.rate_temperature, 1e-6)
            identity = relevance.identity
            found = rank(benchmark, frames, relevance, cfg.share, cfg.rate_temperature)
        except ValueError as error:
            raise CommandError(str(error)) from error
        told = summary(found, cfg.rate_temperature)
        result = Path(cfg.paths.outputs) / "rank" / f"{cfg.name}.json"
        result.parent.mkdir(parents=True, exist_ok=True)
        named = {"relevance": identity or type(relevance).__name__, "settings": ranked(cfg)}
        result.write_text(json.dumps({**named, **told}, indent=1) + "\n")
        low, high = told["recall_interval"]
        log.info(
            "%s: recall of key frames %.1f %% (%.1f – %.1f), nDCG %.1f, divergence %.2f nats (it would be least at "
            "budget.temperature=%.3g: %.2f), %d questions; %s",
            *(identity or type(relevance).__name__, told["recall"], low, high, told["ndcg"], told["divergence"]),
            *(told["fitted_temperature"], told["fitted_divergence"], told["questions"], result),
        )


if __name__ == "__main__":
    check_command_line("rank")
    main()
