"""SigLIP's similarity of question and picture, without any training."""

from jaxtyping import Float
from torch import Tensor

from kvtp.backbone.base import AbstractBackbone
from kvtp.command import CommandError
from kvtp.errors import check_choice
from kvtp.relevance._similarity import Similarity
from kvtp.types import Frames, Question, VisualTokens

CUE = "frame_feature"


class Siglip(Similarity):
    """Any SigLIP, or SigLIP 2 with square pictures.

    tower: own = the checkpoint's looks at the pictures; backbone = the backbone's has already, which must be the same
    network in the same precision (its cue `frame_feature`); auto = the backbone's if it is the same, which is known
    once weights are there: what `scripts/meter.py` tells without weights is the cost of its own. (Backbones that leave
    out the tower's last layer or have trained it further, as LLaVA-OneVision, are other networks.)
    """

    family = "siglip"

    def __init__(
        self,
        checkpoint: str,
        revision: str | None,
        tower: str,
        padding: str,
        dtype: str,
        device: str,
        frame_chunk: int,
    ) -> None:
        check_choice("relevance.tower", tower, ("auto", "own", "backbone"))
        super().__init__(checkpoint, revision, padding, dtype, device, frame_chunk)
        self.tower = tower
        self.shares = tower == "backbone"

    @property
    def cues(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({CUE}) if self.shares else frozenset()

    def load(self, backbone: AbstractBackbone) -> None:
        """CommandError for tower=backbone where the backbone's is another network."""
        super().load(backbone)
        if self.tower == "own" or not hasattr(self.encoder.model, "vision_model"):
            return
        self.shares = backbone.sees_as(self.encoder.model.vision_model)
        if self.shares:
            del self.encoder.model.vision_model  # it will not be needed
        elif self.tower == "backbone":
            raise CommandError(
                f"relevance.tower=backbone needs a backbone whose tower and pooling head are those of "
                f"{self.checkpoint.name!r}, and their weights differ; set relevance.tower=auto or own, or "
                "backbone.head to this SigLIP"
            )

    def look(self, frames: Frames) -> None:
        if not self.shares:
            super().look(frames)

    def pictures(self, frames: Frames, tokens: VisualTokens) -> Float[Tensor, "T d"]:
        if not self.shares:
            return super().pictures(frames, tokens)
        seen = tokens.cues.frame_feature
        assert seen is not None
        return seen.float().to(self.device)

    def flops(self, frames: Frames, question: Question) -> float:
        """What the backbone's tower does for it is accounted for as the cue's."""
        spent = super().flops(frames, question)
        return spent - self.checkpoint.look_flops(len(frames)) if self.shares else spent
