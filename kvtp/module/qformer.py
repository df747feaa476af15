"""Trains a BLIP-2's Q-Former to look at what a text is about: Vista-LLM's semantic scout."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F
from transformers import Blip2ForImageTextRetrieval, PreTrainedTokenizerBase, SiglipModel

from kvtp.backbone._pixels import HALF, squash
from kvtp.data._describe import corpus
from kvtp.data.region_text import Regions
from kvtp.errors import check_choice, check_range, check_whole
from kvtp.module._alignment import POOLS, ROLES, Alignment, contrast, draw, odds, points, similarity
from kvtp.module.base import AbstractModule, freeze
from kvtp.report.pointing import pointing_figure
from kvtp.scout._blip2 import look, match, read, saliency, see
from kvtp.scout._checkpoint import Checkpoint
from kvtp.scout._new import new_blip2, new_words, save_scout

log = logging.getLogger(__name__)
PICTURE = "pointing.png"
DRAWN = 8  # pairs at most
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and deviation of pixels
Scout = tuple[Blip2ForImageTextRetrieval, PreTrainedTokenizerBase, Colours]


class QFormer(AbstractModule):
    """Vista-LLM, appendix A: matching + contrast + `weight` · alignment (equation 13). The tower is frozen; Q-Former,
    its queries, words, heads and the projector (of `alignment`, see `kvtp.module._alignment.Alignment`) learn.

    `checkpoint`: a `Blip2ForImageTextRetrieval`, folder or hub id; None = a new one, `new`: keys of `new_scout`.
    `length` [tokens] of a text at most. `itc_pool`: of `similarity`; mean as released, max as BLIP-2. `negatives`,
    `negatives_temperature`: of `odds`; the released code has `official` and 1. What is known to be true is nowhere
    taken for wrong (in the released code it is); a pair for which nothing is left has no wrong one. All that is drawn,
    dropout too, depends on the batch alone. In the released code the learning rate has no schedule, and queries learn
    nothing from the contrast.

    Validation, mean over pairs: `val/alignment`, the cosine; `val/itm`, how often right pairs and wrong ones, drawn
    evenly, are told for what they are (mean of the two: chance is one half); `val/pointing`, how often the patch that
    the scout scores highest is in the text's box, and with the heads' mean, as is trained, `val/pointing_mean`. The
    first held-out pairs are drawn beside the curves.
    """

    takes = Regions

    def __init__(
        self,
        checkpoint: str | None,
        revision: str | None,
        new: Mapping[str, Any],
        length: int,
        weight: float,
        alignment: Mapping[str, Any],
        itc_pool: str,
        negatives: str,
        negatives_temperature: float,
        lr: float,
        weight_decay: float,
        warmup: int,
        betas: Sequence[float],
    ) -> None:
        super().__init__(lr, weight_decay, warmup, betas)
        check_range("module.weight", weight, 0)
        check_choice("module.itc_pool", itc_pool, POOLS)
        check_choice("module.negatives", negatives, ROLES)
        check_range("module.negatives_temperature", negatives_temperature, 1e-6)
        self.weight, self.itc_pool, self.roles, self.temperature = weight, itc_pool, negatives, negatives_temperature
        if checkpoint is None:
            self.origin = new["siglip"]
            self.model, self.words, self.colours = new_scout(**new)
        else:
            self.origin, self.origin_revision = checkpoint, revision
            self.model, self.words, self.colours = _known(checkpoint, revision)
        config = self.model.config
        check_whole("module.length", length, 3, config.qformer_config.max_position_embeddings)
        self.length, self.side = length, config.vision_config.image_size
        self.alignment = Alignment(config.vision_config.hidden_size, config.image_text_hidden_size, **alignment)
        self.model.train()
        freeze(self.model.vision_model)

    def train(self, mode: bool = True) -> "QFormer":
        super().train(mode)
        self.model.vision_model.eval()
        return self

    def transfer_batch_to_device(self, batch: Regions, device: torch.device, number: int) -> Regions:
        """Pictures are resized as integers, which CUDA cannot: they follow later."""
        return batch._replace(boxes=batch.boxes.to(device), true=batch.true.to(device))

    def training_step(self, batch: Regions, number: int) -> Tensor:
        torch.manual_seed(batch.seed)  # of dropout: a resumed training drops what it would have dropped
        found = self._passes(batch)
        with torch.autocast(self.device.type, enabled=False):
            matching = F.cross_entropy(found.logits, found.labels)
            contrasting = contrast(found.similar, batch.true)
            aligning = 1 - self._cosines(found).mean()
        loss = matching + contrasting + self.weight * aligning
        self.log_dict({"train/loss": loss, "train/itm": matching, "train/itc": contrasting, "train/align": aligning})
        return loss

    @torch.no_grad()
    def validation_step(self, batch: Regions, number: int) -> None:
        if not batch.phrases:  # none of the pictures could be read
            return
        found = self._passes(batch)
        with torch.autocast(self.device.type, enabled=False):
            right = (found.logits.argmax(1) == found.labels).float()
            aims = (batch.boxes[:, 2:] - batch.boxes[:, :2]).prod(1) < 1  # in a crop there is nothing to point at
            told = {
                "val/alignment": self._cosines(found),
                "val/itm": torch.stack([right[found.labels == label].mean() for label in found.labels.unique()]),
                "val/pointing": points(saliency(found.attention, "max"), batch.boxes)[aims].float(),
                "val/pointing_mean": points(saliency(found.attention, "mean"), batch.boxes)[aims].float(),
            }
        for name, values in told.items():
            for value in values.tolist():
                self.tell(name, value)
        if number == 0 and self.trainer.is_global_zero:
            self._draw(batch, saliency(found.attention, "max").cpu())

    def _draw(self, batch: Regions, scores: Float[Tensor, "B P"]) -> None:
        """A picture is no reason to end a training."""
        path = Path(self.trainer.default_root_dir) / PICTURE
        try:
            pointing_figure(batch.pixels[:DRAWN], batch.phrases, batch.boxes.cpu(), scores).savefig(path, dpi=110)
        except Exception as error:
            log.warning("no picture of the first pairs: %s: %s", type(error).__name__, error)
            return
        self.show("val/where", path)

    def _passes(self, batch: Regions) -> "Passes":
        model = self.model
        with torch.no_grad():
            seen = see(model, self._pixels(batch))
        ids, mask = self._words(batch.phrases)
        texts = read(model, ids, mask)
        pictures = look(model, seen)
        with torch.autocast(self.device.type, enabled=False):
            similar = similarity(pictures.float(), texts.float(), self.itc_pool)
            # in validation any wrong one, else a better model were asked harder questions
            like = similar.detach() if self.training else torch.zeros_like(similar)
            chances = odds(like, batch.true, self.roles, self.temperature)
        generator = torch.Generator().manual_seed(batch.seed)
        (wrong_text, any_text), (wrong_picture, any_picture) = (draw(chance, generator) for chance in chances)
        own = torch.arange(len(seen), device=self.device)
        picture = torch.cat([own, own[any_text], wrong_picture[any_picture]])
        text = torch.cat([own, wrong_text[any_text], own[any_picture]])
        states, attention = match(model, seen[picture], ids[text], mask[text], mapped=True)
        assert attention is not None
        return Passes(
            patches=seen[:, 1:].float(),
            texts=texts.float(),
            similar=similar,
            attention=attention[: len(seen)],
            logits=model.itm_head(states).mean(1).float(),
            labels=(torch.arange(len(picture), device=self.device) < len(seen)).long(),
        )

    def _cosines(self, found: "Passes") -> Float[Tensor, " B"]:
        return self.alignment(saliency(found.attention, "mean"), found.patches, found.texts)

    def _pixels(self, batch: Regions) -> Float[Tensor, "B 3 side side"]:
        """Pictures may have unlike sizes."""
        each = [squash(pixels[None], self.side, self.side, self.device, *self.colours) for pixels in batch.pixels]
        return torch.cat(each)

    def _words(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "B words"], Int64[Tensor, "B words"]]:
        given = self.words(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return given.input_ids.to(self.device), given.attention_mask.to(self.device)

    def save(self, folder: Path) -> None:
        """Without the projector, which only training needs."""
        save_scout(self.model, self.words, folder, *self.colours)


class Passes(NamedTuple):
    """What the networks make of a batch: pairs first, then the wrong ones."""

    patches: Float[Tensor, "B P C"]
    texts: Float[Tensor, "B joint"]
    similar: Float[Tensor, "B B"]
    attention: Float[Tensor, "B heads queries seen"]
    logits: Float[Tensor, "M 2"]
    labels: Int64[Tensor, " M"]


def new_scout(siglip: str, qformer: Mapping[str, Any], queries: int, joint: int, vocabulary: int, seed: int) -> Scout:
    """A Q-Former with random weights on the tower of a SigLIP, and at most `vocabulary` words of the small world; see
    `kvtp.scout._new.new_blip2`."""
    words = new_words(corpus(), vocabulary)
    return new_blip2(SiglipModel.from_pretrained(siglip), qformer, queries, joint, words, seed), words, (HALF, HALF)


def _known(checkpoint: str, revision: str | None) -> Scout:
    known = Checkpoint(checkpoint, revision, "module.checkpoint")
    return known.model(torch.float32), known.words, (known.pictures.mean, known.pictures.deviation)
