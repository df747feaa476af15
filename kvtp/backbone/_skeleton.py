"""Models without weights, in parts that take plain tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kvtp.backbone._siglip import bare
from kvtp.backbone.base import Part, Skeleton, VisionShape


class Seeing(nn.Module):
    """A tower of pictures as it is used: without the layers that do not run, without what follows the last one."""

    def __init__(self, tower: nn.Module, layers: int) -> None:
        super().__init__()
        self.embeddings = bare(tower).embeddings
        self.norm = getattr(bare(tower), "pre_layrnorm", nn.Identity())  # CLIP's
        self.layers = bare(tower).encoder.layers[:layers]

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.norm(self.embeddings(pixels))
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None)
        return hidden


class Attending(nn.Module):
    """A decoder layer's attention."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self.attention(hidden_states=hidden, attention_mask=None, position_embeddings=(cos, sin))[0]


def decoder_parts(decoder: nn.Module, head: nn.Module) -> dict[str, Part]:
    """Of a decoder on the meta device: the fields of `Skeleton` that are the LLM's."""
    layer = decoder.layers[0]
    row = torch.empty(1, 1, layer.self_attn.q_proj.in_features, device="meta")
    turn = torch.empty(1, 1, layer.self_attn.head_dim, device="meta")
    return {
        "attention": (Attending(layer.self_attn), (row, turn, turn)),
        "mlp": (layer.mlp, (row,)),
        "lm_head": (head, (row,)),
    }


def llava_layers(config: Any, strategy: str) -> int:
    """Of a LLaVA's tower those that run; ValueError for a configuration of another kind."""
    layer, said = config.vision_feature_layer, config.vision_feature_select_strategy
    if not isinstance(layer, int) or said != strategy:
        raise ValueError(
            f"one vision_feature_layer with vision_feature_select_strategy={strategy} is supported, the checkpoint has "
            f"{layer} and {said!r}"
        )
    return layer if layer >= 0 else config.vision_config.num_hidden_layers + 1 + layer


def llava_vision(config: Any, layers: int, class_tokens: int) -> VisionShape:
    """Of a LLaVA whose tower sees squares and whose projector gets all patches."""
    tower, width = config.vision_config, config.text_config.hidden_size
    patches = (tower.image_size // tower.patch_size) ** 2
    rows = patches + class_tokens
    return VisionShape(
        rows=rows,
        patches=patches,
        patch_values=tower.num_channels * tower.patch_size**2,
        width=tower.hidden_size,
        ffn=tower.intermediate_size,
        ffn_matrices=2,
        layers=layers,
        pairs=layers * rows**2,
        connector=patches * width * (tower.hidden_size + width),
        key_width=tower.hidden_size // tower.num_attention_heads,
    )


def llava_skeleton(bare_model: Callable[[], Any], layers: int) -> Skeleton:
    """Of a LLaVA: `layers` of its tower run on squares, all its patches go through the projector."""
    model = bare_model().to("meta")
    vision = model.config.vision_config
    side, patches = vision.image_size, (vision.image_size // vision.patch_size) ** 2
    return Skeleton(
        tower=(Seeing(model.model.vision_tower, layers), (torch.empty(1, 3, side, side, device="meta"),)),
        connector=(
            model.model.multi_modal_projector,
            (torch.empty(1, patches, vision.hidden_size, device="meta"),),
        ),
        **decoder_parts(model.model.language_model, model.lm_head),
    )
