"""Whether weight files fit their models, by names and shapes alone: before anything is loaded."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from kvtp.backbone._host import Host
from kvtp.backbone._hub import brief
from kvtp.backbone._weights import Differences, Weights, compare, targets
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.download import sections

log = logging.getLogger(__name__)


def check(rows: Sequence[Row], folder: Path) -> None:
    """Every backbone of the rows. CommandError for what does not fit; every name goes into a file in `folder`."""
    wrong = []
    for config in sections(rows, "backbone"):
        host = make("backbone", config)
        report = folder / f"differences_{Path(host.checkpoint).name}.txt"
        report.unlink(missing_ok=True)
        model, weights, found = compared(host)
        if found:
            report.write_text("".join(f"{line}\n" for line in lines(model, weights, found)))
            wrong.append(f"{host.checkpoint} does not fit {type(host).__name__}, {found}; all names are in {report}")
        else:
            held = targets(model, weights, host.names)
            size = sum(weight.numel() for weight in model.parameters()) * host.precision.itemsize / 2**30
            log.info("%s: %d tensors, %.2f GiB as %s, fits", host.checkpoint, len(held), size, host.dtype)
    if wrong:
        raise CommandError("\n".join(wrong))


def compared(host: Host) -> tuple[nn.Module, Weights, Differences]:
    """The model without memory, what is to fill it, how they differ. CommandError for files that are not there, or
    cannot be read."""
    try:
        model, weights = host.bare_model(), host.weights()
        return model, weights, compare(model, weights, host.names)
    except (ValueError, OSError) as error:
        raise CommandError(brief(error)) from error


def lines(model: nn.Module, weights: Weights, found: Differences) -> list[str]:
    """Every name, with shapes."""
    wanted = model.state_dict()
    told = [
        ("missing: the model has them, the files do not", [f"{n} {_times(wanted[n].shape)}" for n in found.missing]),
        ("unexpected: the other way round", [f"{n} {_times(weights.shape(n))}" for n in found.unexpected]),
        (
            "of the wrong shape, and that of the model",
            [f"{name} {_times(have)} {_times(want)}" for name, have, want in found.misshapen],
        ),
    ]
    return [line for title, names in told if names for line in (f"# {len(names)} {title}", *names)]


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
