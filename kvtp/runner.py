"""Runs pipelines over benchmarks: every video decoded and encoded once, every answer on the disk, nothing dropped."""

import gc
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import zip_longest
from typing import Any, TypeVar

import torch

from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.errors import LoadError, check_choice, check_range
from kvtp.pipeline import Refused
from kvtp.progress import Progress
from kvtp.ranks import Ranks
from kvtp.run import Failure, Run
from kvtp.summary import table
from kvtp.types import ERRORS, Answer, Outcome, Question, Verdict, VideoRef

log = logging.getLogger(__name__)
Result = TypeVar("Result")
NAMED = 5  # failing questions in the closing message; summary.json has all


class Runner:
    """`error_threshold`: share of load, model and judge errors above which a run is not valid. `attempts` per video
    and per question before its error stands (a later run tries again). `accelerator`: what torchrun's processes are
    connected for. `log_every` [s] between lines of progress where there is no terminal.
    """

    def __init__(self, error_threshold: float, attempts: int, accelerator: str, log_every: float) -> None:
        check_range("runner.error_threshold", error_threshold, 0, 1)
        check_range("runner.attempts", attempts, 1)
        check_choice("runner.accelerator", accelerator, ("auto", "cpu", "cuda"))
        check_range("runner.log_every", log_every, 0)
        self.error_threshold, self.attempts = error_threshold, attempts
        self.accelerator, self.log_every = accelerator, log_every

    def __call__(self, cells: list[Cell], wait: bool = False) -> None:
        """Ask what is not answered yet, then write each run's predictions.jsonl and summary.json.

        The list is used up, so that a backbone can go when its last video is done.

        Where another process runs one of the cells: `wait` for it, or CommandError. CommandError also, at the very end,
        for runs with more errors than the threshold.
        """
        ranks = Ranks(self.accelerator)
        runs = [Run(cells.pop(0)) for _ in range(len(cells))]
        with ExitStack() as stack:
            pending = ranks.share(lambda: [run.open(stack, wait) for run in runs])
            for run, ids in zip(runs, pending, strict=True):
                run.pending = ids
            self._ask_all(runs, ranks)
            ranks.wait()
            if ranks.rank > 0:
                return
            summaries = [run.close(self.error_threshold) for run in runs]
        log.info("done\n%s", table(summaries))
        self._judge(runs, summaries)

    def _ask_all(self, runs: list[Run], ranks: Ranks) -> None:
        groups: dict[Any, list[Run]] = defaultdict(list)
        for run in runs:  # what two configure alike is one object
            groups[id(run.pipeline.frames), id(run.pipeline.backbone), id(run.pipeline.benchmark)].append(run)
        shares = [(group, _by_video(group)[ranks.rank :: ranks.world]) for group in groups.values()]
        asked = [(run, question) for group, videos in shares for run in group for video in videos for question in video]
        total = sum(question.id in run.pending for run, question in asked)
        log.info(
            "process %d of %d makes %d of %d answers",
            *(ranks.rank + 1, ranks.world, total, sum(len(run.questions) for run in runs)),
        )
        progress = Progress(total, self.log_every, shown=ranks.rank == 0)
        with ExitStack() as stack, torch.inference_mode():
            stack.callback(progress.close)
            for group, videos in shares:
                if videos:
                    group[0].pipeline.backbone.load()  # here, that no question's time holds it
                for run in group:
                    run.write_as(ranks.rank, stack)
                for questions, following in zip_longest(videos, videos[1:]):
                    self._ask_about_video(group, questions, following[0].video if following else None, progress)
                for run in group:
                    del run.pipeline
                gc.collect()

    def _ask_about_video(
        self, group: list[Run], questions: list[Question], following: str | VideoRef | None, progress: Progress
    ) -> None:
        """All questions about one video, of all runs that look at it in the same way.

        The times of decoding and encoding go to the first question of each run, as if each had run alone.
        """
        first = group[0].pipeline
        cues = frozenset[str]().union(*(run.pipeline.cues for run in group))
        seen = self._try(partial(first.watch, questions[0].video, cues, following), questions[0].ref.path)
        watching = first.clock.take()
        for run in group:
            mine = [question for question in questions if question.id in run.pending]
            for place, question in enumerate(mine):
                if isinstance(seen, Failure):
                    done: tuple[Answer, Verdict] | Failure = seen
                else:
                    done = self._try(partial(run.answer, question, *seen), question.id)
                progress.add(run.record(question, done, watching if place == 0 else {}))

    def _try(self, work: Callable[[], Result], what: str) -> Result | Failure:
        """The result, or the failure of the last attempt. KeyboardInterrupt and SystemExit go through."""
        for _ in range(self.attempts):
            try:
                return work()
            except Refused as error:  # the same again would come of it
                return Failure("refused", f"{type(error).__name__}: {error}")
            except Exception as error:
                outcome: Outcome = "load_error" if isinstance(error, LoadError) else "model_error"
                failure = Failure(outcome, f"{type(error).__name__}: {error}")
                log.warning("%s: %s: %s", what, outcome, failure.message)
                log.debug("traceback of %s", what, exc_info=True)
        return failure

    def _judge(self, runs: list[Run], summaries: list[dict[str, Any]]) -> None:
        complaints = []
        for run, told in zip(runs, summaries, strict=True):
            if told["valid"]:
                continue
            counts = ", ".join(f"{n} {outcome}" for outcome, n in told["outcomes"].items() if n and outcome in ERRORS)
            failed = [row["question_id"] for row in told["failures"] if row["outcome"] in ERRORS]
            complaints.append(
                f"{run.store.folder}: {counts} of {told['questions']} questions, more than "
                f"runner.error_threshold={self.error_threshold:g} allows; first: {', '.join(failed[:NAMED])}; "
                "the same command tries them again"
            )
        if complaints:
            raise CommandError("\n".join(complaints))


def _by_video(runs: Sequence[Run]) -> list[list[Question]]:
    """The questions that any of the runs still asks, together per video (or part of one), in the benchmark's order."""
    pending = set[str]().union(*(run.pending for run in runs))
    videos: dict[Any, list[Question]] = defaultdict(list)
    for question in runs[0].questions:
        if question.id in pending:
            videos[question.ref].append(question)
    return list(videos.values())
