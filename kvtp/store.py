"""The folder of a run: predictions that survive `kill -9` at any moment, and one writer at a time.

Every process appends to its own `predictions.<rank>.jsonl`, line by line, and these files are only ever appended to.
`predictions.jsonl` is made from them. An error is replaced by what a later try brought; any other row stands.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from kvtp.command import CommandError
from kvtp.types import ERRORS, Prediction, Question


class Store:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guard = FileLock(folder / ".lock")  # the kernel's: it goes with the process that holds it

    def lock(self, wait: bool) -> None:
        """Until `unlock` no other process runs in this folder. CommandError if one does, unless it shall `wait`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.guard.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            raise CommandError(
                f"{self.folder} is being written by another run of the same configuration; wait for it to end "
                "(the lock goes with its process, there is nothing to delete)"
            ) from error

    def unlock(self) -> None:
        self.guard.release()

    def describe(self, config: Mapping[str, Any], overrides: Sequence[str], questions: Sequence[Question]) -> None:
        """Write `.hydra/`. CommandError if the predictions here are of other questions."""
        about = self.folder / ".hydra"
        about.mkdir(exist_ok=True)
        asked, mark = about / "questions.sha256", _fingerprint(questions)
        if asked.is_file() and asked.read_text() != mark:
            raise CommandError(
                f"the questions are not those that {self.folder} has predictions of (their file changed); "
                "move that folder away, and the same command starts afresh"
            )
        write_whole(about / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        write_whole(about / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
        write_whole(asked, mark)

    def read(self) -> dict[str, Prediction]:
        """The standing prediction of every question that has one."""
        standing: dict[str, Prediction] = {}
        for path in sorted(self.folder.glob("predictions.*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
            for number, line in enumerate(_whole_lines(path), 1):
                row = _prediction(line, f"{path}:{number}")
                before = standing.get(row.question_id)
                if before is None or before.outcome in ERRORS:
                    standing[row.question_id] = row
        return standing

    def append_to(self, rank: int) -> "Appender":
        return Appender(self.folder / f"predictions.{rank}.jsonl")

    def merge(self, order: Sequence[str]) -> list[Prediction]:
        """Write predictions.jsonl: one line per question, in the order given."""
        standing = self.read()
        rows = [standing[question] for question in order]
        write_whole(self.folder / "predictions.jsonl", "".join(_line(row) for row in rows))
        return rows

    def summary(self, told: Mapping[str, Any]) -> None:
        write_whole(self.folder / "summary.json", json.dumps(told, indent=2) + "\n")


class Appender:
    """Appends predictions to one file; each is on the disk before the next is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = sum(len(line) + 1 for line in _whole_lines(path)) if path.exists() else 0
        self.file = path.open("ab")
        self.file.truncate(whole)  # a line torn by a kill must not run into the next

    def append(self, prediction: Prediction) -> None:
        self.file.write(_line(prediction).encode())
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def write_whole(path: Path, text: str) -> None:
    """Replace a file at once: a reader, or a kill, sees the old one or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn, or nothing


def _line(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction)) + "\n"  # ASCII: file names in messages may not be UTF-8


def _prediction(line: bytes, where: str) -> Prediction:
    try:
        fields = json.loads(line)
        tokens = fields.pop("tokens_per_layer")
        return Prediction(**fields, tokens_per_layer=tokens and {kind: tuple(rows) for kind, rows in tokens.items()})
    except (ValueError, TypeError, KeyError) as error:
        raise CommandError(
            f"{where} is no prediction ({error}); remove that line, and its question is asked again"
        ) from error


def _fingerprint(questions: Sequence[Question]) -> str:
    """Of all that is asked and expected, without where the videos lie."""
    asked = [
        [row.id, row.text, row.options, row.answer, row.ref.start, row.ref.end, row.debiased, row.relevance]
        for row in questions
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()
