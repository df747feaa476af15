"""Questions of one's own: a JSON-lines file beside a folder of videos."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kvtp.benchmark._choice import verdict
from kvtp.benchmark._letters import PARSER, letter
from kvtp.benchmark._normal import same
from kvtp.benchmark._prompt import letter_prompt
from kvtp.benchmark._rows import Row, of_split, read_rows
from kvtp.benchmark._summary import summary
from kvtp.benchmark.base import AbstractBenchmark
from kvtp.errors import Absent, check_whole
from kvtp.types import Frames, Prediction, Prompt, Question, Verdict, VideoRef


class Folder(AbstractBenchmark):
    """`root`/`questions` has one JSON object per line, `root`/`videos` holds the files it names.

    Fields: id, video, question; and where there are any: options, answer (letter, index or text), start and end [s],
    split, groups, cluster, debiased, relevance. `split` None = all rows; `limit`: the first so many questions, None =
    all. A missing video costs its own questions only. Open questions are scored by exact match after normalisation,
    which keeps signs and symbols. A question without an answer is asked, but is not in the accuracy.
    """

    parser = f"letters {PARSER}"

    def __init__(self, root: str, questions: str, videos: str, split: str | None, limit: int | None) -> None:
        if limit is not None:
            check_whole("benchmark.limit", limit, 1)
        self.split = split
        self.videos = Path(root) / videos
        path = Path(root) / questions
        if not path.is_file():
            raise Absent(
                f"benchmark.root={root} must be a folder with the file {questions}, there is none; "
                "set benchmark.root (or benchmark.questions)"
            )
        self.rows = of_split(read_rows(path), split, path)[:limit]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Question:
        row: Row = self.rows[index]
        return Question(
            id=row.id,
            video=VideoRef(str(self.videos / row.video), row.start, row.end),
            text=row.question,
            options=row.options,
            answer=row.label(),
            groups=row.groups,
            cluster=row.cluster or row.video,
            debiased=row.debiased,
            relevance=row.relevance,
        )

    def prompt(self, question: Question, frames: Frames) -> Prompt:
        return letter_prompt(question)

    def parse(self, reply: str, question: Question) -> Verdict:
        if question.options is not None:
            return verdict(reply, question, partial(letter, options=question.options))
        if question.answer is None:
            return Verdict("unlabelled", None)
        right = same(reply, question.answer)
        return Verdict("correct" if right else "wrong" if reply.strip() else "empty", float(right))

    def summarise(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return summary(predictions) | {"parser": self.parser}
