"""How far a run is: a bar in a terminal, a line now and then elsewhere."""

import logging
import sys
from time import monotonic

from tqdm import tqdm

from kvtp.types import ERRORS, Prediction

log = logging.getLogger(__name__)


class Tally:
    """Counts predictions."""

    def __init__(self) -> None:
        self.done, self.labelled, self.tried, self.errors, self.refused, self.score = 0, 0, 0, 0, 0, 0.0

    def add(self, prediction: Prediction) -> None:
        self.done += 1
        self.labelled += prediction.answer is not None
        self.tried += prediction.answer is not None and prediction.outcome != "refused"
        self.score += prediction.score or 0.0
        self.errors += prediction.outcome in ERRORS
        self.refused += prediction.outcome == "refused"

    @property
    def accuracy(self) -> float | None:
        """So far [%]; None where nothing has a label, or all that has is refused, as in `kvtp.benchmark._summary`."""
        return 100 * self.score / self.labelled if self.tried else None


class Progress:
    """Shows how many questions are asked. `every` [s] between lines where there is no terminal."""

    def __init__(self, total: int, every: float, shown: bool) -> None:
        self.total, self.every, self.shown = total, every, shown
        self.tally = Tally()
        self.bar = tqdm(total=total, unit="question", disable=not (shown and sys.stderr.isatty()))
        self.last = monotonic()

    def add(self, prediction: Prediction) -> None:
        self.tally.add(prediction)
        if not self.bar.disable:
            self.bar.set_postfix_str(self.state, refresh=False)
            self.bar.update()
        elif self.shown and monotonic() - self.last >= self.every:
            self.last = monotonic()
            log.info("%d of %d questions, %s", self.tally.done, self.total, self.state)

    def close(self) -> None:
        self.bar.close()

    @property
    def state(self) -> str:
        accuracy = "–" if self.tally.accuracy is None else f"{self.tally.accuracy:.1f} %"
        return f"accuracy {accuracy}, errors {self.tally.errors}, refused {self.tally.refused}"
