"""Errors that say value, rule and remedy."""

from collections.abc import Collection
from difflib import get_close_matches


class Refused(ValueError):
    """The method is not defined for this question or budget; the message names the range."""


class Absent(ValueError):
    """A data set or a checkpoint that is not where a setting says: what asks for others can go on."""


class LoadError(Exception):
    """A video that cannot be read. It costs its own questions only."""


def nearest(word: str, known: Collection[str]) -> str:
    """`; nearest: a, b` for a misspelt word, or the list of what there is when nothing is near."""
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else f"; there are: {', '.join(sorted(known))}"


def check_choice(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        words = [str(choice) for choice in allowed]
        close = nearest(str(value), words)
        hint = "" if close.startswith("; there are") else close
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {value!r}{hint}")


def check_ratio(value: float) -> None:
    """Raise ValueError unless `value` can be a retention ratio."""
    if not _number(value) or not 0 < value <= 1:
        raise ValueError(f"retention_ratio must be in (0, 1], got {value!r}; it is the fraction of tokens kept")


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise ValueError unless `value` is a number with low ≤ value ≤ high."""
    if not _number(value) or not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value!r}")


def check_whole(name: str, value: object, low: int, high: float = float("inf")) -> None:
    """Raise ValueError unless `value` is a whole number with low ≤ value ≤ high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number in [{low}, {high}], got {value!r}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
