"""How unevenly the relevance of a video is spread."""

from collections.abc import Sequence

import torch


def keyframe_sparsity(relevance: Sequence[float], temperature: float = 2) -> float:
    """Largest over mean keep rate of softmax(relevance / temperature), in [1, frames]: KVTP §3, the β of its filter."""
    rates = (torch.tensor(relevance, dtype=torch.float64) / temperature).softmax(0)
    return float(rates.max() / rates.mean())
