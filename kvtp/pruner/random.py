"""Random: tokens of each frame drawn uniformly without replacement."""

from kvtp.errors import check_whole
from kvtp.pruner._lot import lot
from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.tensors import top_per_frame
from kvtp.types import Budget, Selection, VisualTokens


class Random(AbstractPruner):
    """The draw depends on question, `seed` and layer only: not on the device, nor on what ran before.

    A larger budget keeps what a smaller one keeps, and more.
    """

    def __init__(self, seed: int, positions: Positions) -> None:
        check_whole("seed", seed, 0)
        self.seed = seed
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return Selection(top_per_frame(lot(tokens, self.question_id, self.seed), tokens, budget))
