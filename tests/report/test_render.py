"""What is shown is read back by readers that know nothing of how it was made: an XML parser, markdown-it, and a small
reader of LaTeX that accepts only what LaTeX does."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kvtp.report.comparison import write
from kvtp.report.render import html, latex, lines, markdown, terminal
from kvtp.report.sheet import Column, Entry, Line, Sheet

UNASKED, REVISED, LATER = "its test server was not asked", "the set was revised after the paper", "not run"
OTHERS = "a part of the questions"
PAPER = Sheet(
    "vista_table1",
    "Accuracy",
    ("backbone", "method", "kept"),
    (Column("MVBench", "%"), Column("MLVU", "%"), Column("FLOPs", "%"), Column("rank")),
    (
        Line(
            ("onevision_7b", "none", "100%"),
            (
                Entry("58.50", 58.432, 56.98, 59.871),
                Entry("68.10", missing=UNASKED),
                Entry(computed=41.183, digits=1),
                None,
            ),
        ),
        Line(
            ("onevision_7b", "vista", "25%"),
            (
                Entry("58.00", 58.12),
                Entry("67.90", 66.1, reasons=(REVISED,), caveats=(OTHERS,)),
                Entry("9.5", measured=9.871, computed=9.46, digits=1, reasons=(REVISED,)),
                Entry("1"),
            ),
        ),
        Line(
            ("onevision_7b", "fastv", "25%"),
            (
                Entry("57.45", missing=LATER),
                Entry("66.30", missing=UNASKED),
                Entry("27.1", computed=27.04, digits=1),
                Entry("2"),
            ),
        ),
    ),
    ("Intervals: 95 %.",),
)
KINDS = ["published", "computed", "measured", "difference"]
HAZARDS = [
    "a_b_c",
    "__a__",
    "_a",
    "*a*",
    "~~a~~",
    "`a`",
    "[a](b)",
    "[*] #1 {x} &amp; 50%",
    "a|b\\\\|c\\\\",
    "<b>^~ρ≤−</b>",
]
MATHEMATICS = {"-": "−", r"\le": "≤", r"\to": "→", r"\rho": "ρ"}


@dataclass(frozen=True)
class Cell:
    text: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    title: str
    header: list[Cell]
    rows: list[list[Cell]]
    below: list[str]


def read_xml(text: str) -> Seen:
    root = ElementTree.fromstring(f"<div>{text}</div>")

    def texts(*tags: str) -> list[str]:
        return [" ".join("".join(one.itertext()).split()) for one in root.iter() if one.tag in tags]

    (title,) = texts("h2", "h3")
    header, *rows = [[_cell(cell) for cell in row] for row in root.iter("tr")]
    return Seen(title, header, rows, texts("p", "li"))


def _cell(found: ElementTree.Element) -> Cell:
    marks = found.find("sup")
    assert all(one.tag == "sup" and not one.tail for one in found), "nothing else in a cell, nothing after a mark"
    return Cell(" ".join((found.text or "").split()), () if marks is None else tuple(str(marks.text).split(",")))


def read_markdown(text: str) -> Seen:
    reader = MarkdownIt("commonmark", {"xhtmlOut": True}).enable(["table", "strikethrough"])
    return read_xml(reader.render(text))


TOKEN = re.compile(
    r"\\textsuperscript\{(?P<mark>[a-z,]+)\}|\$(?P<maths>[^$]+)\$|\\ensuremath\{(?P<angle>[<>])\}"
    r"|\\(?P<named>textbackslash|textasciitilde|textbar|\^)\{\}|\\(?P<escaped>[&%$#_{}])|(?P<none>\{\})"
    r"|(?P<plain>[^\\&%$#_{}~^|<>−≤ρ])"
)
NAMED = {"textbackslash": "\\", "textasciitilde": "~", "textbar": "|", "^": "^"}


def typeset(source: str) -> Cell:
    """AssertionError at a character that must be escaped, or that the standard fonts do not have."""
    text, marks, place = "", "", 0
    while place < len(source):
        found = TOKEN.match(source, place)
        assert found is not None, source[place:]
        assert not marks, "nothing after a mark"
        marks = found["mark"] or ""
        text += MATHEMATICS.get(found["maths"], "") + NAMED.get(found["named"], "")
        text += found["angle"] or found["escaped"] or found["plain"] or ""
        place = found.end()
    return Cell(" ".join(text.split()), tuple(marks.split(",")) if marks else ())


def read_latex(text: str) -> Seen:
    begun: list[str] = []
    for verb, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert verb == "begin" or begun.pop() == name
        begun += [name] if verb == "begin" else []
    assert begun == []
    found = re.fullmatch(
        r"% needs \\usepackage\{booktabs\}\n\\begin\{table\}\n\\centering\n\\caption\{(.*)\}\n\\label\{tab:(\w+)\}\n"
        r"\\begin\{tabular\}\{(l*r*)\}\n\\toprule\n(.*)\n\\midrule\n(.*)\n\\bottomrule\n\\end\{tabular\}\n"
        r"(?:\\par\\smallskip\\parbox\{\\linewidth\}\{\\footnotesize\\raggedright\n(.*)\}\n)?\\end\{table\}\n",
        text,
        re.DOTALL,
    )
    assert found is not None
    title, _, columns, header, body, below = found.groups()
    rows = []
    for line in [header, *body.split("\n")]:
        assert line.endswith(r" \\")
        assert not re.match(r" *[\[*]", line), "an argument of the line's end before"
        rows.append([typeset(cell.strip()) for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))])
    assert {len(row) for row in rows} == {len(columns)}
    texts = [typeset(one).text for one in below.split("\\par\n")] if below else []
    return Seen(typeset(title).text, rows[0], rows[1:], texts)


READERS = [(markdown, read_markdown), (latex, read_latex), (html, read_xml)]


def test_published_beside_measured() -> None:
    """By hand."""
    assert terminal(PAPER).splitlines() == [
        "Accuracy (backbone: onevision_7b)",
        " method  kept                       MVBench [%]  MLVU [%]  FLOPs [%]  rank",
        " none    100%  published                  58.50     68.10          –",
        "               computed                       –         –       41.2",
        "               measured    58.43 [56.98, 59.87]      –[a]          –",
        "               difference                 −0.07         –          –",
        " vista   25%   published                  58.00  67.90[b]     9.5[b]     1",
        "               computed                       –         –        9.5     –",
        "               measured                   58.12  66.10[c]        9.9     –",
        "               difference                 +0.12         –          –     –",
        " fastv   25%   published               57.45[d]  66.30[a]       27.1     2",
        "               computed                       –         –       27.0     –",
        "               difference                     –         –       −0.1     –",
        f"a: {UNASKED}",
        f"b: {REVISED}",
        f"c: {OTHERS}",
        f"d: {LATER}",
        "Intervals: 95 %.",
    ]


@pytest.mark.parametrize(("show", "read"), READERS)
def test_formats_say_what_the_terminal_says(show, read) -> None:
    seen = read(show(PAPER))
    shown = [
        "  ".join(cell.text + (f"[{','.join(cell.marks)}]" if cell.marks else "") for cell in row if cell.text)
        for row in [seen.header, *seen.rows]
    ]
    told = [re.sub("  +", "  ", line.strip()) for line in terminal(PAPER).splitlines()]
    assert [seen.title, *shown, *seen.below] == told


def test_markdown_is_a_table_of_github() -> None:
    """Cells by splitting: numbers right, labels left; `61.50` stays so."""
    title, _, header, sides, *rows = markdown(PAPER).partition("\n\n- ")[0].splitlines()
    assert title == "### Accuracy (backbone: onevision_7b)"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, sides, *rows)]
    assert cells[0] == ["method", "kept", "", "MVBench [%]", "MLVU [%]", "FLOPs [%]", "rank"]
    assert [(side[0], side[-1]) for side in cells[1]] == [(":", "-")] * 3 + [("-", ":")] * 4
    assert cells[2] == ["none", "100%", "published", "58.50", "68.10", "–", ""]
    assert cells[4][4] == "–<sup>a</sup>"
    assert markdown(replace(PAPER, title="$a$")).startswith(r"### \$a\$ "), "or GitHub reads mathematics"


def test_latex_has_its_own_minus_and_sides() -> None:
    made = latex(PAPER)
    assert r"\begin{tabular}{lllrrrr}" in made
    assert r"\label{tab:vista_table1}" in made
    assert "$-$0.07" in made
    assert "67.90\\textsuperscript{b}" in made
    assert "−" not in made


def test_html_has_sides() -> None:
    """What is not a label is right-aligned; the style of the page leaves only `words` to the left."""
    cells = list(ElementTree.fromstring(f"<div>{html(PAPER)}</div>").iter("td"))
    words = [cell.get("class") == "words" for cell in cells]
    assert words == ([True] * 3 + [False] * 4) * 11
    assert all(cell.get("style") == "text-align: right;" for cell, word in zip(cells, words, strict=True) if not word)


def sheet(*rows: Sequence[Entry | None], **changed) -> Sheet:
    """One line for each of `rows`, called a, b, …"""
    told = tuple(Line((chr(ord("a") + nth),), tuple(row)) for nth, row in enumerate(rows))
    columns = tuple(Column(f"c{nth}") for nth in range(len(rows[0]) if rows else 2))
    return replace(Sheet("toy", "Toy", ("run",), columns, told), **changed)


def body(shown: Sheet) -> list[list[str]]:
    return [[cell.text + ",".join(cell.marks) for cell in row] for row in read_xml(html(shown)).rows]


def test_an_own_table_has_one_row_a_line() -> None:
    made = sheet((Entry(measured=86.06, low=84.2, high=88, digits=1), Entry(measured=-1)), (Entry(missing=LATER), None))
    assert body(made) == [["a", "86.1 [84.2, 88.0]", "−1.00"], ["b", "–a", ""]]


def test_published_alone_has_one_row_a_line() -> None:
    """Each reason at its number, as there is no measured row."""
    made = sheet((Entry("61.50", missing="x"), Entry("1.0")), (Entry("7"), Entry("2e1", missing="y")))
    assert body(made) == [["a", "61.50a", "1.0"], ["b", "7", "2e1b"]]
    assert read_xml(html(made)).below == ["a: x", "b: y"]


def test_one_reason_for_all_is_a_note() -> None:
    made = sheet((Entry("61.50", missing=LATER), None), (Entry(missing=LATER), Entry("2", missing=LATER)))
    assert body(made) == [["a", "61.50", ""], ["b", "–", "2"]]
    assert read_xml(html(made)).below == [LATER]
    assert read_xml(html(replace(made, notes=("And so on.", LATER)))).below == [LATER, "And so on."]


def test_a_line_without_published_numbers_has_no_such_row() -> None:
    made = sheet((Entry("5.0", 5.0),), (Entry(measured=4, digits=0),), (Entry(),))
    kinds = [["a", "published"], ["", "measured"], ["", "difference"], ["b", "measured"], ["c", "published"]]
    assert [row[:2] for row in body(made)] == kinds
    assert [row[2] for row in body(made)] == ["5.0", "5.00", "+0.00", "4", "–"]


def test_differences_round_to_a_plain_zero() -> None:
    assert body(sheet((Entry("5.0", 4.999),)))[2][-1] == "+0.00"


def test_two_reasons_of_one_entry() -> None:
    """Each where it lies: in what is printed, or here. Two that say the same are one."""
    made = sheet(
        (Entry("5", reasons=("x",), missing="y"), Entry(measured=5)), (Entry("5", reasons=("y",), missing="y"), None)
    )
    assert [row[2] for row in body(made)] == ["5a", "–b", "5b"]


def test_marks_go_on_behind_z() -> None:
    made = sheet(*((Entry("1", 1.0, caveats=(f"reason {nth % 53}",)),) for nth in range(60)))
    marks = [row[2][4:] for row in body(made) if row[1] == "measured"]
    assert marks[:2] == marks[53:55] == ["a", "b"]
    assert marks[25:28] == ["z", "aa", "ab"]
    assert marks[51:53] == ["az", "ba"]
    assert read_xml(html(made)).below == [f"{mark}: reason {nth}" for nth, mark in enumerate(marks[:53])]


def test_what_all_lines_share_is_told_once() -> None:
    """As long as a column is left; of one line nothing can be said to be shared."""
    labels = [("x", "vista", ""), ("x", "tome", ""), ("x", "vista", "")]

    def seen(*which: int) -> tuple[str, list[str]]:
        told = tuple(Line(labels[nth], (Entry("1"),)) for nth in which)
        found = read_xml(html(Sheet("toy", "Toy", ("backbone", "method", "note"), (Column("c"),), told)))
        return found.title, [cell.text for cell in found.header]

    assert seen(0, 1, 2) == ("Toy (backbone: x)", ["method", "c"])
    assert seen(0, 2) == ("Toy (backbone: x, method: vista)", ["note", "c"])
    assert seen(0) == ("Toy", ["backbone", "method", "note", "c"])


@pytest.mark.parametrize(("show", "read"), READERS)
def test_a_sheet_without_lines_keeps_its_columns(show, read) -> None:
    assert [cell.text for cell in read(show(sheet())).header] == ["run", "c0", "c1"]


def test_terminal_knows_no_markup() -> None:
    made = sheet((Entry("1"),), title="[bold]x[/bold] :smile:", lines=(Line(("[red]",), (Entry("1"),)),))
    assert terminal(made).splitlines() == ["[bold]x[/bold] :smile:", " run    c0", " [red]   1"]


def test_a_broken_text_is_one_line() -> None:
    """An empty line in a caption is an error to LaTeX, a line end in a cell ends a row of Markdown."""
    made = sheet((Entry("1", reasons=("one\n\ntwo",)),), title="a\n\nb", notes=("x\ny",))
    for show, read in READERS:
        assert (read(show(made)).title, read(show(made)).below) == ("a b", ["a: one two", "x y"])


@pytest.mark.parametrize("text", HAZARDS)
@pytest.mark.parametrize(("show", "read"), READERS)
def test_texts_are_not_markup(show, read, text: str) -> None:
    column, line = Column(text, text), Line((text,), (Entry("1", reasons=(text,)),))
    seen = read(show(Sheet("toy", text, (text,), (column,), (line,), (f"Note {text}",))))
    assert (seen.title, [cell.text for cell in seen.header]) == (text, [text, f"{text} [{text}]"])
    assert (seen.rows, seen.below) == ([[Cell(text), Cell("1", ("a",))]], [f"a: {text}", f"Note {text}"])


def test_lines_of_a_csv_file(tmp_path: Path) -> None:
    told = lines(PAPER)
    write(told, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    entries = [(line, nth, one) for line in PAPER.lines for nth, one in enumerate(line.entries) if one is not None]
    assert len(rows) == len(entries) == 11
    for row, (line, nth, entry) in zip(rows, entries, strict=True):
        assert (row["backbone"], row["method"], row["kept"]) == line.label
        assert Column(row["column"], row["unit"]) == PAPER.columns[nth]
        read = Entry(
            row["published"] or None,
            *(float(row[key]) if row[key] else None for key in ("measured", "low", "high", "computed")),
            entry.digits,
            tuple(row["reason"].split("; ")) if row["reason"] else (),
            row["missing"],
        )
        assert read == replace(entry, reasons=(*entry.reasons, *entry.caveats), caveats=())
        assert (float(row["difference"]) if row["difference"] else None) == entry.difference
    assert {value for one in told for value in one.values()}.isdisjoint({""})


TEXTS = st.text("ab1 %_&#${}~^\\<>|*`[]()!\"'-+.:,−≤→ρé", min_size=1, max_size=12).map(
    lambda text: " ".join(text.split())
)
LABELS = TEXTS.filter(bool)
REASONS = TEXTS.map(lambda text: f"For {text}.")
NUMBERS = st.floats(-1e4, 1e4)


@st.composite
def numbers(draw: st.DrawFn, reasons: Sequence[str]) -> tuple[Any, ...] | None:
    """Arguments of an entry."""
    if draw(st.integers(0, 5)) == 0:
        return None
    published = draw(st.none() | st.decimals(-1000, 1000, places=2).map(str) | st.sampled_from(["007", "1e3", "5."]))
    own = (None, None, None)
    if draw(st.booleans()):
        own = (draw(NUMBERS), *draw(st.just((None, None)) | st.tuples(NUMBERS, NUMBERS)))
    computed = draw(st.none() | NUMBERS)
    told = draw(st.lists(st.sampled_from(reasons), max_size=2).map(tuple))
    missing = draw(st.sampled_from(["", *reasons]))
    caveats = draw(st.lists(st.sampled_from(reasons), max_size=1).map(tuple)) if own[0] is not None else ()
    return published, *own, computed, draw(st.integers(0, 3)), told, missing, caveats


@st.composite
def plain(draw: st.DrawFn) -> tuple[Any, ...]:
    """What `built` makes a sheet of: Hypothesis dislikes checks of types that draw lots, where it draws."""
    reasons = draw(st.lists(REASONS, min_size=1, max_size=3, unique=True))
    stubs = draw(st.lists(LABELS, min_size=1, max_size=3))
    columns = draw(st.lists(st.tuples(LABELS, TEXTS), min_size=1, max_size=3))
    line = st.tuples(st.tuples(*(LABELS for _ in stubs)), st.tuples(*(numbers(reasons) for _ in columns)))
    told = draw(st.lists(line, min_size=1, max_size=4))
    return draw(LABELS), tuple(stubs), columns, told, tuple(draw(st.lists(REASONS, max_size=2)))


def built(title: str, stubs: tuple[str, ...], columns: Any, told: Any, notes: tuple[str, ...]) -> Sheet:
    made = (Line(label, tuple(one and Entry(*one) for one in entries)) for label, entries in told)
    return Sheet("toy_1", title, stubs, tuple(Column(*one) for one in columns), tuple(made), notes)


@settings(deadline=None)
@given(plain())
def test_any_sheet_is_the_same_in_every_format(told: tuple[Any, ...]) -> None:
    made = built(*told)
    seen = [read(show(made)) for show, read in READERS]
    assert all(one == other for one, other in pairwise(seen))
    shown = terminal(made).splitlines()
    assert shown[0] == seen[0].title
    assert shown[-len(seen[0].below) :] == seen[0].below or not seen[0].below
    for line, row in zip(shown[1:], [seen[0].header, *seen[0].rows], strict=False):
        cells = [cell.text + (f"[{','.join(cell.marks)}]" if cell.marks else "") for cell in row]
        assert line.split() == " ".join(cells).split()


@settings(deadline=None)
@given(plain())
def test_any_sheet_can_be_read_back(told: tuple[Any, ...]) -> None:
    """From HTML: every number where it belongs, and with it the reasons it has; against the promises of `Entry`."""
    made = built(*told)
    seen = read_xml(html(made))
    entries = [entry for line in made.lines for entry in line.entries if entry is not None]
    kinds = [kind for kind in KINDS if any(getattr(entry, kind) is not None for entry in entries)] or ["published"]
    reasons = dict(one[:1] + one[2:] for one in (text.partition(": ") for text in seen.below) if one[0].islower())
    assert len(set(reasons.values())) == len(reasons)
    once = {entry.missing for entry in entries if entry.computed is None} - {""}
    if "measured" in kinds or len(once) > 1:
        once = set()
    assert once <= set(seen.below)

    wide = len(made.columns)
    groups: list[dict[str, list[Cell]]] = []
    for row in seen.rows:
        labels = {bool(cell.text) for cell in row[: -wide - (len(kinds) > 1)]}
        assert len(labels) == 1, "all or none"
        groups += [{}] if labels == {True} else []
        kind = row[-wide - 1].text if len(kinds) > 1 else kinds[0]
        assert not groups[-1] or KINDS.index(kind) > max(map(KINDS.index, groups[-1]))
        groups[-1][kind] = row[-wide:]
    for line, group in zip(made.lines, groups, strict=True):
        for nth, entry in enumerate(line.entries):
            cells = {kind: row[nth] for kind, row in group.items()}
            if entry is None:
                assert set(cells.values()) == {Cell("")}
                continue
            texts = {kind: cells[kind].text if kind in cells else "–" for kind in KINDS}
            assert texts["published"] == (entry.published or "–")
            shown = {
                "computed": [entry.computed],
                "measured": [entry.measured, *([] if entry.high is None else [entry.low, entry.high])],
                "difference": [],
            }
            own = entry.computed if entry.measured is None else entry.measured
            if entry.published is not None and own is not None and not entry.reasons + entry.caveats:
                shown["difference"] = [own - float(entry.published)]
                assert texts["difference"][0] in "+−"
            for kind, values in shown.items():
                assert says(texts[kind], [value for value in values if value is not None], entry.digits)
            marks = [mark for cell in cells.values() for mark in cell.marks]
            missing = {entry.missing} - once if entry.measured is None else set()
            assert {reasons[mark] for mark in next(iter(cells.values())).marks} >= {*entry.reasons}, (
                "at what is printed"
            )
            if "measured" in cells:
                assert {reasons[mark] for mark in cells["measured"].marks} >= {*entry.caveats, *missing} - {""}
            told = {*entry.reasons, *entry.caveats, *missing} - {""}
            assert {reasons[mark] for mark in marks} == told


@settings(deadline=None)
@given(plain())
def test_no_row_is_empty(told: tuple[Any, ...]) -> None:
    """But of a line that has nothing."""
    made = built(*told)
    seen = read_xml(html(made))
    empty = [row for row in seen.rows if {cell.text for cell in row[-len(made.columns) :]} <= {"", "–"}]
    numbers = [
        [(one.published, one.computed, one.measured) for one in line.entries if one is not None] for line in made.lines
    ]
    assert len(empty) == sum({*line} <= {(None,) * 3} for line in numbers)


def says(text: str, values: Sequence[float], digits: int) -> bool:
    """Whether these are the numbers in `text`, so rounded."""
    found = re.findall(r"[+−]?\d+(?:\.\d+)?", text)
    near = [
        abs(float(one.replace("−", "-")) - value) < 0.50001 * 10**-digits
        for one, value in zip(found, values, strict=False)
    ]
    return len(found) == len(values) and all(near) and all(len(one.partition(".")[2]) == digits for one in found)
