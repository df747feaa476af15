"""A sheet (`kvtp.report.sheet`) as text for the terminal, Markdown, LaTeX and HTML, and as lines for a CSV file.

Texts are laid out once, in `_Page`; a format only escapes them and draws rules."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from io import StringIO
from itertools import count, product
from string import ascii_lowercase
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tabulate import LATEX_ESCAPE_RULES, tabulate

from kvtp.report.sheet import Entry, Line, Sheet

KINDS = ("published", "computed", "measured", "difference")  # rows of a line; attributes of its entries
ABSENT = "–"
OPEN, CLOSE = "\ue000", "\ue001"  # around the mark of a footnote; private, so that no escape touches them
BRACKETS = str.maketrans({OPEN: "[", CLOSE: "]"})
TAGS = str.maketrans({OPEN: "<sup>", CLOSE: "</sup>"})
ESCAPED = str.maketrans(LATEX_ESCAPE_RULES)
SIGNS = {"−": "-", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty", "√": r"\surd"}
GREEK = {"α": r"\alpha", "λ": r"\lambda", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "Δ": r"\Delta", "Σ": r"\Sigma"}
TYPESET = str.maketrans(  # marks, and what LaTeX's fonts lack outside mathematics
    {OPEN: r"\textsuperscript{", CLOSE: "}", "|": r"\textbar{}"}
    | {sign: f"${name}$" for sign, name in (SIGNS | GREEK).items()}
)
MARKUP = re.compile(r"[\\`*<>&|~#$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")  # in Markdown; a_b is a word


@dataclass(frozen=True)
class _Page:
    """Of each row the first `words` cells are labels, the others numbers; `below`: footnotes, then notes."""

    title: str
    words: int
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    below: Sequence[str]


def terminal(sheet: Sheet) -> str:
    page = _page(sheet)
    table = Table(box=None)
    for nth, head in enumerate(page.header):
        table.add_column(Text(head), justify="left" if nth < page.words else "right")
    for row in page.rows:
        table.add_row(*(Text(cell.translate(BRACKETS)) for cell in row))
    text = StringIO()
    Console(width=2**16, file=text).print(table)  # it takes no more than it needs
    return "".join(f"{line.rstrip()}\n" for line in [page.title, *text.getvalue().splitlines(), *page.below])


def markdown(sheet: Sheet) -> str:
    page = _page(sheet, partial(MARKUP.sub, r"\\\g<0>"))
    notes = "".join(f"- {text}\n" for text in page.below)
    return f"### {page.title}\n\n{_drawn(page, 'pipe')}\n\n{notes}".translate(TAGS)


def latex(sheet: Sheet) -> str:
    page = _page(sheet)
    # after \\ and \toprule these would begin an argument
    tabular = re.sub(r"(?m)^ *([\[*])", r"{}\1", _drawn(page, "latex_booktabs"))
    notes = "\\par\n".join(text.translate(ESCAPED) for text in page.below)
    box = f"\n\\par\\smallskip\\parbox{{\\linewidth}}{{\\footnotesize\\raggedright\n{notes}}}" if notes else ""
    head = f"\\caption{{{page.title.translate(ESCAPED)}}}\n\\label{{tab:{sheet.name}}}\n"
    body = f"{head}{tabular}{box}".translate(TYPESET)
    return f"% needs \\usepackage{{booktabs}}\n\\begin{{table}}\n\\centering\n{body}\n\\end{{table}}\n"


def html(sheet: Sheet) -> str:
    """A fragment, for a page with the style of page.html.jinja."""
    page = _page(sheet)
    table = re.sub("<(t[hd])>", r'<\1 class="words">', _drawn(page, "html"))  # numbers have a style
    notes = "".join(f'<p class="note">{escape(text)}</p>\n' for text in page.below)
    return f'<h2>{escape(page.title)}</h2>\n<div class="scroll">{table}</div>\n{notes}'.translate(TAGS)


def lines(sheet: Sheet) -> list[dict[str, Any]]:
    """One per entry, for `kvtp.report.comparison.write`; what is empty is None."""
    told = [
        {
            **dict(zip(sheet.stubs, line.label, strict=True)),
            "column": column.title,
            "unit": column.unit,
            "published": entry.published,
            "computed": entry.computed,
            "measured": entry.measured,
            "low": entry.low,
            "high": entry.high,
            "difference": entry.difference,
            "reason": "; ".join((*entry.reasons, *entry.caveats)),
            "missing": entry.missing,
        }
        for line in sheet.lines
        for column, entry in zip(sheet.columns, line.entries, strict=True)
        if entry is not None
    ]
    return [{key: None if value == "" else value for key, value in one.items()} for one in told]


def _page(sheet: Sheet, escaped: Callable[[str], str] = str) -> _Page:
    entries = [entry for line in sheet.lines for entry in line.entries if entry is not None]
    known = {kind for kind in KINDS if any(getattr(entry, kind) is not None for entry in entries)}
    compared = len(known) > 1
    excuses = {entry.missing for entry in entries if entry.computed is None} - {""}
    everywhere = excuses.pop() if len(excuses) == 1 and "measured" not in known else ""
    stubs, title = _stubs(sheet)
    rows, footnotes = _rows(sheet, stubs, compared, everywhere)
    words = [*(sheet.stubs[stub] for stub in stubs), *([""] if compared else [])]
    columns = [f"{column.title} [{column.unit}]" if column.unit else column.title for column in sheet.columns]

    def clean(texts: Iterable[str]) -> list[str]:
        return [escaped(" ".join(text.split())) for text in texts]  # a broken line would end a row

    return _Page(
        title=clean([title])[0],
        words=len(words),
        header=clean([*words, *columns]),
        rows=[clean(row) for row in rows or [[""] * len([*words, *columns])]],  # tabulate takes columns from rows
        below=clean([*footnotes, *dict.fromkeys(note for note in (everywhere, *sheet.notes) if note)]),
    )


def _rows(sheet: Sheet, stubs: Sequence[int], compared: bool, everywhere: str) -> tuple[list[list[str]], list[str]]:
    """And the footnotes, in the order of their marks. `compared`: a cell tells the kind of the row; `everywhere`: what
    is missing for this reason has no mark."""
    letters = ("".join(word) for size in count(1) for word in product(ascii_lowercase, repeat=size))
    marks: defaultdict[str, str] = defaultdict(lambda: next(letters))

    def mark(entry: Entry | None, kind: str, kinds: Sequence[str]) -> str:
        if entry is None:
            return ""
        missing = entry.missing if entry.measured is None and entry.missing != everywhere else ""
        # of what is printed there, of the run here; where a line has no such row, on its first
        told = entry.reasons if kind == kinds[0] else ()
        told += (*entry.caveats, missing) if kind == ("measured" if "measured" in kinds else kinds[0]) else ()
        letters = ",".join(dict.fromkeys(marks[reason] for reason in told if reason))
        return f"{OPEN}{letters}{CLOSE}" if letters else ""

    rows = []
    for line in sheet.lines:
        kinds = _kinds(line)
        for kind in kinds:
            labels = [line.label[stub] if kind == kinds[0] else "" for stub in stubs]
            cells = [_text(entry, kind) + mark(entry, kind, kinds) for entry in line.entries]
            rows.append([*labels, *([kind] if compared else []), *cells])
    return rows, [f"{letter}: {reason}" for reason, letter in marks.items()]


def _stubs(sheet: Sheet) -> tuple[list[int], str]:
    """Those that get a column; and the title, which tells of the others what is the same on every line."""
    every = range(len(sheet.stubs))
    same = [stub for stub in every if len(sheet.lines) > 1 and len({line.label[stub] for line in sheet.lines}) == 1]
    if len(same) == len(every):
        same = same[:-1]
    told = ", ".join(f"{sheet.stubs[stub]}: {text}" for stub in same if (text := sheet.lines[0].label[stub]))
    return [stub for stub in every if stub not in same], f"{sheet.title} ({told})" if told else sheet.title


def _kinds(line: Line) -> list[str]:
    """The rows of a line, one at least."""
    told = [entry for entry in line.entries if entry is not None]
    return [kind for kind in KINDS if any(getattr(entry, kind) is not None for entry in told)] or [KINDS[0]]


def _text(entry: Entry | None, kind: str) -> str:
    def signed(value: float | None, sign: str = "") -> str:
        return ABSENT if value is None else f"{value:{sign}z.{digits}f}".replace("-", "−")

    if entry is None:
        return ""
    digits = entry.digits
    if kind == "published":
        return ABSENT if entry.published is None else entry.published
    known = kind == "measured" and entry.low is not None and entry.high is not None
    interval = f" [{signed(entry.low)}, {signed(entry.high)}]" if known else ""
    return signed(getattr(entry, kind), "+" if kind == "difference" else "") + interval


def _drawn(page: _Page, form: str) -> str:
    sides = ["left"] * page.words + ["right"] * (len(page.header) - page.words)
    return tabulate(page.rows, page.header, tablefmt=form, disable_numparse=True, colalign=sides)
