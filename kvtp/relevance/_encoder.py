"""A dual encoder (SigLIP, CLIP): pictures and texts become points of one space."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    GemmaTokenizer,
    PreTrainedTokenizerBase,
    Siglip2Tokenizer,
)
from transformers.utils.logging import disable_progress_bar

from kvtp.backbone._identity import read_config
from kvtp.backbone.base import VisionShape
from kvtp.errors import check_choice
from kvtp.metric.flops import encoder, vision

# SigLIP's default settings of the special tokens lie outside its default vocabulary, and it says so on every load
logging.getLogger("transformers.configuration_utils").addFilter(
    lambda record: "token_id must be" not in record.getMessage() or "got 4940" not in record.getMessage()
)
PADDINGS = ("max_length", "none")


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the Hugging Face layout, or a hub id with its `revision`. What its files tell without weights."""

    name: str
    revision: str | None
    family: str  # siglip | clip
    key: str  # of the configuration, for messages

    @cached_property
    def config(self) -> Any:
        """ValueError for what is not there, or is of another family."""
        config = read_config(self.name, self.revision, self.key)
        if config.model_type != self.family:
            raise ValueError(
                f"{self.key} must be a {self.family} model (SigLIP 2 with square pictures is siglip, too), "
                f"{self.name!r} is {config.model_type}; choose another checkpoint"
            )
        return config

    @cached_property
    def words(self) -> PreTrainedTokenizerBase:
        found = AutoTokenizer.from_pretrained(self.name, revision=self.revision)
        if self.family == "siglip" and isinstance(found, GemmaTokenizer):
            # SigLIP 2 with square pictures calls itself siglip, and its tokenizer forgets that texts were lower-cased
            return Siglip2Tokenizer.from_pretrained(self.name, revision=self.revision)
        return found

    @property
    def length(self) -> int:
        """Tokens that a text may have."""
        return self.config.text_config.max_position_embeddings

    def parts(self, text: str) -> list[list[int]]:
        """A text's tokens; of a long one in parts, each with the special tokens that the tokenizer puts around a text.
        (KVTP's released code puts them around the whole, so that its parts but the last have no end.)"""
        whole, bare = self.words(text).input_ids, self.words(text, add_special_tokens=False).input_ids
        starts = [start for start in range(len(whole)) if whole[start : start + len(bare)] == bare] if bare else [0]
        if not starts:
            raise ValueError(
                f"the tokenizer of {self.name!r} reads {text!r} otherwise with special tokens than without"
            )
        first = starts[0]
        before, after = whole[:first], whole[first + len(bare) :]
        return [[*before, *part, *after] for part in chunks(bare, self.length - len(before) - len(after))]

    def look_flops(self, pictures: int) -> float:
        """Of embedding so many pictures (1 MAC = 2 FLOPs)."""
        seeing = self.config.vision_config
        patches = (seeing.image_size // seeing.patch_size) ** 2
        values = seeing.num_channels * seeing.patch_size**2
        if self.family == "siglip":
            shape = VisionShape(
                rows=patches,
                patches=patches,
                patch_values=values,
                width=seeing.hidden_size,
                ffn=seeing.intermediate_size,
                ffn_matrices=2,
                layers=seeing.num_hidden_layers,
                pairs=seeing.num_hidden_layers * patches**2,
                connector=0,
            )
            return vision(shape, pictures, pooled=True)
        macs = encoder(patches + 1, seeing.hidden_size, seeing.intermediate_size, seeing.num_hidden_layers)
        macs += seeing.hidden_size * (patches * values + self.config.projection_dim)
        return 2.0 * pictures * macs

    def read_flops(self, pictures: int, text: str, padding: str) -> float:
        """Of embedding a text, and of its products with so many pictures."""
        reading = self.config.text_config
        joint = self.config.vision_config.hidden_size if self.family == "siglip" else self.config.projection_dim
        parts = [self.length if padding == "max_length" else len(part) for part in self.parts(text)]
        sizes = (reading.hidden_size, reading.intermediate_size, reading.num_hidden_layers)
        macs = sum(encoder(length, *sizes) + reading.hidden_size * joint + pictures * joint for length in parts)
        return 2.0 * macs


class Encoder(nn.Module):
    """The networks of a checkpoint.

    padding: max_length = texts are filled up to the length that the model was trained with; none = as in KVTP's
    released code, which SigLIP, pooling the last place, was not trained with.
    """

    def __init__(self, checkpoint: Checkpoint, padding: str, dtype: torch.dtype) -> None:
        super().__init__()
        check_choice("padding", padding, PADDINGS)
        self.checkpoint, self.padding = checkpoint, padding
        if not sys.stderr.isatty():
            disable_progress_bar()
        name, revision = checkpoint.name, checkpoint.revision
        self.model = AutoModel.from_pretrained(name, config=checkpoint.config, revision=revision, dtype=dtype)
        self.processor = AutoImageProcessor.from_pretrained(name, revision=revision)

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Of the logits: what a cosine is multiplied with."""
        return self.model.logit_scale.exp().squeeze()

    @property
    def bias(self) -> Float[Tensor, ""]:
        """Of the logits; CLIP has none."""
        bias = getattr(self.model, "logit_bias", None)
        return torch.zeros_like(self.scale) if bias is None else bias.squeeze()

    def look(self, pixels: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T d"]:
        """Embeddings of pictures, as the checkpoint's own processor prepares them."""
        ready = self.processor(
            images=list(pixels.cpu().numpy()), input_data_format="channels_last", return_tensors="pt"
        ).pixel_values
        ready = ready.to(self.device, self.model.dtype)
        return self.model.get_image_features(pixel_values=ready).pooler_output

    def read(self, texts: Sequence[str]) -> list[Float[Tensor, "Q d"]]:
        """Of each text the embeddings of its parts; one, unless it is long."""
        each = [self.checkpoint.parts(text) for text in texts]
        every = [part for parts in each for part in parts]
        if self.padding == "none":  # unlike lengths do not fit one batch
            found = torch.cat([self._read([part]) for part in every])
        else:
            told = {"padding": "max_length", "max_length": self.checkpoint.length}
            found = self._read(self.checkpoint.words.pad({"input_ids": every}, **told).input_ids)
        return list(found.split([len(parts) for parts in each]))

    def _read(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "Q d"]:
        return self.model.get_text_features(input_ids=torch.tensor(rows, device=self.device)).pooler_output


def chunks(ids: Sequence[int], size: int) -> list[list[int]]:
    """In order, each of `size` but a shorter last one; one empty chunk of nothing."""
    return [list(ids[start : start + size]) for start in range(0, max(1, len(ids)), size)]
