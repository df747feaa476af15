"""Rules for decoding processes to run in place of a sampler's. They import next to nothing, as the processes must."""

import errno
import os
import signal
import sys

import numpy as np
from av.error import MemoryError as FFmpegMemoryError


def first(total: int, average_fps: float) -> np.ndarray:
    return np.arange(1)


def leave(total: int, average_fps: float) -> np.ndarray:
    os._exit(7)


def crash(total: int, average_fps: float) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)


def tell_modules(total: int, average_fps: float) -> np.ndarray:
    raise LookupError(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))


def wrong_kind(total: int, average_fps: float) -> np.ndarray:
    return np.linspace(0, total - 1, 2.5)


def no_memory(total: int, average_fps: float) -> np.ndarray:
    raise MemoryError("no memory")


def no_space(total: int, average_fps: float) -> np.ndarray:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def absurd_size(total: int, average_fps: float) -> np.ndarray:
    raise FFmpegMemoryError(errno.ENOMEM, "Cannot allocate memory")
