"""Text only: no visual token at all. What the language model knows without looking."""

from kvtp.pruner._positions import Positions, checked
from kvtp.pruner.base import AbstractPruner
from kvtp.types import Budget, Selection, VisualTokens


class TextOnly(AbstractPruner):
    """Keeps nothing, whatever it is granted.

    At a budget with retention ratio 1 no pruner is called and every token stays; `method=text_only` has budget zero.
    """

    def __init__(self, positions: Positions) -> None:
        self.positions = checked(positions)

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return Selection(tokens.frame.new_empty(0))
