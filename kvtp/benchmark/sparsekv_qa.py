"""SparseKV-QA (KVTP, §4): questions of other sets, of which it is known how much each part of the film matters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from kvtp.benchmark._published import VideoSet
from kvtp.benchmark._tables import Fields, checked, read_table
from kvtp.benchmark.base import AbstractBenchmark, Submission
from kvtp.errors import Absent, check_choice, check_range, check_whole
from kvtp.metric.sparsity import keyframe_sparsity
from kvtp.miniature.base import MINIATURE, miniature
from kvtp.types import Frames, Prediction, Prompt, Question, Verdict

INDEX = "index.jsonl"
OFF = 0.75  # of a clip: the first and last picture of a film are half a clip from the middle of theirs


class Label(Fields):
    """`timestamps` [s] of the frames that were judged, evenly spread over the film (or its part that is asked about) of
    `duration` [s]; `scores` 0–5, one for each: the labels of as many clips of equal length."""

    dataset: str
    revision: str | None
    question_id: str
    split: Literal["train", "val", "test"]
    duration: float
    timestamps: tuple[float, ...]
    scores: tuple[float, ...]
    debiased: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Label":
        if len(self.timestamps) != len(self.scores) or not self.scores:
            raise ValueError(
                f"there must be one score per timestamp, got {len(self.scores)} and {len(self.timestamps)}"
            )
        if not all(0 <= score <= 5 for score in self.scores):
            raise ValueError("scores must be in 0–5")
        clip = self.duration / len(self.scores)
        for place, time in enumerate(self.timestamps):
            if not abs(time - (place + 0.5) * clip) <= OFF * clip:
                raise ValueError(
                    f"timestamps must be spread evenly over the {self.duration:g} s, number {place} of "
                    f"{len(self.scores)} lies at {time:g} s"
                )
        return self


def read_index(root: str, miniatures: str) -> tuple[list[Label], Path]:
    """All labels, and where they stand; Absent for a file that is not there, ValueError for rows that break a rule."""
    path = (miniature("sparsekv_qa", Path(miniatures)) if root == MINIATURE else Path(root)) / INDEX
    if not path.is_file():
        raise Absent(
            f"benchmark.root={root} must be a folder with {INDEX}, there is none; set it to where the labels lie, or "
            "to miniature to try things out (where the questions lie is benchmark.source.root)"
        )
    return checked(Label, read_table(path)), path


class SparseKVQA(AbstractBenchmark):
    """The questions of `source`, any published set, that `root`/index.jsonl has labels for; `split`: train, val or test
    (by film) of the index. Prompts, replies and scores are the source's. The index names questions by the set's own
    ids: the paper's file has absolute paths and prompts for keys, which match on its authors' machine alone.

    `beta`: the least keyframe sparsity of a question's labels (`kvtp.metric.sparsity`), as the paper's filter has it.

    `root`=miniature: a small index over the source's miniature.
    """

    def __init__(
        self,
        root: str,
        miniatures: str,
        source: Callable[..., VideoSet],
        split: str,
        limit: int | None,
        beta: float | None,
    ) -> None:
        check_choice("benchmark.split", split, ("train", "val", "test"))
        if beta is not None:
            check_range("benchmark.beta", beta, 1)
        if limit is not None:
            check_whole("benchmark.limit", limit, 1)
        if not callable(source):
            raise ValueError(f"benchmark.source must be a set, got {source!r}; benchmark@benchmark.source=… chooses it")
        labels, path = read_index(root, miniatures)
        try:
            self.source = source(root=MINIATURE) if root == MINIATURE else source()
        except ValueError as error:
            raise ValueError(str(error).replace("benchmark.", "benchmark.source.")) from error
        name, self.split = self.source.release.name, split
        self.labels = [row for row in labels if row.dataset == name and row.split == split]
        if not self.labels:
            there = ", ".join(sorted({f"{row.dataset} {row.split}" for row in labels}))
            raise ValueError(
                f"{path} has no questions of {name} in its split {split}, but of {there}; set benchmark.split, or "
                "choose another set by benchmark@benchmark.source=…"
            )
        if beta is not None and not (sparse := [row for row in self.labels if keyframe_sparsity(row.scores) >= beta]):
            most = max(keyframe_sparsity(row.scores) for row in self.labels)
            raise ValueError(
                f"benchmark.beta must be at most the highest keyframe sparsity of the questions, {most:.4g}, got {beta}"
            )
        self.labels = self.labels if beta is None else sparse
        self._check(path)
        self.labels = self.labels[:limit]
        self.parser = self.source.parser

    def _check(self, path: Path) -> None:
        known = {self.source[place].id: place for place in range(len(self.source))}
        unknown = [row.question_id for row in self.labels if row.question_id not in known]
        if unknown:
            raise ValueError(
                f"{path}: {len(unknown)} questions are not in {self.source.release.name} "
                f"{self.source.split}, the first is {unknown[0]!r}; set benchmark.source.split or revision"
            )
        told = {row.revision for row in self.labels if row.revision is not None}
        if told - {self.source.commit}:
            raise ValueError(
                f"{path} was made from revision {', '.join(sorted(told))}, {self.source.release.name} is "
                f"{self.source.commit}; set benchmark.source.revision, or null in the index if questions are the same"
            )
        self.places = [known[row.question_id] for row in self.labels]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Question:
        label = self.labels[index]
        return replace(self.source[self.places[index]], relevance=label.scores, debiased=label.debiased)

    def prepare(self) -> None:
        self.source.prepare()

    def prompt(self, question: Question, frames: Frames) -> Prompt:
        return self.source.prompt(question, frames)

    def parse(self, reply: str, question: Question) -> Verdict:
        return self.source.parse(reply, question)

    def settle(self, questions: Sequence[Question], predictions: Sequence[Prediction], known: Any) -> list[Prediction]:
        return self.source.settle(questions, predictions, known)

    def submission(self, predictions: Sequence[Prediction]) -> Sequence[Submission]:
        return self.source.submission(predictions)

    def canonical(self) -> list[dict[str, Any]]:
        """The source's rows with their labels."""
        rows = self.source.canonical()
        return [
            rows[place] | {"relevance": label.scores, "debiased": label.debiased}
            for place, label in zip(self.places, self.labels, strict=False)
        ]

    def summarise(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        told = self.source.summarise(predictions)
        return told | {"source": {"dataset": "sparsekv_qa", "split": self.split, "of": told["source"]}}
