"""The folder of a run: predictions that survive `kill -9` at any moment, and one writer at a time.

Every process appends to its own `predictions.<rank>.jsonl`, line by line, and these files are only ever appended to.
`predictions.jsonl` is made from them. An error is replaced by what a later try brought; any other row stands.
What a run is about (`.hydra/`) is written once, by its first session; `.hydra/sessions.<rank>.jsonl` tells of all.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from PIL import Image

from kvtp.command import CommandError
from kvtp.errors import check_choice
from kvtp.logger.base import Sample
from kvtp.types import OUTCOMES, UNANSWERED, Prediction, Question

log = logging.getLogger(__name__)


class Store:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guard = FileLock(folder / ".lock")  # the kernel's: it goes with the process that holds it

    def lock(self, wait: bool) -> None:
        """Until `unlock` no other process runs in this folder. CommandError if one does, unless it shall `wait`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.guard.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise CommandError(
                    f"{self.folder} is being written by another run of the same configuration; wait for it to end "
                    "(the lock goes with its process, there is nothing to delete)"
                ) from error
            log.info("waiting for the run that writes %s", self.folder)
            self.guard.acquire()

    def unlock(self) -> None:
        self.guard.release()

    def describe(
        self,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        questions: Sequence[Question],
        weights: str,
        parser: str,
        videos: str,
        accounting: str,
    ) -> None:
        """Write `.hydra/` before the first prediction. CommandError if those here are of other questions, weights,
        videos, or of another parser or accounting.

        `weights`: the identities of all networks. `parser`, `videos`: the benchmark's.
        """
        about = self.folder / ".hydra"
        about.mkdir(exist_ok=True)
        marks = {  # what it was, and how it may have become another
            "questions": (fingerprint(questions), "other questions: their file changed"),
            "weights": (weights, "other weights: another checkpoint, or this one was trained further"),
            "parser": (parser, "another parser: replies are read differently now"),
            "videos": (videos, "other videos: they were made anew"),
            "accounting": (accounting, "another accounting: costs are told differently now"),
        }
        if any(path.stat().st_size for path in self.folder.glob("predictions.*.jsonl")):
            for what, (mark, cause) in marks.items():
                path = about / what
                if not path.is_file() or path.read_text() != mark:
                    raise CommandError(
                        f"{self.folder} has predictions made with {cause}; "
                        "move that folder away, and the same command starts afresh"
                    )
            return
        write_whole(about / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        write_whole(about / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
        for what, (mark, _) in marks.items():
            write_whole(about / what, mark)

    def begin(self, rank: int, session: Mapping[str, Any]) -> None:
        """Note a process that is about to append its first row."""
        file = Appender(self.folder / ".hydra" / f"sessions.{rank}.jsonl")
        file.append(session)
        file.close()

    def sessions(self) -> list[dict[str, Any]]:
        """All that wrote rows, each rank's in their order."""
        paths = sorted((self.folder / ".hydra").glob("sessions.*.jsonl"))
        return [json.loads(line) for path in paths for line in _whole_lines(path)]

    def read(self) -> dict[str, Prediction]:
        """The standing prediction of every question that has one."""
        standing: dict[str, Prediction] = {}
        for path in sorted(self.folder.glob("predictions.*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
            for number, line in enumerate(_whole_lines(path), 1):
                row = _prediction(line, f"{path}:{number}")
                before = standing.get(row.question_id)
                if before is None or before.outcome in UNANSWERED:
                    standing[row.question_id] = row
        return standing

    def append_to(self, rank: int) -> "Appender":
        return Appender(self.folder / f"predictions.{rank}.jsonl")

    def merge(
        self, order: Sequence[str], settle: Callable[[list[Prediction]], list[Prediction]] = list
    ) -> list[Prediction]:
        """Write predictions.jsonl: one line per question, in the order given, as `settle` leaves them."""
        standing = self.read()
        rows = settle([standing[question] for question in order])
        self.write(rows)
        return rows

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Replace predictions.jsonl."""
        write_whole(self.folder / "predictions.jsonl", "".join(_line(asdict(row)) for row in predictions))

    def finished(self) -> list[Prediction] | None:
        """All predictions in the order of the questions; None while the run is not over."""
        path = self.folder / "predictions.jsonl"
        if not (self.folder / "summary.json").exists():
            return None
        return [_prediction(line, f"{path}:{number}") for number, line in enumerate(_whole_lines(path), 1)]

    def sample(self, told: Sample, picture: Image.Image, place: int) -> None:
        """Keep the picture and the words of question number `place` under samples/."""
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"{place:04d}.png")
        write_whole(folder / f"{place:04d}.json", json.dumps(asdict(told)) + "\n")

    def samples(self) -> list[tuple[Sample, Path]]:
        found = []
        for path in sorted((self.folder / "samples").glob("*.json")):
            fields = json.loads(path.read_text())
            options = fields.pop("options")
            found.append((Sample(**fields, options=options and tuple(options)), path.with_suffix(".png")))
        return found

    def told(self) -> dict[str, Any]:
        """What summary.json says of a finished run."""
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    def summary(self, told: Mapping[str, Any]) -> None:
        write_whole(self.folder / "summary.json", json.dumps(told, indent=2) + "\n")


class Appender:
    """Appends lines of JSON to one file; each is on the disk before the next is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = sum(len(line) + 1 for line in _whole_lines(path)) if path.exists() else 0
        self.file = path.open("ab")
        self.file.truncate(whole)  # a line torn by a kill must not run into the next

    def append(self, fields: Mapping[str, Any]) -> None:
        self.file.write(_line(fields).encode())
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


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields) + "\n"  # ASCII: file names in messages may not be UTF-8


def _prediction(line: bytes, where: str) -> Prediction:
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict):
            raise TypeError("it is no JSON object")
        check_choice("outcome", fields["outcome"], OUTCOMES)
        tokens = fields.pop("tokens_per_layer")
        found = {key: fields.pop(key, None) for key in ("cache_rows", "cache_visual", "steps")}
        counts: dict[str, Any] = {key: None if value is None else tuple(value) for key, value in found.items()}
        return Prediction(
            **fields,
            tokens_per_layer=tokens and {kind: tuple(count) for kind, count in tokens.items()},
            **counts,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(
            f"{where} is no prediction ({error}); remove that line, and its question is asked again"
        ) from error


def fingerprint(questions: Sequence[Question]) -> str:
    """Of all that is asked, expected and counted. Videos are named from the folder that holds them all: machines
    differ in where that lies."""
    paths = [os.path.abspath(row.ref.path) for row in questions]
    base = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    asked = [
        asdict(row) | {"video": [os.path.relpath(path, base), row.ref.start, row.ref.end]}
        for row, path in zip(questions, paths, strict=True)
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
