"""What methods cost on a backbone, from shapes alone or timed with random weights: `python scripts/meter.py --help`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kvtp.command import ROOT, CommandError, check_command_line, one_line_errors
from kvtp.config import Row, compose_rows
from kvtp.errors import check_choice, check_whole
from kvtp.ranks import alone

log = logging.getLogger("kvtp.meter")


@hydra.main(version_base="1.3", config_path="../conf", config_name="meter")
def main(cfg: DictConfig) -> None:
    with one_line_errors():
        alone("scripts/meter.py")
        asked: Any = OmegaConf.to_container(cfg.meter)
        try:
            check(cfg.device, asked)
        except ValueError as error:
            raise CommandError(str(error)) from error
        folder = Path(HydraConfig.get().runtime.output_dir)
        from kvtp.session import versions
        from kvtp.store import write_whole

        about = {"config": OmegaConf.to_container(cfg, resolve=True), "versions": versions()}
        write_whole(folder / "about.json", json.dumps(about, indent=2) + "\n")
        if asked["published"]:
            tell_published(folder, Path(cfg.paths.outputs) / "cache" / "computed")
            return
        # any benchmark: none is asked
        rows = compose_rows(cfg, own=("meter", "device"), always=["benchmark=shapes"])
        import torch

        from kvtp.metric.meter import meter, networks
        from kvtp.report.comparison import write
        from kvtp.report.costs import bars, shown, table

        if cfg.device == "cuda" and not torch.cuda.is_available():
            raise CommandError(
                "device=cuda needs a GPU that torch can use, there is none; give device=cpu, or no device"
            )
        if asked["threads"] is not None:
            torch.set_num_threads(asked["threads"])
        size = asked["size"] = tuple(asked["size"])
        asked["frames"] = asked["frames"] or sorted({row.config["backbone"]["frames"] for row in rows})
        lines = meter(rows, asked["frames"], size, asked["text"], asked["reply"], asked["repeats"], asked["film"])
        write(table(lines), folder / "costs.csv")
        if any(line.costs is not None for line in lines):
            bars(lines).savefig(folder / "costs.png", dpi=130)
        log.info("%s\n%s", folder, shown(lines))
        if all(line.costs is None for line in lines):
            raise CommandError(f"nothing could be counted: {lines[0].refused}")
        used = {network: row.name for row in rows for network in networks(row).items()}
        for (what, checkpoint), name in used.items():
            log.info("the cost of choosing the tokens of %s is with the %s %s", name, what, checkpoint)
        if cfg.device is not None:
            tell_times(folder, rows, cfg.device, asked, cfg.runner.log_every)
            for (what, checkpoint), name in used.items():
                log.info("the times of %s are without the %s %s, whose scores are drawn", name, what, checkpoint)


def check(device: Any, asked: dict[str, Any]) -> None:
    """ValueError for what cannot be meant."""
    check_choice("device", device, (None, "cpu", "cuda"))
    check_choice("meter.film", asked["film"], ("alike", "scenes"))
    if device is not None and asked["published"]:
        raise ValueError(f"meter.published=true times nothing, device={device} says nothing; give one of them")
    for key, what in (("frames", "whole numbers"), ("size", "two whole numbers, height and width")):
        values = asked[key]
        if key == "frames" and values is None:
            continue
        if not isinstance(values, list) or not values or (key == "size" and len(values) != 2):
            raise ValueError(f"meter.{key} must be a list of {what}, got {values!r}")
        for value in values:
            check_whole(f"meter.{key}", value, 1)
    if any(word.startswith(("frames", "benchmark")) for word in HydraConfig.get().overrides.task):
        raise ValueError("nothing is seen or asked here, frames=… and benchmark=… say nothing; give meter.frames=[…]")
    given = {word.partition("=")[0] for word in HydraConfig.get().overrides.task}
    if device is None and (idle := sorted(given & {"meter.rounds", "meter.warm_ups", "backbone.device"})):
        raise ValueError(f"without device=… nothing is timed, {', '.join(idle)} say nothing; give device=cpu or cuda")
    least = {"text": 1, "reply": 0, "repeats": 0, "warm_ups": 1, "rounds": 1}
    for key, low in least.items():
        check_whole(f"meter.{key}", asked[key], low)
    if asked["threads"] is not None:
        check_whole("meter.threads", asked["threads"], 1)


def tell_times(folder: Path, rows: Sequence[Row], device: str, asked: dict[str, Any], every: float) -> None:
    import torch

    from kvtp.metric.timing import Trial, time_rows
    from kvtp.report.comparison import write
    from kvtp.report.costs import TIMED, shown, stacks, table
    from kvtp.session import gpu

    trial = Trial(device, **{key: asked[key] for key in ("size", "text", "reply", "warm_ups", "rounds")})
    lines = time_rows(rows, asked["frames"], trial, every)
    where = gpu() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    write([{**line, "device": where} for line in table(lines)], folder / "timings.csv")
    stacks(lines).savefig(folder / "timings.png", dpi=130)
    log.info("%s: [ms] on %s, × the unpruned model\n%s", folder / "timings.csv", where, shown(lines, TIMED))


def tell_published(folder: Path, cache: Path) -> None:
    from kvtp.metric.published import account, agreement, lines, published
    from kvtp.report.comparison import write
    from kvtp.report.costs import shown_published

    cells = built(published(ROOT / "published", account("7b"), account("72b")), cache)
    write(list(lines(cells)), folder / "published.csv")
    told = [
        f"{table}: {' '.join(agreement([cell for cell in cells if cell.table == table]))}"
        for table in dict.fromkeys(cell.table for cell in cells)
    ]
    log.info("%s\n%s\n%s\nall: %s", folder, shown_published(cells), "\n".join(told), agreement(cells)[0])


def built(cells: Sequence[Any], cache: Path) -> list[Any]:
    """Where no formula is known, with what rows of the table's experiment leave. `cache`: as of reports."""
    from kvtp.paper import join
    from kvtp.paper.computed import completed, computed
    from kvtp.paper.published import read
    from kvtp.paper.sheets import Rows, spent

    known: dict[tuple[str, ...], Any] = {}
    for table in {cell.table for cell in cells if cell.formula.computed is None}:
        lacking = {_line(cell) for cell in cells if cell.table == table and cell.formula.computed is None}
        asked = {_line(cell): [cell] for cell in read(ROOT / "published", table) if _line(cell) in lacking}
        cfg = compose("eval", [f"experiment={table}"])
        cfg.rows = [
            row
            for (cell,) in asked.values()
            for entry in join.entries(cell)[:1]
            for row in (entry, join.against(cell, entry["backbone"]))
        ]
        rows = compose_rows(cfg, own=("meter", "device"), always=[f"experiment={table}"])
        told = spent(asked, Rows(rows, ()), lambda rows: computed(rows, cache))
        known |= {(table, *line): pair for line, pair in told.items()}
    return [
        replace(cell, formula=completed(cell.formula, cell.table, *known.get((cell.table, *_line(cell)), (None, None))))
        for cell in cells
    ]


def _line(cell: Any) -> tuple[str, str, str]:
    """That it is printed in."""
    return cell.backbone, cell.method, cell.setting


if __name__ == "__main__":
    check_command_line("meter")
    main()
