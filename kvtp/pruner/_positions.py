"""The constructor argument that most pruners share."""

from typing import Literal, get_args

from kvtp.errors import check_choice

Positions = Literal["keep", "renumber"]


def checked(positions: Positions) -> Positions:
    """`positions`, or ValueError."""
    check_choice("positions", positions, get_args(Positions))
    return positions
