"""Trains a SigLIP (Zhai et al. 2023) from nothing, with its sigmoid loss over pictures and over regions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F
from transformers import SiglipImageProcessor

from kvtp.backbone._new import new_siglip, new_tokenizer
from kvtp.backbone._siglip import bare, preprocess
from kvtp.data._describe import corpus
from kvtp.data.scenes import GRID, Scenes
from kvtp.errors import check_range
from kvtp.module.base import AbstractModule


class Siglip(AbstractModule):
    """`vision`, `text`: keys of `SiglipVisionConfig`, `SiglipTextConfig`. The tokenizer has at most `vocabulary` words.

    `bias`: where that of the logits starts, the log-odds that a text is true of a picture. (The paper's −10 is for one
    true text in thousands.)

    The loss is −Σ log σ(z (t·x·y + b)) / B over all pairs of a picture x and a text y, z = 1 where the text is true of
    the picture, else −1 (so several pairs in a row may be positive). To it comes `region_weight` times the same loss
    for regions: what the pooling head makes of a few neighbouring patches alone. It keeps what the language model will
    need in every patch; whole pictures' descriptions alone leave it in a few.

    `text_lr` should be much lower than `lr`: a text tower that learns as fast as the pictures' first makes all texts
    alike that tell of what the pictures' tower cannot see yet, and then it never will.
    """

    takes = Scenes

    def __init__(
        self,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        vocabulary: int,
        bias: float,
        region_weight: float,
        lr: float,
        text_lr: float,
        weight_decay: float,
        warmup: int,
        betas: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__(lr, weight_decay, warmup, betas)
        check_range("module.region_weight", region_weight, 0)
        check_range("module.text_lr", text_lr, 0)
        if vision["image_size"] // vision["patch_size"] % GRID:
            raise ValueError(
                f"module.vision must have a multiple of {GRID} patches in a row, got {vision['image_size']} // "
                f"{vision['patch_size']}; regions are cells of {GRID} × {GRID}"
            )
        self.words = new_tokenizer(corpus(), vocabulary)
        self.model = new_siglip(vision, text, self.words, bias, seed)
        self.region_weight = region_weight
        self.other_lr = {"model.text_model.": text_lr}

    def transfer_batch_to_device(self, batch: Scenes, device: torch.device, number: int) -> Scenes:
        """Pictures are resized as integers, which CUDA cannot: they follow later."""
        told = {key: getattr(batch, key).to(device) for key in ("shows", "cells", "cell_shows")}
        return batch._replace(**told)

    def training_step(self, batch: Scenes, number: int) -> Tensor:
        pictures, regions = self._scores(batch)
        whole, part = sigmoid_loss(pictures, batch.shows), sigmoid_loss(regions, batch.cell_shows)
        self.log_dict({"train/pictures": whole, "train/regions": part})
        return whole + self.region_weight * part

    def validation_step(self, batch: Scenes, number: int) -> None:
        pictures, regions = self._scores(batch)
        for name, (start, end) in batch.choices.items():
            for where, scores, truth in (
                ("pictures", pictures, batch.shows),
                ("regions", regions, batch.cell_shows),
            ):
                asked = truth[..., start:end]
                hits = scores[..., start:end].argmax(-1) == asked.int().argmax(-1)
                for hit in hits[asked.any(-1)].tolist():  # nothing is asked about a background
                    self.tell(f"val/{where}_{name}", hit)

    def _scores(self, batch: Scenes) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B R N"]]:
        """Logits of every text for every picture and region."""
        vision = bare(self.model.vision_model)
        states = vision.post_layernorm(
            vision.encoder(inputs_embeds=vision.embeddings(self._pixels(batch))).last_hidden_state
        )
        patches = states[torch.arange(len(states), device=states.device)[:, None, None], self._patches(batch)]
        regions = vision.head(patches.flatten(0, 1)).unflatten(0, batch.cells.shape)
        length = self.model.config.text_config.max_position_embeddings
        ids = self.words(
            list(batch.texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        texts = F.normalize(self.model.text_model(ids.to(self.device)).pooler_output, dim=-1)
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        return tuple(F.normalize(seen, dim=-1) @ texts.T * scale + bias for seen in (vision.head(states), regions))

    def _pixels(self, batch: Scenes) -> Float[Tensor, "B 3 side side"]:
        return preprocess(batch.pixels, self.model.config.vision_config.image_size, self.device)

    def _patches(self, batch: Scenes) -> Int64[Tensor, "B R patches"]:
        """The patches of each cell."""
        config = self.model.config.vision_config
        side = config.image_size // config.patch_size
        across = side // batch.grid
        row, column = batch.cells // batch.grid * across, batch.cells % batch.grid * across
        inner = torch.arange(across, device=batch.cells.device)
        rows, columns = row[..., None, None] + inner[:, None], column[..., None, None] + inner
        return (rows * side + columns).flatten(-2)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.words.backend_tokenizer.no_padding()  # else it would be saved with the last call's
        self.words.backend_tokenizer.no_truncation()
        self.words.model_max_length = self.model.config.text_config.max_position_embeddings
        self.words.save_pretrained(folder)
        side = self.model.config.vision_config.image_size
        SiglipImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)


def sigmoid_loss(logits: Float[Tensor, "*B N"], true: Bool[Tensor, "*B N"]) -> Float[Tensor, ""]:
    """Summed over texts, mean over pictures (Zhai et al. 2023, alg. 1)."""
    return -F.logsigmoid(torch.where(true, logits, -logits).float()).sum(-1).mean()
