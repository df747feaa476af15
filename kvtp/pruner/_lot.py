"""A lot for every token, the same wherever and whenever it is drawn."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.types import VisualTokens


def lot(tokens: VisualTokens, question_id: str, seed: int) -> Float[Tensor, " K"]:
    """Uniform in [0, 1); of question, `seed` and layer only: not of the device, nor of what ran before."""
    name = f"{question_id}/{seed}/{tokens.layer}"
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    return torch.rand(len(tokens), generator=generator, dtype=torch.float64).to(tokens.frame.device)
