"""What a process was when it wrote rows: a run may be resumed on another machine, by later code."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from kvtp.command import ROOT
from kvtp.config import NEUTRAL, Row

PACKAGES = ("kvtp", "torch", "transformers", "av", "decord", "torchcodec")


def session(row: Row, rank: int, processes: int) -> dict[str, Any]:
    """Facts without a clock: versions, machine, and all that was set and does not enter the run's id."""
    return {
        "rank": rank,
        "processes": processes,
        "gpu": gpu(),
        "overrides": list(row.overrides),
        "paths": row.config["paths"],
        **{f"{stage}.{key}": row.config[stage][key] for stage, key in NEUTRAL if key in row.config.get(stage, {})},
        "versions": versions(),
    }


def gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


@cache
def versions() -> dict[str, str | None]:
    """None for what is not installed, and for the commit outside a checkout."""
    return {package: _version(package) for package in PACKAGES} | {"commit": _commit()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The code's git commit, with `-dirty` where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
