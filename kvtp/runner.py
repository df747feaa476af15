"""Runs pipelines over benchmarks: every video decoded and encoded once, every answer on the disk, nothing dropped."""

import gc
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import torch

from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.errors import LoadError, Refused, check_choice, check_range, check_whole
from kvtp.judge.base import DRY
from kvtp.metric.account import Account
from kvtp.metric.latency import Stopwatch
from kvtp.progress import Progress
from kvtp.ranks import Ranks
from kvtp.run import Answered, Failure, Run
from kvtp.summary import remarks, table
from kvtp.types import ERRORS, Frames, Outcome, Question, VisualTokens

log = logging.getLogger(__name__)
Result = TypeVar("Result")
NAMED = 5  # failing questions in the closing message; summary.json has all


class Runner:
    """`error_threshold`: share of load, model and judge errors above which a run is not valid. `attempts` per video
    and per question before its error stands (a later run tries again). `accelerator`: what torchrun's processes are
    connected for. `log_every` [s] between lines of progress where there is no terminal. `samples`: the first so many
    questions of a run get a picture of what was kept.
    """

    def __init__(self, error_threshold: float, attempts: int, accelerator: str, log_every: float, samples: int) -> None:
        check_range("runner.error_threshold", error_threshold, 0, 1)
        check_whole("runner.attempts", attempts, 1)
        check_choice("runner.accelerator", accelerator, ("auto", "cpu", "cuda"))
        check_range("runner.log_every", log_every, 0)
        check_whole("runner.samples", samples, 0)
        self.error_threshold, self.attempts, self.samples = error_threshold, attempts, samples
        self.accelerator, self.log_every = accelerator, log_every

    def __call__(self, cells: list[Cell], wait: bool = False) -> None:
        """Ask what is not answered yet, then write each run's predictions.jsonl and summary.json.

        The list is used up, so that a backbone can go when its last video is done.

        Where another process runs one of the cells: `wait` for it, or CommandError. CommandError also, at the very end,
        for runs with more errors than the threshold. Refusals are no errors and end with status 0, be it all questions
        of a run: a sweep over ratios may hold some at which a method is not defined.
        """
        ranks = Ranks(self.accelerator)
        runs = [Run(cells.pop(0)) for _ in range(len(cells))]
        with ExitStack() as stack:
            pending = ranks.share(lambda: self._open(runs, stack, wait))
            for run, ids in zip(runs, pending, strict=True):
                run.pending = ids
            self._ask_all(runs, ranks)
            ranks.wait()
            if ranks.rank > 0:
                return
            summaries = [run.close(self.error_threshold) for run in runs]
            for run, told in zip(runs, summaries, strict=True):
                run.conclude(told)
        log.info("done\n%s", "\n".join([table(summaries), *remarks(summaries)]))
        for told in summaries:
            if told["refused"]:
                first = next(row["message"] for row in told["failures"] if row["outcome"] == "refused")
                log.warning("%s: refused %d of %d: %s", told["run_id"], told["refused"], told["questions"], first)
        self._judge(runs, summaries)

    def _open(self, runs: list[Run], stack: ExitStack, wait: bool) -> list[set[str]]:
        for run in sorted(runs, key=lambda run: run.store.folder):  # one order for all: no two can wait for each other
            run.lock(stack, wait)
        pending = [run.open() for run in runs]
        asking = [run for run, ids in zip(runs, pending, strict=True) if ids or not run.settled]
        needed = {id(run.benchmark): run.benchmark for run in asking}
        try:
            for benchmark in needed.values():
                benchmark.prepare()
        except ValueError as error:
            raise CommandError(str(error)) from error
        return pending

    def _ask_all(self, runs: list[Run], ranks: Ranks) -> None:
        groups: dict[Any, list[Run]] = defaultdict(list)
        for run in runs:  # what two configure alike is one object
            line = run.pipeline
            groups[id(line.frames), id(line.backbone), id(line.benchmark), line.tower].append(run)
        shares = [(group, _by_video(group)[ranks.rank :: ranks.world]) for group in groups.values()]
        asked = [(run, question) for group, videos in shares for run in group for video in videos for question in video]
        total = sum(question.id in run.pending for run, question in asked)
        log.info(
            "process %d of %d makes %d of %d answers",
            *(ranks.rank + 1, ranks.world, total, sum(len(run.questions) for run in runs)),
        )
        if ranks.rank == 0:
            for run in runs:
                run.mirror()
        progress = Progress(total, self.log_every, shown=ranks.rank == 0)
        with ExitStack() as stack, torch.inference_mode():
            stack.callback(progress.close)
            for group, videos in shares:
                if videos:
                    try:
                        group[0].pipeline.backbone.load()  # here, that no question's time holds it
                        for run in (run for run in group if run.pending):
                            run.pipeline.relevance.load(run.pipeline.backbone)
                            run.pipeline.scout.load(run.pipeline.backbone)
                    except (ValueError, OSError) as error:  # files that are missing, or do not fit
                        raise CommandError(str(error)) from error
                    account = Account(group[0].pipeline.backbone)
                    for run in group:
                        run.write_as(ranks.rank, ranks.world, account, stack)
                    del account
                ahead = group[0].pipeline.frames.ahead
                for place in range(len(videos)):
                    self._ask_about_video(group, videos[place : place + 1 + ahead], progress)
                for run in group:
                    run.release()
                gc.collect()

    def _ask_about_video(self, group: list[Run], videos: list[list[Question]], progress: Progress) -> None:
        """All questions about the first video, of all runs that look at it in the same way; the others come next.

        Times [ms] are of the attempt that succeeded. Those of the video go to the first question of each run:
        `decode_video` is the wait for the decoder, which works ahead, and `vision` includes the cues of every method
        in the group (and what scouts take from it that work beside it on the same GPU: time methods with and without
        a scout in commands of their own); `relevance_video` is the predictor's look at it, `scout_video` and
        `scout_beside` the scout's (`Pipeline.send_scout`). All other parts are of one question and one run.
        """
        questions, path = videos[0], videos[0][0].ref.path
        seen, watching, scouting = self._watch(group, videos)
        scouted: dict[int, Mapping[str, float]] = {}
        looking: dict[int, Mapping[str, float]] = {}
        for run in group:
            mine = [question for question in questions if question.id in run.pending]
            predictor = id(run.pipeline.relevance)
            if mine and predictor not in looking and not isinstance(seen, Failure):
                # should it fail, it does so again with the first question, which tells
                looking[predictor] = self._try(partial(run.pipeline.look, seen[0]), run.pipeline.clock, path)[1]
            for place, question in enumerate(mine):
                times = {**watching, **looking.get(predictor, {})} if place == 0 else {}
                if isinstance(seen, Failure):
                    progress.add(run.record(question, seen, None, times))
                    continue
                work = partial(run.answer, question, *seen)
                done, answering = self._try(work, run.pipeline.clock, question.id)
                if place == 0 and (scout := id(run.pipeline.scout)) in scouting:
                    # not before: while the clock is read, the scout would be waited for in nobody's time
                    times |= scouted.setdefault(scout, scouting[scout].take())
                progress.add(run.record(question, done, seen[0], {**times, **answering}))
                if not isinstance(done, Failure):
                    self._show(run, question, *seen, done)

    def _watch(
        self, group: list[Run], videos: list[list[Question]]
    ) -> tuple[tuple[Frames, VisualTokens] | Failure, Mapping[str, float], Mapping[int, Stopwatch]]:
        """Pictures and tokens of the first video, their times, and the clock of each scout that looks at it. Scouts
        begin before the tower does, and nothing waits for them here."""
        questions, *following = videos
        first, path = group[0].pipeline, questions[0].ref.path
        decode = partial(first.decode, questions[0].video, [later[0].video for later in following])
        frames, decoding = self._try(decode, first.clock, path)
        if isinstance(frames, Failure):
            return frames, decoding, {}
        clocks: dict[int, Stopwatch] = {}
        for run in group:
            scout = id(run.pipeline.scout)
            if scout not in clocks and any(question.id in run.pending for question in questions):
                clocks[scout] = Stopwatch()
                try:
                    run.pipeline.send_scout(frames, clocks[scout])
                except Exception:
                    clocks[scout] = Stopwatch()  # it fails again with the first question, which tells; or does not
                    log.debug("traceback of the scout's look at %s", path, exc_info=True)
        cues = frozenset[str]().union(*(run.pipeline.cues for run in group))
        tokens, encoding = self._try(partial(first.encode, frames, cues), first.clock, path)
        return (tokens if isinstance(tokens, Failure) else (frames, tokens)), {**decoding, **encoding}, clocks

    def _show(self, run: Run, question: Question, frames: Frames, tokens: VisualTokens, done: Answered) -> None:
        """A picture is no reason to lose answers."""
        place = next((nth for nth, one in enumerate(run.questions[: self.samples]) if one.id == question.id), None)
        if place is None or tokens.tower_rows:  # patches that merged in the tower stand nowhere
            return
        try:
            run.show(place, question, frames, tokens, done)
        except Exception as error:
            log.warning("no picture of %s: %s: %s", question.id, type(error).__name__, error)

    def _try(
        self, work: Callable[[], Result], clock: Stopwatch, what: str
    ) -> tuple[Result | Failure, Mapping[str, float]]:
        """The result and its times, or the last attempt's failure. KeyboardInterrupt and SystemExit go through."""
        for _ in range(self.attempts):
            clock.take()  # a failed attempt's times are nobody's
            try:
                return work(), clock.take()
            except Refused as error:  # the same again would come of it
                return Failure("refused", f"{type(error).__name__}: {error}"), {}
            except Exception as error:
                outcome: Outcome = "load_error" if isinstance(error, LoadError) else "model_error"
                failure = Failure(outcome, f"{type(error).__name__}: {error}")
                log.debug("traceback of %s", what, exc_info=True)
        log.warning("%s: %s: %s", what, failure.outcome, failure.message)
        return failure, {}

    def _judge(self, runs: list[Run], summaries: list[dict[str, Any]]) -> None:
        complaints = []
        for run, told in zip(runs, summaries, strict=True):
            if told["valid"]:
                continue
            if {row["message"] for row in told["failures"] if row["outcome"] in ERRORS} == {DRY}:
                log.warning("%s: replies are kept, their verdicts are still to come; %s", told["run_id"], DRY)
                continue
            counts = ", ".join(f"{n} {outcome}" for outcome, n in told["outcomes"].items() if n and outcome in ERRORS)
            failed = [row["question_id"] for row in told["failures"] if row["outcome"] in ERRORS]
            why = next(row["message"] for row in told["failures"] if row["outcome"] in ERRORS).partition("\n")[0]
            complaints.append(
                f"{run.store.folder}: {counts} of {told['questions']} questions, more than "
                f"runner.error_threshold={self.error_threshold:g} allows; first: {', '.join(failed[:NAMED])}; {why}; "
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
