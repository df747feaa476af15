"""What hosts in LLaVA-1.5's image share: CLIP tower, MLP projector, Vicuna."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaForConditionalGeneration

from kvtp.backbone._clip import CUES, ClipTower
from kvtp.backbone._host import LANGUAGE, Host, grid
from kvtp.backbone._identity import read_json
from kvtp.backbone._skeleton import llava_layers, llava_skeleton, llava_vision
from kvtp.backbone._weights import Layout
from kvtp.backbone.base import Size, Skeleton, VisionShape
from kvtp.types import Cues, Frames, Prompt, VisualTokens

OLD = (  # names of transformers' older layout → ours
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^(vision_tower|multi_modal_projector)\.", r"model.\1."),
    (r"^model\.vision_tower\.vision_model\.", "model.vision_tower."),
)
BUFFERS = (r"\.rotary_emb\.inv_freq$", r"\.position_ids$")


@dataclass(eq=False)
class Llava(Host):
    """Patches of the tower's last but one layer, without the class token, through the projector."""

    layout = Layout(renames=OLD, unwanted=BUFFERS)
    families = frozenset({"llava"})  # what its config.json may call itself

    # -- what the configuration alone tells ------------------------------------------------------------------------

    @cached_property
    def config(self) -> LlavaConfig:
        told = read_json(self.checkpoint, self.revision, "backbone.checkpoint")
        family = told.pop("model_type", None)
        if family not in self.families or told.get("text_config", {}).get("model_type", "llama") != "llama":
            raise ValueError(
                f"backbone.checkpoint must be a {' or '.join(sorted(self.families))} with a llama inside, "
                f"{self.checkpoint!r} is {family}; choose the backbone of that family"
            )
        return LlavaConfig(**told)

    @property
    def patches(self) -> int:
        vision = self.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2

    @property
    def tower_layers(self) -> int:
        """Those that run."""
        return llava_layers(self.config, "default")

    def vision_shape(self, size: Size) -> VisionShape:
        return llava_vision(self.config, self.tower_layers, class_tokens=1)

    def skeleton(self, size: Size) -> Skeleton:
        return llava_skeleton(self.bare_model, self.tower_layers)

    @property
    def supplies(self) -> frozenset[str]:
        return CUES | LANGUAGE

    # -- weights ---------------------------------------------------------------------------------------------------

    def empty(self) -> LlavaForConditionalGeneration:
        return LlavaForConditionalGeneration._from_config(self.config, attn_implementation=self.attn)

    @property
    def language(self) -> tuple[nn.Module, nn.Module]:
        return self.model.model.language_model, self.model.lm_head

    @cached_property
    def tower(self) -> ClipTower:
        return ClipTower(self.model.model.vision_tower, self.tower_layers)

    # -- the line --------------------------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self, pixels: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n 3 side side"]:
        """As the tower wants pictures."""

    def pool(self, values: Float[Tensor, "n P *c"]) -> Float[Tensor, "n N *c"]:
        """Patches become tokens; features and cues alike."""
        return values

    def in_time(self, values: Float[Tensor, "n *c"]) -> Float[Tensor, "T *c"]:
        """Pictures become token frames; features, cues and times alike."""
        return values

    @torch.inference_mode()
    def encode(self, frames: Frames, cues: frozenset[str]) -> VisualTokens:
        found: list[dict[str, Tensor]] = []
        for pixels in frames.pixels.split(self.frame_chunk):
            states, patches = self.tower(self.prepare(pixels), cues)
            made = {"features": self.model.model.multi_modal_projector(states), **patches}
            found.append({name: self.pool(values) for name, values in made.items()})
        video = {name: self.in_time(torch.cat([chunk[name] for chunk in found])).flatten(0, 1) for name in found[0]}
        if "cls_attention_heads" in video:
            video["cls_attention_heads"] = video["cls_attention_heads"].T
        return VisualTokens(
            **self.places(len(frames), frames.size),
            features=video.pop("features"),
            timestamps=self.in_time(frames.timestamps),
            duration=frames.duration,
            depth=self.shape.layers,
            cues=Cues(**video),
        )

    def places(self, frames: int, size: Size) -> dict[str, Any]:
        blank = self.in_time(self.pool(torch.zeros(frames, self.patches)))
        side = int(blank.shape[1] ** 0.5)
        return grid(len(blank), side, side, self.home)

    @abstractmethod
    def write(self, prompt: Prompt) -> str:
        """All that is read, the word <image> where the video stands."""

    def around(self, tokens: VisualTokens, prompt: Prompt) -> tuple[list[int], list[int]]:
        # read at once: a sentencepiece tokenizer reads the beginning of a text otherwise than its middle
        ids = self.tokenizer(self.write(prompt)).input_ids
        place = ids.index(self.tokenizer.convert_tokens_to_ids("<image>"))
        return ids[:place], ids[place + 1 :]
