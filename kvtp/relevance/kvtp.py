"""KVTP's relevance predictor: a SigLIP fine-tuned to tell how much each frame matters, with its context fusion head."""

from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from kvtp.backbone.base import AbstractBackbone
from kvtp.errors import check_choice
from kvtp.relevance._fusion import Fusion
from kvtp.relevance._similarity import Similarity, asked
from kvtp.types import Frames, Question


class Kvtp(Similarity):
    """arXiv 2503.10742 §4. `checkpoint`: what `scripts/train.py module=relevance` leaves.

    fusion: context = logits of frame, clip and video are mixed by the trained head, equations 6 to 10; none = the
    frame's own alone, as the released code does once it has trained with the head.
    """

    family = "siglip"

    def __init__(
        self,
        checkpoint: str,
        revision: str | None,
        fusion: str,
        padding: str,
        dtype: str,
        device: str,
        frame_chunk: int,
    ) -> None:
        check_choice("relevance.fusion", fusion, ("context", "none"))
        super().__init__(checkpoint, revision, padding, dtype, device, frame_chunk)
        self.fuses = fusion == "context"

    @cached_property
    def fusion(self) -> Fusion:
        return Fusion.load(self.checkpoint.name, self.checkpoint.revision).to(self.device).requires_grad_(False)

    @property
    def identity(self) -> str:
        identity = super().identity
        if self.fuses:
            # a plain SigLIP is refused before any weights are read; on no device, for the process may have none yet
            Fusion.load(self.checkpoint.name, self.checkpoint.revision)
        return identity

    def load(self, backbone: AbstractBackbone) -> None:
        super().load(backbone)
        if self.fuses:
            _ = self.fusion

    def score(self, pictures: Float[Tensor, "T d"], texts: Float[Tensor, "Q d"]) -> Float[Tensor, "Q T"]:
        if not self.fuses:
            return super().score(pictures, texts)
        return self.fusion(pictures, texts, self.encoder.scale.float(), self.encoder.bias.float())

    def flops(self, frames: Frames, question: Question) -> float:
        spent = super().flops(frames, question)
        if not self.fuses:
            return spent
        joint = self.checkpoint.config.vision_config.hidden_size
        parts = len(self.checkpoint.parts(asked(question)))
        # twice attention of all frames to all, and two more products with the texts
        return spent + 2.0 * len(frames) * joint * (2 * 2 * len(frames) + 2 * parts)
