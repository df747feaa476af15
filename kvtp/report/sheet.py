"""A table as data: what is printed, what was measured or computed, and why two numbers do not compare.

`kvtp.report.render` shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One number. `published`: as it is printed, `61.50`; None where nothing is. `measured` by a run, with its 95 %
    interval, or `computed` without one, in the column's unit, shown with so many `digits`. Why they are not to be
    compared: `reasons` lie in what is printed, `caveats` in what was measured. `missing`: why nothing was."""

    published: str | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    computed: float | None = None
    digits: int = 2
    reasons: tuple[str, ...] = ()
    missing: str = ""
    caveats: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """Measured, or without a measurement computed, minus published; None where one is not there, or they cannot be
        compared."""
        own = self.computed if self.measured is None else self.measured
        if self.published is None or own is None or self.reasons or self.caveats:
            return None
        return own - float(self.published)


@dataclass(frozen=True)
class Column:
    title: str
    unit: str = ""


@dataclass(frozen=True)
class Line:
    """`label`: one text for each of the sheet's `stubs`; `entries`: one for each of its columns, None = empty."""

    label: tuple[str, ...]
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Sheet:
    """`name`: a word for files, `vista_table1`; `stubs`: what the labels of a line tell (backbone, method, setting);
    `notes`: sentences that belong below the table."""

    name: str
    title: str
    stubs: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.label) != len(self.stubs) or len(line.entries) != len(self.columns):
                raise ValueError(
                    f"{self.name}: a line must have {len(self.stubs)} labels and {len(self.columns)} entries, "
                    f"got {len(line.label)} and {len(line.entries)}"
                )
