"""What budgets ask of the scores they are given."""

from jaxtyping import Float, Float64
from torch import Tensor

from kvtp.types import VisualTokens


def finite(relevance: Float[Tensor, " T"], tokens: VisualTokens) -> Float64[Tensor, " T"]:
    """The scores in double precision on the tokens' device, or ValueError."""
    if not relevance.isfinite().all():
        raise ValueError(f"relevance must be finite in every frame, got {relevance.tolist()}; choose another relevance")
    return relevance.to(tokens.frame.device).double()
