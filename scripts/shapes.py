"""Makes SparseKV-Shapes and shows some of its questions: `python scripts/shapes.py --help`."""

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

import kvtp.config  # noqa: F401 — its resolvers are used in conf/
from kvtp.command import CommandError, check_command_line, one_line_errors
from kvtp.errors import check_whole

log = logging.getLogger("kvtp.shapes")


@hydra.main(version_base="1.3", config_path="../conf", config_name="shapes")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        from kvtp.cell import make
        from kvtp.metric.sparsity import keyframe_sparsity
        from kvtp.report.contact_sheet import contact_sheet

        try:
            for key in ("questions", "every"):
                check_whole(key, cfg[key], 1)
        except ValueError as error:
            raise CommandError(str(error)) from error
        benchmark, frames = make("benchmark", cfg.benchmark), make("frames", cfg.frames)
        asked = [benchmark[index] for index in range(len(benchmark))]
        spread = [keyframe_sparsity(question.relevance) for question in asked if question.relevance]
        if spread:
            log.info("%d questions, keyframe sparsity %.2f on average", len(asked), sum(spread) / len(spread))
        shown = asked[:: cfg.every][: cfg.questions]
        picture = Path(cfg.picture)
        picture.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet([(question, frames(question.video)) for question in shown]).savefig(picture, dpi=110)
        log.info("%s shows %d of them", picture, len(shown))


if __name__ == "__main__":
    check_command_line("shapes")
    main()
