"""Lightning modules: how parts are trained. Optimiser and schedule are the same for all."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from kvtp.errors import check_range, check_whole

RECORDS = "training"  # in a trained model's folder: one folder per training that it went through


class AbstractModule(LightningModule):
    """AdamW; learning rate `lr` after `warmup` steps of linear rise, then a cosine down to 0 at `trainer.max_steps`.

    Matrices decay by `weight_decay`, vectors and scalars do not. `origin`: the folder that training began from.
    """

    origin: str | None = None

    def __init__(self, lr: float, weight_decay: float, warmup: int) -> None:
        super().__init__()
        check_range("module.lr", lr, 0)
        check_range("module.weight_decay", weight_decay, 0)
        check_whole("module.warmup", warmup, 0)
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.other_lr: dict[str, float] = {}  # of the parameters whose names begin so

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the trained part in the Hugging Face layout."""

    def configure_optimizers(self) -> dict[str, Any]:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                lr = next((lr for prefix, lr in self.other_lr.items() if name.startswith(prefix)), self.lr)
                groups.setdefault((lr, self.weight_decay if parameter.ndim >= 2 else 0.0), []).append(parameter)
        told = [{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()]
        optimizer = torch.optim.AdamW(told, betas=(0.9, 0.98))
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_cosine_schedule_with_warmup(optimizer, self.warmup, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def freeze(module: nn.Module) -> None:
    """No gradients, no dropout."""
    module.requires_grad_(False).eval()
