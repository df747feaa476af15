"""A table that any program opens."""

import csv
from pathlib import Path

from kvtp.logger.csv import Csv


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as page:
        return list(csv.DictReader(page))


def test_columns_come_as_they_are_told_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    first = Csv(tmp_path, "run", "group", [], {})
    first.log_metrics({"running/accuracy": 50.0}, 1)
    first.log_metrics({"running/accuracy": 25.0, "running/errors": 1}, 2)
    again = Csv(tmp_path, "run", "group", [], {})
    again.log_metrics({"running/accuracy": 30.0}, 3)
    again.conclude({"accuracy": 61.5, "parser": "letters", "valid": True}, [])
    found = lines(tmp_path)
    assert [row["step"] for row in found] == ["1", "2", "3", ""]
    assert [row["running/accuracy"] for row in found] == ["50.0", "25.0", "30.0", ""]
    assert [row["running/errors"] for row in found] == ["", "1.0", "", ""]
    assert (found[-1]["accuracy"], found[-1]["valid"]) == ("61.5", "1.0")
    assert "parser" not in found[0]
