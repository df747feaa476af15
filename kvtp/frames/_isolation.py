"""Decoding in processes of its own: a file that hangs or kills its decoder costs that file only."""

import weakref
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from pebble import ProcessExpired, ProcessPool

from kvtp.errors import LoadError
from kvtp.frames._worker import Decoded, Request, decode


@dataclass(frozen=True)
class _Job:
    future: Future
    pixels: Path

    def drop(self) -> None:
        """Nobody will ask for the result. A job that runs is let finish: killing its process would cost a new one."""
        if not self.future.running():
            self.future.cancel()
        self.future.add_done_callback(lambda _: self.pixels.unlink(missing_ok=True))


class _Pool:
    """Processes and the folder they write to; both end with the object, at the latest with the interpreter."""

    def __init__(self, workers: int) -> None:
        if get_start_method(allow_none=True) == "loky":
            # joblib's workers were started in a way that processes spawned by them do not know
            set_start_method("spawn", force=True)
        self.processes = ProcessPool(max_workers=workers, context=get_context("spawn"))
        if not self.processes.active:  # it starts them; where that fails no folder is left behind
            raise BrokenProcessPool
        self._folder = TemporaryDirectory(prefix="kvtp-frames-")
        self._numbers = count()
        self.close = weakref.finalize(self, _end, self.processes, self._folder)

    def schedule(self, request: Request, timeout: float) -> _Job:
        pixels = Path(self._folder.name, f"{next(self._numbers)}.rgb")
        return _Job(self.processes.schedule(decode, (request, pixels), timeout=timeout), pixels)


def _end(processes: ProcessPool, folder: TemporaryDirectory) -> None:
    processes.stop()
    processes.join()
    folder.cleanup()


class Isolation:
    """`workers` processes, started at the first request; each request may take `timeout` [s].

    Pixels travel by a file that is mapped, not read, and loses its name before they are used: nothing is left behind.
    A script that decodes must guard its work with `if __name__ == "__main__":`, for its processes import it again.
    """

    def __init__(self, workers: int, timeout: float) -> None:
        self._workers = workers
        self._timeout = timeout
        self._pool: _Pool | None = None
        self._waiting: dict[Request, _Job] = {}

    def begin(self, request: Request) -> None:
        """Start now, for a later `finish`. At most `workers` results wait; the oldest is dropped."""
        if request in self._waiting:
            return
        job = self._schedule(request)
        while len(self._waiting) >= self._workers:
            self._waiting.pop(next(iter(self._waiting))).drop()
        self._waiting[request] = job

    def finish(self, request: Request) -> tuple[Decoded, UInt8[np.ndarray, "T H W 3"]]:
        """Raises `LoadError` for what is the file's fault, else ImportError or RuntimeError."""
        for _ in range(2):  # a pool also breaks when an idle process is killed from outside
            try:
                job = self._waiting.pop(request, None) or self._schedule(request)
                return self._result(job, request.path)
            except BrokenProcessPool:
                self._close()
        raise RuntimeError(
            "the decoding processes die before they begin; "
            'does the script guard its work with `if __name__ == "__main__":`?'
        )

    def _schedule(self, request: Request) -> _Job:
        if self._pool is None or not self._pool.processes.active:
            self._close()
            self._pool = _Pool(self._workers)
        return self._pool.schedule(request, self._timeout)

    def _close(self) -> None:
        self._waiting.clear()
        if self._pool is not None:
            self._pool.close()
        self._pool = None

    def _result(self, job: _Job, path: str) -> tuple[Decoded, UInt8[np.ndarray, "T H W 3"]]:
        try:
            while not wait([job.future], timeout=1).done:
                if self._pool is None or not self._pool.processes.active:  # broken just as the job came: nobody answers
                    raise BrokenProcessPool
            decoded = job.future.result()
            return decoded, np.memmap(job.pixels, np.uint8, "c", shape=decoded.shape)
        except TimeoutError as error:
            raise LoadError(f"{path}: not decoded within {self._timeout:g} s; frames.timeout allows more") from error
        except ProcessExpired as error:
            raise LoadError(f"{path}: its decoding process died (exit code {error.exitcode})") from error
        finally:
            job.pixels.unlink(missing_ok=True)
