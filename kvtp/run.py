"""One run under way: its questions, what is still to be asked, and the folder that the answers go to."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.metric.flops import llm_prefill
from kvtp.store import Appender, Store
from kvtp.summary import summarise
from kvtp.types import ERRORS, Answer, Frames, Outcome, Prediction, Question, Verdict, VisualTokens


@dataclass(frozen=True)
class Failure:
    """Why there is no answer. `message` names the exception's type."""

    outcome: Outcome
    message: str


class Run:
    """A cell and its folder. `pipeline` is deleted once all is asked."""

    def __init__(self, cell: Cell) -> None:
        self.row = cell.row
        self.pipeline = cell.pipeline
        self.benchmark = cell.pipeline.benchmark
        self.store = Store(cell.row.folder)
        self.questions = [self.benchmark[index] for index in range(len(self.benchmark))]
        self.pending: set[str] = set()
        self.file: Appender  # from `write_as` on

    def open(self, stack: ExitStack, wait: bool) -> set[str]:
        """Lock the folder for the life of `stack`; the ids of the questions still to be asked. Rank 0 only."""
        ids = {question.id for question in self.questions}
        if len(ids) < len(self.questions):
            raise CommandError(f"{self.row.choices['benchmark']}: two questions have the same id")
        self.store.lock(wait)
        stack.callback(self.store.unlock)
        self.store.describe(self.row.config, self.row.overrides, self.questions)
        return ids - {id for id, row in self.store.read().items() if row.outcome not in ERRORS}

    def write_as(self, rank: int, stack: ExitStack) -> None:
        self.file = self.store.append_to(rank)
        stack.callback(self.file.close)

    def answer(self, question: Question, frames: Frames, tokens: VisualTokens) -> tuple[Answer, Verdict]:
        self.pipeline.clock.take()  # a failed attempt's times are nobody's
        answer = self.pipeline.answer(question, frames, tokens)
        return answer, self.benchmark.parse(answer.text, question)

    def record(
        self, question: Question, done: tuple[Answer, Verdict] | Failure, watching: Mapping[str, float]
    ) -> Prediction:
        """Append the prediction; `watching` are times [ms] spent on the video before."""
        if isinstance(done, Failure):
            verdict, text, tokens, flops = Verdict(done.outcome, None), done.message, None, None
        else:
            answer, verdict = done
            text, tokens = answer.text, answer.tokens_per_layer
            rows = [sum(kinds) for kinds in zip(*tokens.values(), strict=True)]
            flops = {"llm_prefill": llm_prefill(self.pipeline.backbone.shape, rows)}
        prediction = Prediction(
            question_id=question.id,
            method=self.row.name,
            outcome=verdict.outcome,
            score=verdict.score,
            text=text,
            choice=verdict.choice,
            answer=question.answer,
            groups=dict(question.groups),
            cluster=question.cluster,
            tokens_per_layer=tokens,
            timings_ms={**watching, **self.pipeline.clock.take()},
            flops=flops,
        )
        self.file.append(prediction)
        return prediction

    def close(self, error_threshold: float) -> dict[str, Any]:
        """Merge all ranks' predictions and write the summary, which is returned. Rank 0 only."""
        predictions = self.store.merge([question.id for question in self.questions])
        summary = summarise(self.row, self.benchmark, predictions, error_threshold)
        self.store.summary(summary)
        return summary
