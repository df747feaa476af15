"""A BLIP-2 for comparing pictures and texts, as it lies on a disk or a hub: for the scout, and for its training."""

import sys
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import AutoImageProcessor, Blip2Config, Blip2ForImageTextRetrieval, PreTrainedTokenizerBase
from transformers.image_utils import PILImageResampling
from transformers.utils.logging import disable_progress_bar

from kvtp.backbone._hub import beside, folder_of
from kvtp.backbone._identity import fingerprint, read_config, read_tokenizer
from kvtp.backbone._qformer import EVERY

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Pictures:
    """How the checkpoint wants its pictures: side [pixels], mean and deviation of the colours."""

    side: int
    mean: Colour
    deviation: Colour


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the Hugging Face layout, or a hub id with its `revision`. `key`: of the configuration, for messages.
    All raise ValueError for what is not there, or cannot be used."""

    name: str
    revision: str | None
    key: str

    @cached_property
    def config(self) -> Blip2Config:
        config = read_config(self.name, self.revision, self.key)
        if config.model_type != "blip-2" or not config.qformer_config.use_qformer_text_input:
            raise ValueError(
                f"{self.key} must be a BLIP-2 whose Q-Former reads text (Blip2ForImageTextRetrieval), got the "
                f"{config.model_type} {self.name!r}; choose another, such as Salesforce/blip2-itm-vit-g"
            )
        if config.qformer_config.cross_attention_frequency != EVERY:
            raise ValueError(
                f"{self.key} must look at the picture in every second layer, {self.name!r} has "
                f"cross_attention_frequency={config.qformer_config.cross_attention_frequency}; choose another"
            )
        return config

    @cached_property
    def pictures(self) -> Pictures:
        """They have to be squashed to its own size."""
        told = AutoImageProcessor.from_pretrained(beside(self.name, self.revision, self.key))
        side = self.config.vision_config.image_size
        size = (told.size.get("height"), told.size.get("width"))
        if size != (side, side) or told.resample != PILImageResampling.BICUBIC:
            raise ValueError(
                f"{self.key} must have its pictures resized to {side} × {side} bicubically, preprocessor_config.json "
                f"of {self.name!r} says {size}, resample {told.resample}; choose another checkpoint"
            )
        return Pictures(side, tuple(told.image_mean), tuple(told.image_std))

    @cached_property
    def words(self) -> PreTrainedTokenizerBase:
        return read_tokenizer(self.name, self.revision, self.key)

    @property
    def identity(self) -> str:
        _ = self.config
        return fingerprint(self.name, self.revision, self.key)

    def model(self, dtype: torch.dtype) -> Blip2ForImageTextRetrieval:
        """A new one, on the CPU; all attention is SDPA."""
        if not sys.stderr.isatty():
            disable_progress_bar()
        _ = self.config
        model, told = Blip2ForImageTextRetrieval.from_pretrained(
            folder_of(self.name, self.revision, self.key),
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
        if lacking := sorted(told["missing_keys"]):
            raise ValueError(
                f"{self.key} {self.name!r} lacks {len(lacking)} of its weights, first {lacking[0]}; fetch it again, "
                "or choose a checkpoint of Blip2ForImageTextRetrieval"
            )
        return model
