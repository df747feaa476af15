"""One training: a folder that can be resumed, the curves, and the trained part in the Hugging Face layout."""

import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Timer, TQDMProgressBar
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf
from transformers.utils.logging import disable_progress_bar

from kvtp.backbone._identity import fingerprint
from kvtp.cell import make
from kvtp.checkpoints import Checkpoints
from kvtp.command import CommandError
from kvtp.data.base import AbstractData
from kvtp.journal import Journal
from kvtp.logger.base import AbstractLogger
from kvtp.module.base import RECORDS, AbstractModule
from kvtp.report.curves import curves
from kvtp.session import gpu, versions
from kvtp.store import write_whole

log = logging.getLogger(__name__)
MODEL = "model"  # folder of the trained part; it is there once the training is over
# what Lightning says of trainings that are meant to be so: no epochs, batches made by the data itself, a frozen tower
MEANT = (
    ".*does not have many workers.*",
    ".*in eval mode at the start.*",
    ".*You have overridden `transfer_batch_to_device`.*",
    ".*`isinstance.treespec.*",
    ".*when logging on epoch level in distributed setting.*",  # kvtp.module.base gathers
)


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
    _quieten()
    if torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu":  # before weights go to the first one
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    seed_everything(config["seed"], verbose=False)
    module, data = make("module", config["module"]), make("data", config["data"])
    callbacks = {name: make(f"callbacks.{name}", told) for name, told in config["callbacks"].items()}
    if config["validate"]:
        _validate(config, settings, module, data, folder)
        return
    timer, journal = Timer(), Journal(folder, config["log_every"], config["trainer"]["max_steps"])
    mirrors = _mirrors(config, type(module).__name__.lower(), folder)
    ordered = sorted(callbacks.values(), key=lambda one: isinstance(one, Checkpoints))  # which hold what others count
    trainer = _trainer(config, [journal, *mirrors], [timer, *ordered], folder)
    _check(module, data, trainer, callbacks)
    if trainer.is_global_zero:
        _describe(config, {**settings, **_known(module, data, trainer)}, folder)
        if not (folder / MODEL).exists():
            _note(folder, trainer)
    if (folder / MODEL).exists():
        log.info("%s is there: nothing left to train", folder / MODEL)
        return
    _fit(trainer, module, data, journal, callbacks.get("checkpoints"))
    if trainer.is_global_zero:
        steps, seconds = trainer.global_step, round(timer.time_elapsed("train"))
        trained, step = _trained(module, config["module"], callbacks.get("checkpoints"), steps)
        _finish(trained, folder, journal, {"steps": steps, "seconds": seconds, "weights_step": step})
        for mirror in mirrors:
            mirror.close()


def _known(module: AbstractModule, data: AbstractData, trainer: Trainer) -> dict[str, Any]:
    """What decides what is trained beside the settings."""
    origin = None if module.origin is None else fingerprint(module.origin, module.origin_revision, "the checkpoint")
    per_step = trainer.world_size * trainer.accumulate_grad_batches
    return {"batches_per_step": per_step, "origin": origin, "data_identity": data.identity}


