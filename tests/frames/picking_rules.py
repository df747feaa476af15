"""Rules for decoding processes to run in place of a sampler's. They import next to nothing, as the processes must."""

import os
import signal
import sys

import numpy as np


def first(total: int, average_fps: float) -> np.ndarray:
    return np.arange(1)


def leave(total: int, average_fps: float) -> np.ndarray:
    os._exit(7)


def crash(total: int, average_fps: float) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)


def tell_modules(total: int, average_fps: float) -> np.ndarray:
    raise LookupError(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
