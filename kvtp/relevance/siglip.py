"""SigLIP's similarity of question and picture, without any training."""

import torch
from jaxtyping import Float
from torch import Tensor

from kvtp.errors import check_choice
from kvtp.relevance._similarity import Similarity
from kvtp.types import Frames, Question, VisualTokens

ALIKE = 0.999  # cosine of two embeddings of one picture; below it they are not of one network


class Siglip(Similarity):
    """Any SigLIP, or SigLIP 2 with square pictures.

    tower: own = the checkpoint's looks at the pictures; backbone = the backbone's has already, which must be the same
    network (its cue `frame_feature`; compared on the first picture of the first video, RuntimeError if it is another).
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
        check_choice("relevance.tower", tower, ("own", "backbone"))
        super().__init__(checkpoint, revision, padding, dtype, device, frame_chunk)
        self.shares = tower == "backbone"
        self.compared = False
        if self.shares:
            self.cues = frozenset({"frame_feature"})  # type: ignore[misc]

    def look(self, frames: Frames) -> None:
        if not self.shares:
            super().look(frames)

    def pictures(self, frames: Frames, tokens: VisualTokens) -> Float[Tensor, "T d"]:
        if not self.shares:
            return super().pictures(frames, tokens)
        seen = tokens.cues.frame_feature
        assert seen is not None
        if not self.compared:
            mine = self.encoder.look(frames.pixels[:1]).float()
            theirs = seen[:1].to(mine)
            cosine = 0.0 if mine.shape != theirs.shape else float(torch.cosine_similarity(mine, theirs))
            if cosine < ALIKE:
                raise RuntimeError(
                    f"relevance.tower=backbone needs a backbone whose tower and pooling head are those of "
                    f"{self.checkpoint.name!r}, the embeddings of one picture have cosine {cosine:.3f}; "
                    "set relevance.tower=own, or backbone.head to this SigLIP"
                )
            self.compared = True
            del self.encoder.model.vision_model  # it will not be needed
        return seen.to(self.device, torch.float32)

    def flops(self, frames: Frames, question: Question) -> float:
        """What the backbone's tower does for it is accounted for as the cue's."""
        spent = super().flops(frames, question)
        return spent - self.checkpoint.look_flops(len(frames)) if self.shares else spent
