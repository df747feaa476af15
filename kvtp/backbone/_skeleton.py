"""A LLaVA-OneVision without weights, in parts that take plain tensors."""

import torch
from torch import Tensor, nn
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from kvtp.backbone._siglip import bare
from kvtp.backbone.base import Skeleton


class Seeing(nn.Module):
    """A SigLIP tower as it is used: without the layers that do not run, without what follows the last one."""

    def __init__(self, tower: nn.Module, layers: int) -> None:
        super().__init__()
        self.embeddings = bare(tower).embeddings
        self.layers = bare(tower).encoder.layers[:layers]

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.embeddings(pixels)
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


def skeleton(config: LlavaOnevisionConfig, layers: int) -> Skeleton:
    """`layers` of the tower run."""
    with torch.device("meta"):
        model = LlavaOnevisionForConditionalGeneration(config)
        vision, side = config.vision_config, config.vision_config.image_size
        patches = (side // vision.patch_size) ** 2
        layer = model.model.language_model.layers[0]
        row = torch.empty(1, 1, config.text_config.hidden_size)
        turn = torch.empty(1, 1, layer.self_attn.head_dim)
        return Skeleton(
            tower=(Seeing(model.model.vision_tower, layers), (torch.empty(1, 3, side, side),)),
            projector=(model.model.multi_modal_projector, (torch.empty(1, patches, vision.hidden_size),)),
            attention=(Attending(layer.self_attn), (row, turn, turn)),
            mlp=(layer.mlp, (row,)),
            lm_head=(model.lm_head, (row,)),
        )
