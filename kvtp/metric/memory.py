"""How much memory GPUs held at most. Nothing is told of a CPU: there, caches and decoders share it."""

import torch

LACK = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


def reset_peak(device: torch.device) -> None:
    for gpu in _gpus(device):
        torch.cuda.reset_peak_memory_stats(gpu)


def peak(device: torch.device) -> dict[str, float]:
    """`peak_answer` [bytes] since the last reset, weights included: the sum over this process's GPUs, should the model
    be spread over several."""
    return {"peak_answer": float(sum(map(torch.cuda.max_memory_allocated, gpus)))} if (gpus := _gpus(device)) else {}


def too_little(error: RuntimeError) -> bool:
    """Whether it says that memory did not suffice: a GPU's error has a class of its own, others are told by words."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(word in told for word in LACK)


def _gpus(device: torch.device) -> range:
    return range(torch.cuda.device_count() if device.type == "cuda" else 0)
