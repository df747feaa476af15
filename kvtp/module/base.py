"""Lightning modules: how parts are trained. Optimiser, schedule and validation are the same for all."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from transformers import get_cosine_schedule_with_warmup

from kvtp.command import CommandError
from kvtp.errors import check_range, check_whole
from kvtp.logger.base import AbstractLogger

RECORDS = "training"  # in a trained model's folder: one folder per training that it went through


class AbstractModule(LightningModule):
    """AdamW; learning rate `lr` after `warmup` steps of linear rise, then a cosine down to 0 at `trainer.max_steps`.

    Matrices decay by `weight_decay`, vectors and scalars do not. `takes`: the type of its batches. `origin`: the folder
    or hub id that training begins from.
    """

    takes: ClassVar[type]
    origin: str | None = None
    origin_revision: str | None = None  # of a hub id

    def __init__(self, lr: float, weight_decay: float, warmup: int, betas: Sequence[float]) -> None:
        super().__init__()
        check_range("module.lr", lr, 0)
        check_range("module.weight_decay", weight_decay, 0)
        check_whole("module.warmup", warmup, 0)
        for beta in betas:
            check_range("module.betas", beta, 0, 1)
        self.lr, self.weight_decay, self.warmup, self.betas = lr, weight_decay, warmup, tuple(betas)
        self.other_lr: dict[str, float] = {}  # of the parameters whose names begin so
        self._told: list[tuple[str, float]] = []

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained part in the Hugging Face layout."""

    def layers(self) -> Iterable[nn.Module]:
        """The parts that are dealt out one by one where weights are shared among devices (trainer=fsdp)."""
        return ()

    def configure_model(self) -> None:
        mesh = self.device_mesh
        if mesh is None or isinstance(self, FSDPModule):
            return
        if not (layers := list(self.layers())):
            raise CommandError(f"module {type(self).__name__} cannot be dealt out among devices; use trainer=ddp")
        half = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32)
        for part in layers:
            fully_shard(part, mesh=mesh["data_parallel"], mp_policy=half)
        fully_shard(self, mesh=mesh["data_parallel"])
        for step in ("training_step", "validation_step"):  # what is called instead of `forward`
            register_fsdp_forward_method(self, step)

    def tell(self, name: str, value: float) -> None:
        """One observation of a validation metric; the mean over all of them, of all processes, is logged."""
        self._told.append((name, value))

    def show(self, name: str, picture: Path) -> None:
        """A picture for the loggers that show pictures."""
        for logger in self.loggers:
            if isinstance(logger, AbstractLogger):
                logger.picture(name, picture)

    def on_validation_epoch_end(self) -> None:
        told: list[Any] = [self._told]
        # processes may have seen different metrics, which Lightning's own sync would mix
        if self.trainer.world_size > 1:
            told = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(told, self._told)
        values = defaultdict(list)
        for name, value in (one for process in told for one in process):
            values[name].append(value)
        self.log_dict({name: sum(seen) / len(seen) for name, seen in sorted(values.items())})
        self._told = []

    def configure_optimizers(self) -> dict[str, Any]:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                lr = next((lr for prefix, lr in self.other_lr.items() if name.startswith(prefix)), self.lr)
                groups.setdefault((lr, self.weight_decay if parameter.ndim >= 2 else 0.0), []).append(parameter)
        told = [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()]
        optimizer = torch.optim.AdamW(told, betas=self.betas)
        schedule = get_cosine_schedule_with_warmup(optimizer, self.warmup, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def freeze(module: nn.Module) -> None:
    """No gradients, no dropout."""
    module.requires_grad_(False).eval()
