"""What a frozen tower makes of films, computed once: a CPU has better things to do than to look at them again."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.benchmark.shapes import Shapes
from kvtp.frames._sampler import AbstractSampler
from kvtp.frames.base import ahead

log = logging.getLogger(__name__)


def half(states: Tensor) -> Tensor:
    """In fp16, or ValueError where a state does not fit."""
    found = states.to(torch.float16)
    if not found.isfinite().all():
        raise ValueError(
            f"states of the tower must be finite and below {torch.finfo(torch.float16).max:.0f} to be kept as fp16, "
            f"the largest is {states.abs().max():.3g}; choose another checkpoint"
        )
    return found


class TowerStates:
    """One .npy per video, fp16, in a folder under `root` whose name tells of tower, world and sampling."""

    def __init__(self, root: str, backbone: LlavaOnevision, benchmark: Shapes, frames: AbstractSampler) -> None:
        what = hashlib.sha256(backbone.tower_digest.encode() + repr(frames.rule).encode()).hexdigest()[:16]
        self.folder = Path(root) / f"{benchmark.videos_identity}_{what}"
        self.backbone, self.frames = backbone, frames

    def make(self, videos: Sequence[str]) -> None:
        """Compute what is missing. Processes that want the same wait for the one that is at it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            missing = [video for video in videos if not self._file(video).exists()]
            if missing:
                log.info("the tower looks at %d films, once; kept in %s", len(missing), self.folder)
            shown = tqdm(missing, desc="tower states", unit="video", disable=None)
            for video, frames in zip(shown, ahead(self.frames, missing), strict=True):
                new = self._file(video).with_suffix(".new")
                with new.open("wb") as file:
                    np.save(file, half(self.backbone.look(frames.pixels)).cpu().numpy())
                new.replace(self._file(video))  # whole, or not there

    def __getitem__(self, video: str) -> Float[Tensor, "T P C"]:
        return torch.from_numpy(np.load(self._file(video)))

    def _file(self, video: str) -> Path:
        return self.folder / f"{Path(video).stem}.npy"
