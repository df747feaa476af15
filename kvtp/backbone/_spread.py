"""One model over several GPUs: which parameter goes where. The engine carries states from one to the next."""

import os
from collections.abc import Callable, Mapping

import torch
from accelerate import infer_auto_device_map
from torch import nn

SPARE = 0.15  # of each GPU's free memory, for caches and activations
SHARES = (1.05, 1.25, float("inf"))  # what a GPU may hold, in even shares: the first at which all have a place


def own_gpus(count: int) -> range:
    """This process's, of so many that the machine has: the processes on it share them evenly."""
    each = count // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    first = int(os.environ.get("LOCAL_RANK", 0)) * each
    return range(first, first + each)


def spread(model: nn.Module, dtype: torch.dtype, free: Mapping[int, int]) -> Callable[[str], torch.device]:
    """`model` on the meta device, `free` bytes of each GPU by its number. ValueError if it does not fit."""
    if not free:
        raise ValueError("backbone.device_map=auto needs a GPU for each process, there is none; use device_map=null")
    whole = list(getattr(model, "_no_split_modules", None) or ())
    need = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    for share in SHARES:  # accelerate fills one GPU after the other
        limits: dict[int | str, int] = {
            number: int(min(size * (1 - SPARE), share * need / len(free))) for number, size in free.items()
        }
        limits["cpu"] = 2**60
        found = infer_auto_device_map(model, limits, no_split_module_classes=whole, dtype=dtype)
        if "cpu" not in found.values():
            break
    else:
        raise ValueError(
            f"the model needs {need / 2**30:.0f} GiB beside its caches, the {len(free)} GPUs of this process have "
            f"{sum(free.values()) / 2**30:.0f} GiB free; give it more GPUs, or fewer processes"
        )
    devices = {prefix: torch.device("cuda", number) for prefix, number in found.items()}

    def place(name: str) -> torch.device:
        parts = name.split(".")
        return next(
            devices[prefix]
            for prefix in (".".join(parts[:depth]) for depth in range(len(parts), -1, -1))
            if prefix in devices
        )

    return place
