"""The figures that the papers print, and why some of them compare with no measurement: published/*.csv as data."""

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from kvtp.errors import nearest

PAPERS = ("kvtp_", "llm_vtp_", "vista_")
KEYS = ("table", "backbone", "method", "setting", "benchmark", "metric")  # of a cell, and as patterns of a reason


@dataclass(frozen=True)
class Cell:
    """`table`: the file's stem, vista_table1; `setting`: name=value;…; `value`: as printed, "" where nothing is."""

    table: str
    backbone: str
    method: str
    setting: str
    benchmark: str
    metric: str
    value: str
    unit: str

    @property
    def figure(self) -> float | None:
        """In `unit`: percent stay percent."""
        return float(self.value) if self.value else None


@dataclass(frozen=True)
class Reason:
    """Why a cell compares with no measurement, in one sentence; published/README.md tells the kinds."""

    kind: str
    text: str


def tables(folder: Path) -> tuple[str, ...]:
    """Those of the papers in `folder`; table 10 comes after table 9."""
    stems = [path.stem for path in folder.glob("*.csv") if path.stem.startswith(PAPERS)]
    return tuple(sorted(stems, key=lambda stem: (stem.rstrip("0123456789"), len(stem), stem)))


@cache
def read(folder: Path, table: str) -> tuple[Cell, ...]:
    """In the order of the file. ValueError for a table that there is not."""
    if table not in (known := tables(folder)):
        raise ValueError(f"table must be one of the papers' in {folder}, got {table!r}{nearest(table, known)}")
    told = (*KEYS[1:], "value", "unit")  # its column `table` counts within the paper
    return tuple(Cell(table, **{name: row[name] for name in told}) for row in _rows(folder / f"{table}.csv"))


@cache
def reasons(folder: Path, cell: Cell) -> tuple[Reason, ...]:
    """The lines of `folder`/reasons.csv that match the cell in all of KEYS, by a shell's patterns; in their order."""
    return tuple(
        Reason(row["kind"], row["reason"])
        for row in _rows(folder / "reasons.csv")
        if all(fnmatchcase(getattr(cell, key), row[key]) for key in KEYS)
    )


@cache
def _rows(path: Path) -> tuple[dict[str, str], ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