def _validate(
    config: Mapping[str, Any], settings: Mapping[str, Any], module: AbstractModule, data: AbstractData, folder: Path
) -> None:
    """Rank 0's metrics are those of all. What they are of is in .hydra/, as of a training."""
    trainer = _trainer(config, [], [], folder)
    _fitting(module, data)
    if trainer.is_global_zero:
        _describe(config, {**settings, **_known(module, data, trainer)}, folder)
        _note(folder, trainer)
        if config["module"].get("checkpoint", module.origin) is None:
            log.warning("what is validated is a new, untrained network; module.checkpoint=… names a trained one")
    (told,) = trainer.validate(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        write_whole(folder / "validation.json", json.dumps(told, indent=1) + "\n")
        log.info("%s: %s", folder / "validation.json", "  ".join(f"{key} {value:.4g}" for key, value in told.items()))


def _fitting(module: AbstractModule, data: AbstractData) -> None:
    """CommandError for data that the module cannot learn from."""
    if data.gives is not module.takes:
        raise CommandError(
            f"module {type(module).__name__} learns from {module.takes.__name__}, data {type(data).__name__} gives "
            f"{data.gives.__name__}; leave data=… out, the module chooses its own"
        )


def _quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they greet in every process
    for message in MEANT:
        warnings.filterwarnings("ignore", message)
    if not sys.stderr.isatty():
        disable_progress_bar()


def _mirrors(config: Mapping[str, Any], what: str, folder: Path) -> list[AbstractLogger]:
    if not config["logger"]:
        return []
    about = {"folder": folder, "name": config["name"], "group": f"training {what}", "tags": [], "config": config}
    return [make("logger", config["logger"])(**about)]


def _trainer(config: Mapping[str, Any], loggers: list[Any], callbacks: list[Any], folder: Path) -> Trainer:
    terminal = sys.stderr.isatty()
    return make("trainer", config["trainer"])(
        logger=loggers,
        callbacks=[*callbacks, TQDMProgressBar()] if terminal else callbacks,
        enable_progress_bar=terminal,
        enable_checkpointing=False,  # kvtp.checkpoints does
        enable_model_summary=False,
        default_root_dir=str(folder),
    )


def _check(module: AbstractModule, data: AbstractData, trainer: Trainer, callbacks: Mapping[str, Any]) -> None:
    """CommandError for parts that do not go together."""
    saved, interval, per_step = (
        callbacks.get("checkpoints"),
        trainer.val_check_interval,
        trainer.accumulate_grad_batches,
    )
    if interval % per_step:
        raise CommandError(
            f"trainer.val_check_interval counts batches and must be a multiple of trainer.accumulate_grad_batches "
            f"({per_step}), got {interval}; else a checkpoint would fall between two steps"
        )
    if saved is not None and saved.best is not None and trainer.max_steps * per_step % interval:
        raise CommandError(
            f"with callbacks.checkpoints.best the last step must be validated: trainer.max_steps × "
            f"trainer.accumulate_grad_batches ({trainer.max_steps * per_step}) must be a multiple of "
            f"trainer.val_check_interval, got {interval}"
        )
    if isinstance(trainer.strategy, ModelParallelStrategy):
        if saved is None:
            raise CommandError("trainer=fsdp needs callbacks.checkpoints: no process has all weights; leave it in")
        if data.held_out % trainer.world_size:
            raise CommandError(
                f"with trainer=fsdp all processes validate equally often: {data.held_out} validation batches (see "
                f"data.held_out_videos) must be a multiple of the {trainer.world_size} processes"
            )
    _fitting(module, data)
    if data.for_tests:
        raise CommandError("data.held_out_split=test is for validate=true alone: methods are compared on these films")
    if trainer.max_steps <= module.warmup:
        raise CommandError(
            f"trainer.max_steps must be more than module.warmup ({module.warmup}), got {trainer.max_steps}; "
            "raise the one or lower the other"
        )


def _describe(config: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    """Keep the settings; CommandError if those here would train something else."""
    about = folder / ".hydra"
    known = about / "settings.json"
    if known.exists():
        if changed := _differences(json.loads(known.read_text()), settings):
            raise CommandError(
                f"{folder} holds a training with other settings ({', '.join(changed)}); give another name=…, or delete "
                "the folder (batches_per_step = processes × trainer.accumulate_grad_batches; origin = what was trained "
                "before; data_identity = the questions, or what chooses their tokens)"
            )
        return
    about.mkdir(exist_ok=True)
    OmegaConf.save(OmegaConf.create(dict(config)), about / "config.yaml")
    write_whole(known, json.dumps(settings, indent=1) + "\n")


def _note(folder: Path, trainer: Trainer) -> None:
    """A line for this session: a training may go on on another machine, by later code."""
    told = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "gpu": gpu(),
        "versions": versions(),
    }
    with (folder / ".hydra" / "sessions.jsonl").open("a") as file:
        file.write(json.dumps(told) + "\n")


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return [] if one == other else [f"{path}: {one} → {other}"]
    keys = sorted(one.keys() | other.keys())
    return [line for key in keys for line in _differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))]


def _fit(
    trainer: Trainer, module: AbstractModule, data: AbstractData, journal: Journal, saved: Checkpoints | None
) -> None:
    """CommandError if it was stopped."""
    last = None if saved is None else saved.last()
    if last is not None:
        log.info("going on from %s", last)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=False)
    except SystemExit as error:  # Lightning's answer to SIGTERM (status 0!) and to Ctrl-C
        raise CommandError(f"stopped at step {trainer.global_step}; the same command goes on") from error
    if not journal.validated(trainer.global_step):
        trainer.validate(module, datamodule=data, verbose=False)


def _trained(
    module: AbstractModule, config: Mapping[str, Any], saved: Checkpoints | None, steps: int
) -> tuple[AbstractModule, int]:
    """With the weights that the training is to end with, all of them (those of this process may be a part), and the
    step they are of."""
    if saved is None:
        return module, steps
    known = torch.load(saved.chosen(), map_location="cpu", weights_only=False)
    whole = make("module", config)
    whole.load_state_dict(known["state_dict"])
    log.info("weights of step %d", known["global_step"])
    return whole, known["global_step"]


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
    for name in ("curves.png", "metrics.jsonl", ".hydra/settings.json", ".hydra/sessions.jsonl"):
        shutil.copy(folder / name, record)
    (record / "cost.json").write_text(json.dumps(cost) + "\n")
    new.replace(folder / MODEL)
    log.info("trained in %d s: %s (curves.png and metrics.jsonl beside it)", cost["seconds"], folder / MODEL)
