"""The page stands alone, says what the tables say, and trusts no text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from report.test_comparison import RUNS

from kvtp.logger.base import Sample
from kvtp.report.comparison import accuracies, pairs
from kvtp.report.page import page

FLOPS = {
    key: 1e9 * nth
    for nth, key in enumerate(
        ("vision", "predictor", "selection", "prefill", "prefill_causal", "decode", "thop", "full_thop"), 1
    )
} | {"full_prefill": 8e9, "full_prefill_causal": 8e9, "cues": 0.0, "fastv": 1.0, "full_fastv": 4.0}
FLOPS |= {"kvtp": 1.0, "full_kvtp": 2.0, "rows": 3.0, "full_rows": 12.0}
MEMORY = {"kv_cache": 2.0**20, "full_kv_cache": 2.0**22}


class Cells(HTMLParser):
    """Rows of the page's tables, and every attribute that may fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.fetched: list[str] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert tag not in ("script", "link", "iframe")
        if tag == "tr":
            self.rows.append([])
        self.open = tag in ("td", "th")
        if self.open:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = False


@pytest.fixture
def made(tmp_path: Path) -> str:
    picture = tmp_path / "q.png"
    Image.new("RGB", (4, 4)).save(picture)
    sample = Sample("0", "What <b>?", ("red & blue", "<script>alert(1)</script>"), "A", "<img src=x>", "wrong", 3)
    runs = [
        (row, [one if one.outcome == "refused" else replace(one, flops=FLOPS, memory=MEMORY) for one in told], [])
        for row, told in RUNS
    ]
    runs[1] = (*runs[1][:2], [(sample, picture)])
    plain = [(row, told) for row, told, _ in runs]
    return page("toys", runs, accuracies(plain), pairs(plain), "<svg id='sweep'></svg>")


def test_it_fetches_nothing(made: str) -> None:
    cells = Cells()
    cells.feed(made)
    assert cells.fetched
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in cells.fetched)
    assert not re.search(r"url\((?!#)", made)


def test_it_says_what_the_tables_say(made: str) -> None:
    cells = Cells()
    cells.feed(made)
    rows = {tuple(row[:2]): row for row in cells.rows if len(row) == 13}
    tome = rows["tome", "0.2"]
    assert tome[2:4] == ["6.0", "50.0"]
    assert tome[5:9] == [
        f"{(1 + 4) / (1 + 8):.3f}",
        f"{(1 + 4 + 2 + 3) / (1 + 8):.3f}",
        f"{(1 + 5) / 9:.3f}",
        f"{7 / 8:.3f}",
    ]
    assert tome[-1] == "1.00"
    assert rows["tome", "0.1"][2:6] == ["–", "–", "– – –", "–"], "refused"
    (pair,) = [row for row in cells.rows if row[:2] == ["none all", "tome 0.2"]]
    assert (pair[3], pair[-2:]) == ("-25.0", ["0", "1"])
    outcomes = [row for row in cells.rows if row[2:] == ["2", "2", "0"]]
    assert [row[0] for row in outcomes] == ["tome"]


def test_it_trusts_no_text(made: str) -> None:
    for text in ("<script>", "<img src=x>", "What <b>?"):
        assert text not in made
    assert "red &amp; blue" in made


def test_it_holds_the_picture_of_a_sweep(made: str) -> None:
    assert "<svg id='sweep'></svg>" in made


def test_worlds_are_told_apart(tmp_path: Path) -> None:
    """One question number in two of them is two questions."""
    picture = tmp_path / "q.png"
    Image.new("RGB", (4, 4)).save(picture)
    runs = []
    for stay in (1, 3):
        row, told = RUNS[1]
        config = {**row.config, "benchmark": {"stay": stay}}
        row = replace(row, run_id=f"tome_{stay}", config=config, overrides=(f"benchmark.stay={stay}",))
        sample = Sample("0", f"In world {stay}?", None, "A", "A", "correct", 3)
        runs.append((row, [replace(one, flops=FLOPS, memory=MEMORY) for one in told], [(sample, picture)]))
    plain = [(row, told) for row, told, _ in runs]
    made = page("toys", runs, accuracies(plain), pairs(plain), "")
    for stay in (1, 3):
        assert made.count(f"<h2>tiny on toys, benchmark.stay={stay}</h2>") == 1
        assert made.count(f"<h3>In world {stay}?</h3>") == 1
        assert f"<td>tome (benchmark.stay={stay})</td>" in made
