"""One training: a folder that can be resumed, the curves, and the trained part in the Hugging Face layout."""

import json
import logging
import platform
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Timer, TQDMProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf
from transformers.utils.logging import disable_progress_bar

from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.journal import Journal
from kvtp.module.base import RECORDS, AbstractModule
from kvtp.report.curves import curves
from kvtp.session import gpu, versions

log = logging.getLogger(__name__)
MODEL = "model"  # folder of the trained part; it is there once the training is over


def train(config: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    """Train, or go on where a stopped training saved last. CommandError where the folder holds another training.

    `settings`: the part of the configuration that decides what is trained, with no path resolved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    guard = FileLock(folder / ".lock")
    if rank_zero_only.rank == 0:
        try:
            guard.acquire(timeout=0)
        except Timeout as error:
            raise CommandError(f"{folder} is being written by another training; wait for it to end") from error
        _describe(config, settings, folder)
    if (folder / MODEL).exists():
        log.info("%s is there: nothing left to train", folder / MODEL)
        return
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    seed_everything(config["seed"], verbose=False)
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they greet, and warn of what is meant to be so
    warnings.filterwarnings("ignore", module="lightning")
    if not sys.stderr.isatty():
        disable_progress_bar()
    module: AbstractModule = make("module", config["module"])
    data = make("data", config["data"])
    journal = Journal(folder, config["log_every"])
    mirror = make("logger", config["logger"]) if config["logger"] else None
    callbacks = [make(f"callbacks.{name}", settings) for name, settings in config["callbacks"].items()]
    terminal = sys.stderr.isatty()
    if terminal:
        callbacks.append(TQDMProgressBar())
    timer = Timer()  # goes on over kills
    callbacks.append(timer)
    trainer = make("trainer", config["trainer"])(
        logger=[journal, mirror] if mirror else [journal],
        callbacks=callbacks,
        enable_progress_bar=terminal,
        enable_model_summary=False,
        default_root_dir=str(folder),
    )
    last = folder / "checkpoints" / "last.ckpt"
    if last.exists():
        log.info("going on from %s", last)
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=False)
    if trainer.interrupted:
        raise CommandError(f"stopped at step {trainer.global_step}; the same command goes on")
    if trainer.is_global_zero:
        _finish(module, folder, journal, {"steps": trainer.global_step, "seconds": round(timer.time_elapsed("train"))})


def _describe(config: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    """Keep the settings; CommandError if those here would train something else."""
    about = folder / ".hydra"
    known = about / "settings.json"
    if known.exists():
        if changed := _differences(json.loads(known.read_text()), settings):
            raise CommandError(
                f"{folder} holds a training with other settings ({', '.join(changed)}); "
                "give another name=…, or delete the folder"
            )
        return
    about.mkdir(exist_ok=True)
    OmegaConf.save(OmegaConf.create(dict(config)), about / "config.yaml")
    known.write_text(json.dumps(settings, indent=1) + "\n")


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return [] if one == other else [f"{path}: {one} → {other}"]
    keys = sorted(one.keys() | other.keys())
    return [line for key in keys for line in _differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))]


def _finish(module: AbstractModule, folder: Path, journal: Journal, cost: Mapping[str, int]) -> None:
    """Save the trained part, and in it how it was made, after the same of what it was made from."""
    new = folder / f"{MODEL}.new"
    shutil.rmtree(new, ignore_errors=True)
    module.save(new)
    curves(journal.rows()).savefig(folder / "curves.png", dpi=110)
    records = new / RECORDS
    if module.origin is not None and (Path(module.origin) / RECORDS).is_dir():
        shutil.copytree(Path(module.origin) / RECORDS, records)
    record = records / f"{len(list(records.glob('*'))) + 1}_{type(module).__name__.lower()}"
    record.mkdir(parents=True)
    for name in ("curves.png", "metrics.jsonl", ".hydra/settings.json"):
        shutil.copy(folder / name, record)
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    machine = {"threads": torch.get_num_threads(), "cpu": platform.machine(), "gpu": gpu()}
    told = {"command": words, **cost, **machine, "versions": versions()}
    (record / "record.json").write_text(json.dumps(told, indent=1) + "\n")
    new.replace(folder / MODEL)
    log.info("trained in %d s: %s (curves.png and metrics.jsonl beside it)", cost["seconds"], folder / MODEL)
