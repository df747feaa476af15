"""FastV: after the first layers, the visual tokens that the prompt's last row attends to most."""

from kvtp.errors import check_ratio, check_whole
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import most_attended
from kvtp.types import Budget, Selection, VisualTokens


class FastV(AbstractPruner):
    """Chen et al., arXiv 2403.06764: `layer` (K) whole layers run on everything, then round(retention_ratio·N) of all N
    visual tokens stay, ranked over the whole video. Positions and the caches of the first layers stay as they are.

    Score: what the last row of the prompt attends in the layer run last, mean over heads. The paper speaks of attention
    received from all rows (§4.1); its released code, of which its results come, takes the last row, and so does this.
    Of the released variants this is the one that prunes once, in the prefill, and goes on with a cache.
    """

    scope = "video"
    positions = "keep"
    cues = frozenset({"last_attention"})

    def __init__(self, layer: int, retention_ratio: float) -> None:
        check_whole("layer", layer, 1)
        check_ratio(retention_ratio)
        self.layers = (layer,)
        self.retention_ratio = retention_ratio

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return most_attended(tokens, round(self.retention_ratio * len(tokens)))
