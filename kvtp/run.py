"""One run under way: its questions, what is still to be asked, and the folder that the answers go to."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from kvtp.cell import Cell, make
from kvtp.command import CommandError
from kvtp.config import OF_METHOD
from kvtp.logger.base import AbstractLogger, Sample
from kvtp.metric.account import ACCOUNTING, Account
from kvtp.metric.memory import peak, reset_peak
from kvtp.progress import Tally
from kvtp.report.kept import kept_mask, kept_picture
from kvtp.session import session
from kvtp.store import Appender, Store
from kvtp.summary import flat, summarise
from kvtp.types import UNANSWERED, Answer, Frames, Outcome, Prediction, Question, Verdict, VisualTokens


@dataclass(frozen=True)
class Failure:
    """Why there is no answer. `message` names the exception's type."""

    outcome: Outcome
    message: str


@dataclass(frozen=True)
class Answered:
    """An answer, how it was read, and what it cost (`kvtp.metric.account`)."""

    answer: Answer
    verdict: Verdict
    flops: Mapping[str, float]
    memory: Mapping[str, float]


class Run:
    """A cell and its folder."""

    def __init__(self, cell: Cell) -> None:
        self.row = cell.row
        self.pipeline = cell.pipeline
        self.benchmark = cell.pipeline.benchmark
        self.store = Store(cell.row.folder)
        self.questions = [self.benchmark[index] for index in range(len(self.benchmark))]
        self.pending: set[str] = set()
        self.logger: AbstractLogger | None = None  # of rank 0, from `mirror` on
        self.tally = Tally()
        self.file: Appender  # from `write_as` on
        self.account: Account  # likewise
        self.begun = False

    def lock(self, stack: ExitStack, wait: bool) -> None:
        """Keep other processes out of the folder for the life of `stack`. Rank 0 only."""
        self.store.lock(wait)
        stack.callback(self.store.unlock)

    def open(self) -> set[str]:
        """The ids of the questions still to be asked. Rank 0 only, and locked."""
        ids = Counter(question.id for question in self.questions)
        if twice := [id for id, times in ids.items() if times > 1]:
            raise CommandError(f"{self.row.choices['benchmark']}: two questions have the same id {twice[0]!r}")
        marks = {
            "parser": self.benchmark.parser,
            "videos": self.benchmark.videos_identity,
            "accounting": str(ACCOUNTING),
        }
        networks = (self.pipeline.backbone, self.pipeline.relevance, self.pipeline.scout)
        weights = "+".join(network.identity for network in networks if network.identity)
        self.store.describe(self.row.config, self.row.overrides, self.questions, weights=weights, **marks)
        return ids.keys() - {id for id, row in self.store.read().items() if row.outcome not in UNANSWERED}

    @property
    def settled(self) -> bool:
        """Whether an earlier session came to its end, with verdicts on all replies."""
        known = self.store.finished()
        return known is not None and all(row.outcome != "judge_error" for row in known)

    def mirror(self) -> None:
        """Tell a logger, too, if one is configured. Rank 0 only; the accuracy so far is that of its own share, and of
        what earlier sessions answered."""
        if self.row.config["logger"] and self.pending:
            for known in self.store.read().values():
                if known.outcome not in UNANSWERED:
                    self.tally.add(known)
            chosen = self.row.choices
            self.logger = make("logger", self.row.config["logger"])(
                folder=self.store.folder,
                name=self.row.run_id,
                group=f"{chosen['backbone']} {chosen['benchmark']}",
                tags=[f"{group} {chosen[group]}" for group in ("method", *OF_METHOD)]
                + [f"retention {'all' if self.row.retention_ratio is None else self.row.retention_ratio}"],
                config={**self.row.config, "choices": dict(chosen)},
            )

    def write_as(self, rank: int, processes: int, account: Account, stack: ExitStack) -> None:
        self.rank, self.processes, self.account = rank, processes, account
        self.file = self.store.append_to(rank)
        stack.callback(self.file.close)

    def answer(self, question: Question, frames: Frames, tokens: VisualTokens) -> Answered:
        reset_peak(tokens.features.device)
        answer, cost = self.pipeline.answer(question, frames, tokens)
        memory = {**self.account.memory(answer), **peak(tokens.features.device)}
        flops = self.account.flops(answer, len(frames), frames.size, cost, self.pipeline.cues)
        return Answered(answer, self.benchmark.parse(answer.text, question), flops, memory)

    def record(
        self, question: Question, done: Answered | Failure, frames: Frames | None, timings_ms: Mapping[str, float]
    ) -> Prediction:
        """Append the prediction. `frames`: what was seen, None where the video could not be read."""
        told: dict[str, Any]
        if isinstance(done, Failure):
            verdict = Verdict(done.outcome, None)
            told = {"text": done.message, "tokens_per_layer": None}
        else:
            verdict, answer = done.verdict, done.answer
            told = {
                "text": answer.text,
                "tokens_per_layer": answer.tokens_per_layer,
                "flops": done.flops,
                "memory": done.memory,
                "cache_rows": answer.cache_rows,
                "cache_visual": answer.cache_visual,
                "told": answer.told,
                "likelihoods": answer.likelihoods,
                "steps": answer.steps,
            }
        prediction = Prediction(
            question_id=question.id,
            method=self.row.name,
            outcome=verdict.outcome,
            score=verdict.score,
            choice=verdict.choice,
            answer=question.answer,
            groups=dict(question.groups),
            cluster=question.cluster,
            timings_ms=dict(timings_ms),
            reader=None if frames is None else frames.reader,
            seconds=None if frames is None else frames.duration,
            message=verdict.message,
            **told,
        )
        if not self.begun:
            self.store.begin(self.rank, session(self.row, self.rank, self.processes))
            self.begun = True
        self.file.append(asdict(prediction))
        if self.logger is not None:
            self.tally.add(prediction)
            so_far = {"accuracy": self.tally.accuracy, "answered": self.tally.done, "errors": self.tally.errors}
            self.logger.log_metrics({f"running/{name}": value for name, value in so_far.items() if value is not None})
        return prediction

    def show(self, place: int, question: Question, frames: Frames, tokens: VisualTokens, done: Answered) -> None:
        """Keep a picture of what was kept for the benchmark's question number `place`."""
        picture = kept_picture(frames, kept_mask(tokens, done.answer.kept))
        self.store.sample(
            Sample(
                question_id=question.id,
                question=question.text,
                options=question.options,
                answer=question.answer,
                reply=done.answer.text,
                outcome=done.verdict.outcome,
                tokens=len(done.answer.kept),
            ),
            picture,
            place,
        )

    def release(self) -> None:
        """Once all is asked: what holds weights goes."""
        del self.pipeline
        self.__dict__.pop("account", None)  # a process without a share of the questions has none

    def close(self, error_threshold: float) -> dict[str, Any]:
        """Merge all ranks' predictions, have them settled, and write the summary, which is returned. Rank 0 only."""
        known = {row.question_id: row for row in self.store.finished() or ()}
        settle = partial(self.benchmark.settle, self.questions, known=known)
        predictions = self.store.merge([question.id for question in self.questions], settle)
        summary = summarise(self.row, self.benchmark, predictions, error_threshold, self.store.sessions())
        self.store.summary(summary)
        return summary

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Tell the logger how it ended. Rank 0 only."""
        if self.logger is not None:
            self.logger.conclude(flat(summary), self.store.samples())
            self.logger.close()
