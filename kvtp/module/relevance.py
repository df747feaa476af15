"""Trains KVTP's relevance predictor: a whole SigLIP and the temperatures of its context fusion head."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kvtp.command import CommandError
from kvtp.data.sparsekv import Judged, Judgements
from kvtp.errors import check_choice, check_range
from kvtp.metric.ranking import key_recall, ndcg, rate_divergence
from kvtp.module._relevance_loss import clip_loss, frame_loss
from kvtp.module.base import AbstractModule
from kvtp.relevance._encoder import Checkpoint, Encoder
from kvtp.relevance._fusion import Fusion
from kvtp.report.relevance import relevance_figure

log = logging.getLogger(__name__)
PICTURE = "relevance.png"
DRAWN = 8  # questions at most


class Relevance(AbstractModule):
    """arXiv 2503.10742 §4: both towers, scale, bias and fusion head learn; mean over the questions of a batch.

    `checkpoint`, `padding`: as of `relevance=siglip`. `fusion`: of `kvtp.relevance._fusion.Fusion`; with
    `temperature_lr` its temperatures have a learning rate of their own, None = `lr`.
    loss: frame = equation 11; clip = the released code's, pooled over clips.
    `gradient_checkpointing`: towers compute their layers twice and keep less.

    Validation, mean over questions: `val/recall` of key frames in the best `share` of the frames, `val/ndcg` (both over
    questions whose pictures have unlike labels), `val/kl` of keep rates at `rate_temperature` from the oracle's, and
    the loss. The first held-out video is drawn beside the curves.
    """

    takes = Judgements

    def __init__(
        self,
        checkpoint: str,
        revision: str | None,
        padding: str,
        fusion: Mapping[str, Any],
        loss: str,
        share: float,
        rate_temperature: float,
        gradient_checkpointing: bool,
        lr: float,
        temperature_lr: float | None,
        weight_decay: float,
        warmup: int,
        betas: Sequence[float],
    ) -> None:
        super().__init__(lr, weight_decay, warmup, betas)
        check_choice("module.loss", loss, ("frame", "clip"))
        check_range("module.share", share, 0, 1)
        check_range("module.rate_temperature", rate_temperature, 1e-6)
        self.fusion = Fusion(**fusion)
        self.loss = frame_loss if loss == "frame" else partial(clip_loss, clip=self.fusion.clip)
        self.share, self.rate_temperature = share, rate_temperature
        if temperature_lr is not None:
            check_range("module.temperature_lr", temperature_lr, 0)
            self.other_lr = {"fusion.": temperature_lr}
        self.origin, self.origin_revision = checkpoint, revision
        self.encoder = Encoder(Checkpoint(checkpoint, revision, "siglip", "module.checkpoint"), padding, torch.float32)
        self.encoder.model.train()
        if gradient_checkpointing:
            self.encoder.model.gradient_checkpointing_enable({"use_reentrant": False})

    def layers(self) -> Iterable[nn.Module]:
        if self.encoder.padding == "none":
            raise CommandError("with trainer=fsdp all processes run equally often: set module.padding=max_length")
        towers = (self.encoder.model.vision_model, self.encoder.model.text_model)
        return [layer for tower in towers for layer in tower.encoder.layers]

    def transfer_batch_to_device(self, batch: Judgements, device: torch.device, number: int) -> Judgements:
        """Pictures are prepared on the CPU: they follow later."""
        return Judgements(tuple(video._replace(labels=video.labels.to(device)) for video in batch.videos))

    def training_step(self, batch: Judgements, number: int) -> Tensor:
        losses = [
            self.loss(scores, labels)
            for video in batch.videos
            for scores, labels in zip(self.score(video), video.labels, strict=True)
        ]
        mean = torch.stack(losses).mean()
        told = {f"train/{name}": value.detach() for name, value in self.fusion.temperatures.items()}
        self.log_dict({"train/loss": mean, **told})
        return mean

    def validation_step(self, batch: Judgements, number: int) -> None:
        for video in batch.videos:
            found, truth = self.score(video).float().cpu(), video.labels.cpu()  # CUDA sums in no fixed order
            for scores, labels in zip(found, truth, strict=True):
                self.tell("val/loss", float(self.loss(scores, labels)))
                self.tell("val/kl", rate_divergence(scores, labels, self.rate_temperature))
                if labels.max() > labels.min():  # the sampled pictures may have missed what matters
                    self.tell("val/recall", key_recall(scores, labels, self.share))
                    self.tell("val/ndcg", ndcg(scores, labels))
            if number == 0 and self.trainer.is_global_zero:
                self._draw(video, found)

    def score(self, video: Judged) -> Float[Tensor, "Q T"]:
        """Of every question and picture."""
        pictures, texts = self.encoder.look(video.pixels), self.encoder.read(video.texts)
        with torch.autocast(self.device.type, enabled=False):  # logits in the hundreds, told apart by fractions
            found = self.fusion(pictures.float(), torch.cat(texts).float(), self.encoder.scale, self.encoder.bias)
        return torch.stack([parts.amax(0) for parts in found.split([len(text) for text in texts])])

    def _draw(self, video: Judged, scores: Float[Tensor, "Q T"]) -> None:
        """A picture is no reason to end a training."""
        texts, labels, found = video.texts[:DRAWN], video.labels[:DRAWN].cpu(), scores[:DRAWN]
        path = Path(self.trainer.default_root_dir) / PICTURE
        try:
            relevance_figure(video.pixels, texts, labels, found, self.rate_temperature).savefig(path, dpi=110)
        except Exception as error:
            log.warning("no picture of the first video: %s: %s", type(error).__name__, error)
            return
        self.show("val/relevance", path)

    def save(self, folder: Path) -> None:
        self.encoder.model.save_pretrained(folder)
        self.encoder.checkpoint.words.save_pretrained(folder)
        self.encoder.processor.save_pretrained(folder)
        self.fusion.save(folder)
