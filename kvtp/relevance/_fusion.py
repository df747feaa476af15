"""KVTP's context fusion head: a frame's relevance also tells of its clip and of the whole video."""

import json
import math
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import cached_file

from kvtp.errors import check_choice, check_range, check_whole

FILE = "fusion.json"  # beside a SigLIP that was trained with it


class Fusion(nn.Module):
    """arXiv 2503.10742, equations 6 to 10. Its only parameters are the two temperatures.

    Every frame attends to the frames of its clip of `clip` (the last clip may be shorter), and to all frames: keys are
    normalised embeddings, values plain ones. The logits of what comes out enter with weights `theta` (clip) and `phi`
    (video), the frame's own with the rest.

    query: what attends. paper = the frame's embedding as it is; normalised = scaled to length 1, as in the released
    code. `temperature`: where both begin. At 1 and SigLIP's width (√1152 ≈ 34) attention is nearly even, so that the
    clip's part is its mean and the video's a constant.
    """

    def __init__(self, clip: int, theta: float, phi: float, query: str, temperature: float) -> None:
        super().__init__()
        check_whole("fusion.clip", clip, 1)
        check_range("fusion.theta", theta, 0, 1)
        check_range("fusion.phi", phi, 0, 1 - theta)
        check_choice("fusion.query", query, ("paper", "normalised"))
        if not temperature > 0:
            raise ValueError(f"fusion.temperature must be above 0, got {temperature}")
        self.clip, self.theta, self.phi, self.query = clip, theta, phi, query
        # logarithms stay positive; vectors of one, because FSDP takes no scalars
        self.local_temperature = nn.Parameter(torch.full((1,), math.log(temperature)))
        self.global_temperature = nn.Parameter(torch.full((1,), math.log(temperature)))

    @classmethod
    def load(cls, checkpoint: str, revision: str | None) -> "Fusion":
        """Of a folder or hub id; ValueError where there is none."""
        path = cached_file(checkpoint, FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path is None:
            raise ValueError(
                f"{checkpoint!r} has no {FILE}: it was not trained with a context fusion head; take a checkpoint that "
                "module=relevance has trained, or relevance.fusion=none, or relevance=siglip"
            )
        told = json.loads(Path(path).read_text())
        learnt = {name: told.pop(name) for name in ("local_temperature", "global_temperature")}
        fusion = cls(**told, temperature=1.0)
        for name, value in learnt.items():
            torch.nn.init.constant_(getattr(fusion, name), math.log(value))
        return fusion

    def save(self, folder: Path) -> None:
        settings = {"clip": self.clip, "theta": self.theta, "phi": self.phi, "query": self.query}
        learnt = {name: value.item() for name, value in self.temperatures.items()}
        (folder / FILE).write_text(json.dumps(settings | learnt, indent=1) + "\n")

    @property
    def temperatures(self) -> dict[str, Float[Tensor, " 1"]]:
        """As they are now."""
        return {
            "local_temperature": self.local_temperature.exp(),
            "global_temperature": self.global_temperature.exp(),
        }

    def forward(
        self, frames: Float[Tensor, "T d"], queries: Float[Tensor, "Q d"], scale: Tensor, bias: Tensor
    ) -> Float[Tensor, "Q T"]:
        """Logits of frames for every text. `scale`, `bias` of SigLIP's logits."""
        near, far = self.context(frames)
        own, local, whole = (logits(part, queries, scale, bias) for part in (frames, near, far))
        return (1 - self.theta - self.phi) * own + self.theta * local + self.phi * whole

    def context(self, frames: Float[Tensor, "T d"]) -> tuple[Float[Tensor, "T d"], Float[Tensor, "T d"]]:
        """Every frame as its clip has it, and as the video has it."""
        number = torch.arange(len(frames), device=frames.device) // self.clip
        apart = number[:, None] != number
        return (
            self._attend(frames, self.local_temperature, apart),
            self._attend(frames, self.global_temperature, torch.zeros_like(apart)),
        )

    def _attend(
        self, frames: Float[Tensor, "T d"], temperature: Tensor, apart: Bool[Tensor, "T T"]
    ) -> Float[Tensor, "T d"]:
        keys = F.normalize(frames, dim=-1)
        queries = frames if self.query == "paper" else keys
        scores = queries @ keys.T / (temperature.exp() * math.sqrt(frames.shape[1]))
        return scores.masked_fill(apart, float("-inf")).softmax(-1) @ frames


def logits(
    frames: Float[Tensor, "T d"], queries: Float[Tensor, "Q d"], scale: Tensor, bias: Tensor
) -> Float[Tensor, "Q T"]:
    """scale · cos + bias: equation 2."""
    return scale * (F.normalize(queries, dim=-1) @ F.normalize(frames, dim=-1).T) + bias
