"""Trains projector and decoder of a LLaVA-OneVision to reply about videos; the tower is frozen."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from shutil import copy

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import cached_file

from kvtp.backbone._state import Prefill
from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.data._states import half
from kvtp.data.conversations import Conversations
from kvtp.module.base import AbstractModule, freeze
from kvtp.types import Selection, VisualTokens

PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


class Answerer(AbstractModule):
    """Cross-entropy of the reply and of the token that ends it, each reply with the same weight.

    The input is laid out by the code that inference uses (`Prefill.lay_out`), after the same kind of cut: a random part
    of the tokens, positions renumbered.
    """

    takes = Conversations

    def __init__(
        self, backbone: LlavaOnevision, lr: float, weight_decay: float, warmup: int, betas: Sequence[float]
    ) -> None:
        super().__init__(lr, weight_decay, warmup, betas)
        self.backbone = backbone
        self.origin = backbone.checkpoint
        self.model = backbone.model
        self.model.train()
        freeze(self.model.model.vision_tower)
        if backbone.newline == "none":
            self.model.model.image_newline.requires_grad_(False)  # nothing uses it

    def setup(self, stage: str) -> None:
        self.backbone.device = self.device

    def transfer_batch_to_device(self, batch: Conversations, device: torch.device, number: int) -> Conversations:
        """Pictures are resized as integers, which CUDA cannot: they follow later."""
        return batch._replace(seen=batch.seen.to(device)) if batch.seen.is_floating_point() else batch

    def training_step(self, batch: Conversations, number: int) -> Tensor:
        logits, target = self.replies(batch)
        loss = self._losses(logits, target).mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Conversations, number: int) -> None:
        logits, target = self.replies(batch)
        losses, hits = self._losses(logits, target), logits.argmax(-1) == target
        for kind, reply, hit, loss in zip(batch.kinds, target, hits, losses.tolist(), strict=True):
            words = (reply >= 0).sum() - 1  # without the token that ends it
            self.tell(f"val/{kind}_at_{batch.retention:g}", hit[:words].float().mean().item())
            self.tell(f"val/loss_at_{batch.retention:g}", loss)

    def replies(self, batch: Conversations) -> tuple[Float[Tensor, "B R V"], Int64[Tensor, "B R"]]:
        """Logits of every reply's tokens, and these tokens; −100 after its end."""
        backbone, device = self.backbone, self.device
        states = batch.seen if batch.seen.is_floating_point() else self._look(batch.seen)
        frames = states.shape[1]
        places = backbone.places(frames)
        generator = torch.Generator().manual_seed(batch.seed)
        parts = [
            random_part(frames, len(places["frame"]) // frames, batch.retention, batch.unevenness, generator)
            for _ in batch.prompts
        ]
        features = backbone.project_some(states, torch.stack(parts).to(device))
        every = VisualTokens(
            **places, features=features.new_empty(len(places["frame"]), 0), timestamps=torch.zeros(frames).double()
        )
        embed = self.model.get_input_embeddings()
        inputs, targets, starts = [], [], []
        for prompt, reply, part, kept in zip(batch.prompts, batch.replies, parts, features, strict=True):
            tokens = every.keep(Selection(part.to(device), kept))
            before, after = (embed(torch.tensor(ids, device=device)) for ids in backbone.around(prompt))
            newline = self.model.model.image_newline
            state = Prefill.lay_out(prompt, before, tokens, after, backbone.newline, newline)
            said = torch.tensor([*backbone.ids(reply), backbone.tokenizer.eos_token_id], device=device)
            inputs.append(torch.cat([state.hidden, embed(said[:-1])]))
            targets.append(said)
            starts.append(len(state) - 1)
        # causal, and what fills up comes last: no row sees it, no mask is needed
        hidden = self.model.model.language_model(
            inputs_embeds=pad_sequence(inputs, batch_first=True), use_cache=False
        ).last_hidden_state
        target = pad_sequence(targets, batch_first=True, padding_value=-100)
        place = torch.tensor(starts, device=device)[:, None] + torch.arange(target.shape[1], device=device)
        place = place.clamp_max(hidden.shape[1] - 1)
        return self.model.lm_head(hidden[torch.arange(len(hidden), device=device)[:, None], place]), target

    def _look(self, pixels: Tensor) -> Float[Tensor, "B T P C"]:
        """As `kvtp.data._states` keeps them: to the bit what training on kept states sees."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return half(self.backbone.look(pixels.flatten(0, 1))).unflatten(0, pixels.shape[:2])

    def _losses(self, logits: Float[Tensor, "B R V"], target: Int64[Tensor, "B R"]) -> Float[Tensor, " B"]:
        """Of each reply, mean over its tokens."""
        each = F.cross_entropy(logits.float().transpose(1, 2), target, ignore_index=-100, reduction="none")
        return each.sum(1) / (target >= 0).sum(1)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.backbone.tokenizer.save_pretrained(folder)
        for name in PROCESSORS:
            where = {"revision": self.backbone.revision, "_raise_exceptions_for_missing_entries": False}
            if (path := cached_file(self.backbone.checkpoint, name, **where)) is not None:
                copy(path, folder)


def random_part(
    frames: int, each: int, retention: float, unevenness: float, generator: torch.Generator
) -> Int64[Tensor, " K"]:
    """⌈r·K⌉ of K = `frames` · `each` tokens drawn without replacement, ascending; those of frame t with weight
    exp(u·n_t), n_t normal, u uniform in [0, `unevenness`]: from even thinning to a few frames that keep nearly all."""
    count = ceil(retention * frames * each)
    spread = unevenness * torch.rand((), generator=generator) * torch.randn(frames, generator=generator)
    # the largest of log-weight + Gumbel noise are a weighted draw without replacement (Efraimidis and Spirakis 2006)
    noise = -torch.empty(frames * each).exponential_(generator=generator).log()
    return (spread.repeat_interleave(each) + noise).topk(count).indices.sort().values
