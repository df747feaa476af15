"""Trains projector and decoder of a LLaVA-OneVision to reply about videos; the tower is frozen."""

from collections import defaultdict
from collections.abc import Sequence
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
    """Cross-entropy of the reply and of the token that ends it. Forms of talk (see
    `kvtp.data.conversations`) weigh the same, however many talks there are of each; among them, each reply does.

    The input is laid out by the code that inference uses (`Prefill.lay_out`), after the same kind of cut: a part of the
    tokens, positions renumbered.
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
        if backbone.newlines == "none":
            self.model.model.image_newline.requires_grad_(False)  # nothing uses it

    def setup(self, stage: str) -> None:
        self.backbone.home = self.device

    def transfer_batch_to_device(self, batch: Conversations, device: torch.device, number: int) -> Conversations:
        """Pictures are resized as integers, which CUDA cannot: they follow later."""
        return batch._replace(seen=batch.seen.to(device)) if batch.seen.is_floating_point() else batch

    def training_step(self, batch: Conversations, number: int) -> Tensor:
        logits, target = self.replies(batch)
        losses = defaultdict(list)
        for talk, loss in zip(batch.talks, self._losses(logits, target), strict=True):
            losses[talk.form].append(loss)
        means = {name: torch.stack(each).mean() for name, each in losses.items()}
        self.log_dict({f"train/{name}": mean for name, mean in means.items()})
        loss = torch.stack(list(means.values())).mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Conversations, number: int) -> None:
        logits, target = self.replies(batch)
        losses, hits = self._losses(logits, target), logits.argmax(-1) == target
        for talk, reply, hit, loss in zip(batch.talks, target, hits, losses.tolist(), strict=True):
            words = (reply >= 0).sum() - 1  # without the token that ends it
            self.tell(f"val/{talk.kind}_at_{batch.parts.retention:g}", hit[:words].float().mean().item())
            self.tell(f"val/loss_at_{batch.parts.retention:g}", loss)

    def replies(self, batch: Conversations) -> tuple[Float[Tensor, "N R V"], Int64[Tensor, "N R"]]:
        """Logits of every reply's tokens, and these tokens; −100 after its end.

        What stands before the question is run once per part of a film, for all talks about it: each sees it and nothing
        of the others.
        """
        backbone, device = self.backbone, self.device
        language_model, embed = self.model.model.language_model, self.model.get_input_embeddings()
        every = backbone.blank(batch.seen.shape[1], tuple(batch.seen.shape[2:4]))
        around = [backbone.around(every, talk.prompt) for talk in batch.talks]
        if any(before != around[0][0] for before, _ in around):
            raise ValueError("prompts of one batch must have the same text before the video; bring them in line")
        films = self._films(batch, every, around[0][0])
        long = pad_sequence(films, batch_first=True)
        # causal, and what fills up comes last: no row sees it, no mask is needed
        cache = language_model(inputs_embeds=long, use_cache=True).past_key_values
        about = torch.tensor([talk.about for talk in batch.talks], device=device)
        cache.batch_select_indices(about)

        said = [[*backbone.ids(talk.reply), backbone.tokenizer.eos_token_id] for talk in batch.talks]
        rows = [[*after, *reply[:-1]] for (_, after), reply in zip(around, said, strict=True)]
        asked = pad_sequence([embed(torch.tensor(row, device=device)) for row in rows], batch_first=True)
        length = torch.tensor([len(film) for film in films], device=device)[about, None]
        real = torch.arange(long.shape[1], device=device) < length
        hidden = language_model(
            inputs_embeds=asked,
            attention_mask=torch.cat([real, torch.ones_like(asked[..., 0], dtype=torch.bool)], 1),
            position_ids=length + torch.arange(asked.shape[1], device=device),
            past_key_values=cache,
        ).last_hidden_state
        target = pad_sequence([torch.tensor(reply, device=device) for reply in said], True, -100)
        starts = torch.tensor([len(after) - 1 for _, after in around], device=device)[:, None]
        place = (starts + torch.arange(target.shape[1], device=device)).clamp_max(hidden.shape[1] - 1)
        return self.model.lm_head(hidden[torch.arange(len(hidden), device=device)[:, None], place]), target

    def _films(self, batch: Conversations, every: VisualTokens, before: Sequence[int]) -> list[Float[Tensor, "S D"]]:
        """Of each part of a film what stands before the question: text, and the visual tokens that are in it."""
        backbone, device = self.backbone, self.device
        states = batch.seen if batch.seen.is_floating_point() else self._look(batch.seen)
        frames = states.shape[1]
        films, parts = zip(*batch.parts.of(len(states), frames, len(every) // frames), strict=True)
        rows = pad_sequence(parts, batch_first=True)
        features = backbone.project_some(states[torch.tensor(films, device=states.device)], rows.to(device))
        begin = self.model.get_input_embeddings()(torch.tensor(before, device=device))
        newline = backbone.separators()
        return [
            Prefill.lay_out(
                batch.talks[0].prompt,
                begin,
                every.keep(Selection(part.to(device), kept[: len(part)])),
                begin[:0],
                backbone.newlines,
                newline,
            ).hidden
            for part, kept in zip(parts, features, strict=True)
        ]

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
