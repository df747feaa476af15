"""One run under way: its questions, what is still to be asked, and the folder that the answers go to."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.metric.flops import llm_prefill
from kvtp.session import session
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
        marks = {"parser": self.benchmark.parser, "videos": self.benchmark.videos_identity}
        weights = self.pipeline.backbone.identity
        self.store.describe(self.row.config, self.row.overrides, self.questions, weights=weights, **marks)
        return ids.keys() - {id for id, row in self.store.read().items() if row.outcome not in ERRORS}

    def write_as(self, rank: int, processes: int, stack: ExitStack) -> None:
        self.rank, self.processes = rank, processes
        self.file = self.store.append_to(rank)
        stack.callback(self.file.close)

    def answer(self, question: Question, frames: Frames, tokens: VisualTokens) -> tuple[Answer, Verdict]:
        answer = self.pipeline.answer(question, frames, tokens)
        return answer, self.benchmark.parse(answer.text, question)

    def record(
        self,
        question: Question,
        done: tuple[Answer, Verdict] | Failure,
        reader: str | None,
        timings_ms: Mapping[str, float],
    ) -> Prediction:
        """Append the prediction. `reader` decoded the video."""
        if isinstance(done, Failure):
            verdict, text, tokens, flops, likelihoods = Verdict(done.outcome, None), done.message, None, None, None
        else:
            answer, verdict = done
            text, tokens, likelihoods = answer.text, answer.tokens_per_layer, answer.likelihoods
            rows = [sum(kinds) for kinds in zip(*tokens.values(), strict=True)]
            flops = {"llm_prefill": llm_prefill(self.pipeline.backbone.shape, rows, answer.mlp_rows)}
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
            timings_ms=dict(timings_ms),
            flops=flops,
            reader=reader,
            likelihoods=likelihoods,
        )
        if not self.begun:
            self.store.begin(self.rank, session(self.row, self.rank, self.processes))
            self.begun = True
        self.file.append(asdict(prediction))
        return prediction

    def close(self, error_threshold: float) -> dict[str, Any]:
        """Merge all ranks' predictions and write the summary, which is returned. Rank 0 only."""
        predictions = self.store.merge([question.id for question in self.questions])
        summary = summarise(self.row, self.benchmark, predictions, error_threshold, self.store.sessions())
        self.store.summary(summary)
        return summary
