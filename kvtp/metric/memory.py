"""How much memory a GPU held at most. Nothing is told of a CPU: there, caches and decoders share it."""

import torch


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> dict[str, float]:
    """`peak_answer` [bytes] since the last reset, weights included."""
    return {"peak_answer": float(torch.cuda.max_memory_allocated(device))} if device.type == "cuda" else {}
