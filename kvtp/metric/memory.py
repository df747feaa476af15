"""How much memory a GPU held at most. Nothing is told of a CPU: there, caches and decoders share it."""

import torch


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak() -> dict[str, float]:
    """`peak` [bytes] since the last reset, weights included."""
    return {"peak": float(torch.cuda.max_memory_allocated())} if torch.cuda.is_available() else {}
