"""Accuracy over the questions that have a label."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from kvtp.types import OUTCOMES, Prediction


def accuracy(predictions: Sequence[Prediction]) -> float | None:
    """Mean score of the labelled questions in percent; a labelled one without a score, as a failure, counts 0.

    None where no question has a label, and where the method was refused for each that has one.
    """
    labelled = [row for row in predictions if row.answer is not None]
    if all(row.outcome == "refused" for row in labelled):
        return None
    return 100 * sum(row.score or 0.0 for row in labelled) / len(labelled)


def summary(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """`accuracy` [%] and `questions`, over all and per value of every group; `outcomes`: how many of each."""
    counts: Counter[str] = Counter(row.outcome for row in predictions)
    groups: dict[str, dict[str, list[Prediction]]] = defaultdict(lambda: defaultdict(list))
    for row in predictions:
        for group, value in row.groups.items():
            groups[group][value].append(row)
    return {
        "questions": len(predictions),
        "accuracy": accuracy(predictions),
        "outcomes": {outcome: counts[outcome] for outcome in OUTCOMES},
        "groups": {
            group: {
                value: {"questions": len(rows), "accuracy": accuracy(rows)} for value, rows in sorted(values.items())
            }
            for group, values in sorted(groups.items())
        },
    }
