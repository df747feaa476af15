"""What the relevance predictor learns from: KVTP's contrastive losses."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def frame_loss(logits: Float[Tensor, " T"], labels: Float[Tensor, " T"]) -> Float[Tensor, ""]:
    """−Σ log σ(logits · (labels − their mean)), one term per frame: arXiv 2503.10742, equations 4 and 11.

    Where all labels are equal it is T · ln 2, whatever the logits.
    """
    return -F.logsigmoid(logits * (labels - labels.mean())).sum()


def clip_loss(logits: Float[Tensor, " T"], labels: Float[Tensor, " T"], clip: int) -> Float[Tensor, ""]:
    """The same over clips, as in the released code: a clip's logit is the softmax-weighted mean of its frames' logits,
    its label that of its first frame."""
    clips = logits.split(clip)
    pooled = torch.stack([(part.softmax(0) * part).sum() for part in clips])
    return frame_loss(pooled, labels[::clip])
