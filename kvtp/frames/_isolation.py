"""Decoding in processes of its own: a file that hangs or kills its decoder costs that file only."""

import os
import weakref
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, get_start_method, set_start_method
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from jaxtyping import UInt8
from pebble import ProcessExpired, ProcessPool

from kvtp.errors import LoadError
from kvtp.frames._worker import Decoded, Request, Sheet, decode, end_with_parent


@dataclass(frozen=True)
class _Job:
    future: Future
    pixels: IO[bytes]

    def drop(self) -> None:
        """Nobody will ask for the result. A job that runs is let finish: killing its process would cost a new one."""
        if not self.future.running():
            self.future.cancel()
        self.future.add_done_callback(lambda _: self.pixels.close())


class _Pool:
    """Processes that end with the object, at the latest with the interpreter."""

    def __init__(self, workers: int) -> None:
        if get_start_method(allow_none=True) == "loky":
            # joblib's workers were started in a way that processes spawned by them do not know
            set_start_method("spawn", force=True)
        self.processes = ProcessPool(max_workers=workers, initializer=end_with_parent, context=get_context("spawn"))
        if not self.processes.active:  # it starts them
            raise BrokenProcessPool
        self.close = weakref.finalize(self, _end, self.processes)

    def schedule(self, request: Request, timeout: float) -> _Job:
        pixels = TemporaryFile()  # noqa: SIM115 — closed by whoever takes the result
        mark = os.urandom(16)
        pixels.write(mark)
        pixels.flush()
        sheet = Sheet(f"/proc/{os.getpid()}/fd/{pixels.fileno()}", mark)
        return _Job(self.processes.schedule(decode, (request, sheet), timeout=timeout), pixels)


def _end(processes: ProcessPool) -> None:
    processes.stop()
    processes.join()


class Isolation:
    """`workers` processes, started at the first request; each request may take `timeout` [s].

    Pixels travel by a file without a name in the temporary folder (TMPDIR), which is mapped, not read. The decoding
    process reaches it by the /proc entry of this one: nothing is left behind, even by a process that is killed.
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
        try:
            job = self._schedule(request)
        except RuntimeError:  # `finish` starts other processes
            self._close()
            return
        while len(self._waiting) >= self._workers:
            self._waiting.pop(next(iter(self._waiting))).drop()
        self._waiting[request] = job

    def finish(self, request: Request) -> tuple[Decoded, UInt8[np.ndarray, "T H W 3"]]:
        """Raises `LoadError` for what is the file's fault; ImportError, TypeError, MemoryError, OSError (no space left)
        and RuntimeError for what is not.
        """
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
            job.pixels.close()
