"""Reader `torchcodec`: PyTorch's own; it needs a system FFmpeg and a build that fits torch."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt8

from kvtp.frames._probe import Probe
from kvtp.frames._reader import REMEDY, AbstractReader, check_count, check_kind


class TorchCodec(AbstractReader):
    def read(self, probe: Probe, indices: Int64[np.ndarray, " T"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: its shared libraries do not load
            raise ImportError(
                f"the reader torchcodec does not import ({str(error).splitlines()[0]}): install FFmpeg's shared "
                f"libraries and the torchcodec release made for this torch, or {REMEDY}"
            ) from error

        check_kind("torchcodec", probe)
        video = VideoDecoder(probe.path, dimension_order="NHWC", seek_mode="exact")
        check_count("torchcodec", len(video), probe)
        for index in indices.tolist():
            yield video[index].numpy()
