"""A training's journal outlives kills."""

import json

import pytest

from kvtp.command import CommandError
from kvtp.journal import Journal
from kvtp.report.curves import curves


def test_a_resumed_training_goes_on_where_it_was_saved(tmp_path) -> None:
    first = Journal(tmp_path, every=0, steps=9)
    for step in range(6):
        first.log_metrics({"train/loss": 1.0 / (step + 1), "epoch": 0}, step)
    with first.path.open("a") as file:
        file.write('{"step": 6, "train/lo')  # a kill tears the last line
    again = Journal(tmp_path, every=0, steps=9)
    assert [row["step"] for row in again.rows()] == [0, 1, 2, 3, 4, 5]
    again.log_metrics({"train/loss": 9.0}, 4)  # saved after step 3
    again.log_metrics({"val/loss": 8.0}, 4)
    rows = [json.loads(line) for line in again.path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 4]
    assert rows[-2:] == [{"step": 4, "train/loss": 9.0}, {"step": 4, "val/loss": 8.0}]
    assert "epoch" not in rows[0]


def test_curves_have_a_panel_per_metric_with_all_its_points() -> None:
    rows = [{"step": 0, "train/loss": 3.0}, {"step": 10, "train/loss": 2.0}, {"step": 10, "val/loss": 2.5}]
    panels = [panel for panel in curves(rows).axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["train/loss", "val/loss"]
    assert panels[0].lines[0].get_xydata().tolist() == [[0, 3.0], [10, 2.0]]


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path) -> None:
    with pytest.raises(CommandError, match=r"train/loss is nan at step 7; a lower module.lr may help"):
        Journal(tmp_path, every=0, steps=9).log_metrics({"train/loss": float("nan")}, 7)


def test_it_knows_what_was_validated(tmp_path) -> None:
    journal = Journal(tmp_path, every=0, steps=8)
    journal.log_metrics({"val/loss": 1.0}, 3)  # after four steps
    journal.log_metrics({"train/loss": 1.0}, 7)
    assert journal.validated(4)
    assert not journal.validated(8)
