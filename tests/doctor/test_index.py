"""Labels of relevance beside the questions that they are of."""

import json
from pathlib import Path
from typing import Any

import pytest
from sick import errors, section

from kvtp.command import groups
from kvtp.config import Row
from kvtp.doctor.examine import examine
from kvtp.doctor.finding import Finding
from kvtp.miniature.base import miniature


@pytest.fixture
def whole(healthy: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (miniature("sparsekv_qa", healthy) / "index.jsonl").read_text().splitlines()]


def examined(
    rows: list[dict[str, Any]], healthy: Path, root: Path, questions: str = "miniature", option: str = "sparsekv_qa"
) -> list[Finding]:
    """What is told of an index of these rows in `root`, over the option's set in `questions`."""
    (root / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = section(option, root=str(root), miniatures=str(healthy))
    config["source"] |= {"root": questions, "miniatures": str(healthy)}
    shared: dict[str, Any] = {"benchmark": config, "frames": {"workers": 1, "timeout": 60.0}}
    told = examine(Row("one", "one", root, {"benchmark": option}, (), shared), False)
    assert told is not None
    return errors(told.findings)


@pytest.mark.parametrize("option", [name for name in groups()["benchmark"] if name.startswith("sparsekv_qa")])
def test_a_whole_index(option: str, whole: list[dict[str, Any]], healthy: Path, tmp_path: Path) -> None:
    assert examined(whole, healthy, tmp_path, option=option) == []


def test_every_row_that_breaks_a_rule_is_told(whole: list[dict[str, Any]], healthy: Path, tmp_path: Path) -> None:
    """Two faults; and they are told, too, where the questions are not in order."""
    whole[1]["scores"][0] = 7
    del whole[4]["split"]
    found = examined(whole, healthy, tmp_path)
    assert [one.kind for one in found] == ["index", "index"]
    assert all(one.file == str(tmp_path / "index.jsonl") for one in found)
    assert "row 1" in found[0].what
    assert "row 4: field split: missing" in found[1].what
    empty = tmp_path / "empty"
    empty.mkdir()
    kinds = [one.kind for one in examined(whole, healthy, tmp_path, str(empty))]
    assert kinds.count("index") == 2
    assert len(kinds) > 2


def test_a_label_of_no_question(whole: list[dict[str, Any]], healthy: Path, tmp_path: Path) -> None:
    row = next(row for row in whole if (row["dataset"], row["split"]) == ("videomme", "test"))
    row["question_id"] = "nobody's"
    (only,) = examined(whole, healthy, tmp_path)
    assert "nobody's" in only.what
