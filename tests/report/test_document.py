"""A document keeps all that is not between the marks, byte for byte: the expected files are put together here."""

from pathlib import Path

import pytest

from kvtp.command import CommandError
from kvtp.report.document import insert

BEFORE, AFTER = (
    b"# T\xc3\xaftle  \n\n<!-- other -->\nstays\n<!-- /other -->\n\n",
    b"\n\\1 and \\g<0> \t\nno newline at the end",
)
TEXT = "### Made\n\n| a |\n|---|\n| 1 |"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_bytes(BEFORE + b"<!-- made -->\nold\nlines\n<!-- /made -->" + AFTER)
    return path


def test_what_is_between_the_marks_is_replaced_and_nothing_else(document: Path) -> None:
    insert(document, "made", f"\n{TEXT}\n\n")
    assert document.read_bytes() == BEFORE + f"<!-- made -->\n{TEXT}\n<!-- /made -->".encode() + AFTER


def test_a_second_time_changes_nothing(document: Path) -> None:
    insert(document, "made", TEXT)
    once = document.read_bytes()
    insert(document, "made", TEXT)
    assert document.read_bytes() == once
    insert(document, "made", "")
    insert(document, "made", TEXT)
    assert document.read_bytes() == once


@pytest.mark.parametrize("text", [r"a\_b \1 \g<name> \\ \n", "$x^{2}$ (a|b) [c]* é –"])
def test_text_is_put_as_it_is(document: Path, text: str) -> None:
    """Backslashes are no references to groups, and signs no pattern."""
    insert(document, "made", text)
    assert document.read_bytes() == BEFORE + f"<!-- made -->\n{text}\n<!-- /made -->".encode() + AFTER


def test_signs_of_a_pattern_in_a_name_are_signs(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("<!-- aXb -->\n<!-- /aXb -->\n<!-- a.b -->\n<!-- /a.b -->\n")
    insert(path, "a.b", "new")
    assert path.read_text() == "<!-- aXb -->\n<!-- /aXb -->\n<!-- a.b -->\nnew\n<!-- /a.b -->\n"


def test_windows_lines_stay(tmp_path: Path) -> None:
    """And those between the marks end as the others do."""
    path = tmp_path / "a.md"
    path.write_bytes(b"one\r\n<!-- made -->\r\nold\r\n<!-- /made -->\r\ntwo\r\n")
    insert(path, "made", "x\ny")
    assert path.read_bytes() == b"one\r\n<!-- made -->\r\nx\r\ny\r\n<!-- /made -->\r\ntwo\r\n"


PAIR = "<!-- made -->\nold\n<!-- /made -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "nothing of it\n",
        "<!-- made -->\nbegun\n",
        "ended\n<!-- /made -->\n",
        "<!-- /made -->\nturned round\n<!-- made -->\n",
        PAIR + PAIR,
        f"<!-- made -->\nan end was forgotten, and all this would be lost\n{PAIR}",
        f"{PAIR}and an end too many\n<!-- /made -->\n",
        "it may stand within a line: <!-- made --> old <!-- /made -->\n",
        PAIR.replace("made", "mademore"),
    ],
    ids=["none", "begun", "ended", "turned", "two", "two begin", "two end", "within a line", "another"],
)
def test_without_exactly_one_pair_the_file_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.md"
    path.write_text(text)
    with pytest.raises(
        CommandError, match=r"a\.md must have one line <!-- made --> and below it one <!-- /made -->; add"
    ):
        insert(path, "made", "new")
    assert path.read_text() == text


def test_a_document_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"none\.md is no file; give a document that has the lines <!-- made --> and <!-- /made -->"
    ):
        insert(tmp_path / "none.md", "made", "new")
    assert not list(tmp_path.iterdir())
