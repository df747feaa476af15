"""Rows of a question file: read, checked, and every complaint names file, line, field and rule."""

from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from kvtp.benchmark._letters import letters
from kvtp.benchmark._normal import same
from kvtp.errors import nearest

Text = Annotated[str, Field(min_length=1)]


class Row(BaseModel):
    """One question about one video."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    id: Text
    video: Text  # path in the folder of videos
    question: Text
    options: Annotated[tuple[Text, ...], Field(min_length=2, max_length=26)] | None = None
    answer: StrictStr | StrictInt | None = None  # letter, index from 0, or the option's text
    start: Annotated[float, Field(ge=0)] | None = None  # [s]
    end: Annotated[float, Field(gt=0)] | None = None  # [s]
    split: Text | None = None  # None = every split
    groups: dict[str, str] = {}
    cluster: Text | None = None  # None = the video
    debiased: Text | None = None
    relevance: Annotated[tuple[float, ...], Field(min_length=1)] | None = None  # label per clip

    def check_segment(self) -> None:
        """Raise ValueError unless the segment begins before it ends."""
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"field start: must be before end, got {self.start:g} s to {self.end:g} s")

    def label(self) -> str | None:
        """The answer as a letter where there are options; ValueError for one that is none of them."""
        if self.options is None or self.answer is None:
            return None if self.answer is None else str(self.answer)
        known = letters(self.options)
        readings = set()
        if isinstance(self.answer, int):
            readings |= {known[self.answer]} if 0 <= self.answer < len(known) else set()
        elif self.answer.strip().upper() in known:
            return self.answer.strip().upper()
        said = str(self.answer)
        readings |= {letter for letter, option in zip(known, self.options, strict=True) if same(said, option)}
        if len(readings) != 1:
            how = f"may mean {' or '.join(sorted(readings))}; write the letter" if readings else "is none of them"
            raise ValueError(
                f"answer must be a letter {known[0]}–{known[-1]}, an index 0–{len(known) - 1} or an option's text, "
                f"got {self.answer!r}, which {how}"
            )
        return readings.pop()


def read_rows(path: Path) -> list[Row]:
    """All rows of a file of JSON lines; ValueError naming file, line, field and rule for the first that breaks one."""
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().removeprefix(BOM_UTF8).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = Row.model_validate_json(line)
            row.label()
            row.check_segment()
        except ValidationError as error:
            raise ValueError(f"{path}:{number}: {_explain(error)}") from error
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        if row.id in seen:
            raise ValueError(f"{path}:{number}: field id: must be unique, {row.id!r} is also in line {seen[row.id]}")
        seen[row.id] = number
        rows.append(row)
    return rows


def of_split(rows: Sequence[Row], split: str | None, path: Path) -> list[Row]:
    """The rows of `split` (None: all) and those that name none; ValueError when nothing is left."""
    kept = [row for row in rows if split is None or row.split in (None, split)]
    if not kept:
        there = ", ".join(sorted({row.split for row in rows if row.split is not None})) or "no rows at all"
        raise ValueError(f"benchmark.split={split} has no questions in {path}; there are: {there}")
    return kept


def _explain(error: ValidationError) -> str:
    complaints = []
    for one in error.errors(include_url=False):
        field = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            complaints.append(f"field {field}: unknown{nearest(field, Row.model_fields)}")
        elif one["type"] == "missing":
            complaints.append(f"field {field}: missing")
        elif field:
            complaints.append(f"field {field}: {one['msg']}, got {one['input']!r}")
        else:
            complaints.append(f"not a JSON object: {one['msg']}")
    return "; ".join(complaints)
