"""Reader `decord`: the library most video language models were evaluated with."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt8

from kvtp.frames._probe import Probe
from kvtp.frames._reader import REMEDY, AbstractReader, Unsuited, check_count, check_kind


class Decord(AbstractReader):
    def read(self, probe: Probe, indices: Int64[np.ndarray, " T"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        try:
            from decord import VideoReader, cpu, logging
        except (ImportError, OSError) as error:  # OSError: its shared library does not load
            raise ImportError(
                f"the reader decord does not import ({error}): pip install decord, or {REMEDY}"
            ) from error

        check_kind("decord", probe)
        if probe.open_gop:
            raise Unsuited(f"decord miscounts after a seek in films with open groups of pictures; {REMEDY}")
        logging.set_level(logging.QUIET)  # what matters comes as an error
        try:
            video = VideoReader(probe.path, ctx=cpu(0))
        except Exception as error:
            raise Unsuited(f"decord cannot open the file ({str(error).splitlines()[0]}); {REMEDY}") from error
        check_count("decord", len(video), probe)
        for index in indices.tolist():
            yield video[index].asnumpy()
