"""What W&B was told, read back from its own file."""

import os
import stat
from pathlib import Path

import pytest
from logger.offline import read
from PIL import Image

from kvtp.logger.base import Sample
from kvtp.logger.wandb import Wandb

CONFIG = {"pruner": {"_target_": "kvtp.pruner.tome.Tome"}, "retention_ratio": 0.2, "seed": 0}
SUMMARY = {"accuracy": 61.5, "flops/thop_ratio": 0.36, "outcome/wrong": 5, "valid": True}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No key, no network that answers, a home that cannot be written."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(stat.S_IREAD | stat.S_IEXEC)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):  # set and taken back, so that what the logger sets goes, too
        monkeypatch.setenv(f"WANDB_{name}_DIR", "x")
        monkeypatch.delenv(f"WANDB_{name}_DIR")
    return tmp_path / "run"


def logger(folder: Path, **changed) -> Wandb:
    told = {"project": "toys", "entity": None, "mode": "auto", "timeout": 60.0, "config": CONFIG, "folder": folder}
    return Wandb(**(told | {"name": "tome+budget=x_tiny", "group": "tiny shapes", "tags": ["tome"]} | changed))


def test_a_run_is_read_back(bare: Path) -> None:
    bare.mkdir()
    picture = bare / "q1.png"
    Image.new("RGB", (8, 4), "red").save(picture)
    mirror = logger(bare)
    for step in (1, 2, 3):
        mirror.log_metrics({"running/accuracy": 10.0 * step}, step)
    sample = Sample("q1", "What colour?", ("red", "blue"), "A", "B", "wrong", 7)
    mirror.conclude(SUMMARY, [(sample, picture)])
    mirror.close()
    told = read(bare)
    assert (told["name"], told["group"], told["tags"], told["project"]) == (
        "tome+budget=x_tiny",
        "tiny shapes",
        ["tome"],
        "toys",
    )
    assert {key: told["config"][key] for key in CONFIG} == CONFIG
    running = [row["running/accuracy"] for row in told["history"] if "running/accuracy" in row]
    assert running == [10.0, 20.0, 30.0]
    assert {key: told["summary"][key] for key in SUMMARY} == SUMMARY
    (table,) = told["tables"]
    row = dict(zip(table["columns"], table["data"][0], strict=True))
    shown = row.pop("kept")
    assert row == {
        "question_id": "q1",
        "question": "What colour?",
        "options": "red\nblue",
        "answer": "A",
        "reply": "B",
        "outcome": "wrong",
        "tokens": 7,
    }
    assert shown == "Image"  # in the file; the picture itself travels in the table's artifact
    kept = [
        file for file in (bare / "wandb").rglob("*") if file.is_file() and file.read_bytes() == picture.read_bytes()
    ]
    assert kept
    assert not mirror.broken
    assert not list((bare.parent / "home").iterdir())


def test_two_runs_in_one_process_are_two(bare: Path) -> None:
    one, other = logger(bare / "one", name="one"), logger(bare / "other", name="other")
    one.log_metrics({"running/accuracy": 1.0}, 1)
    other.log_metrics({"running/accuracy": 2.0}, 1)
    for mirror, reached in ((one, 1.0), (other, 2.0)):
        mirror.conclude({"accuracy": reached}, [])
        mirror.close()
    assert [read(bare / name)["summary"]["accuracy"] for name in ("one", "other")] == [1.0, 2.0]


def test_whatever_goes_wrong_is_said_once_and_harms_nothing(bare: Path, caplog: pytest.LogCaptureFixture) -> None:
    bare.parent.mkdir(exist_ok=True)
    bare.write_text("a file where the folder should be")
    mirror = logger(bare)
    mirror.log_metrics({"running/accuracy": 1.0}, 1)
    mirror.log_metrics({"running/accuracy": 2.0}, 2)
    mirror.conclude(SUMMARY, [])
    assert mirror.broken
    assert caplog.text.count("W&B fails and is left out from here on") == 1


def test_without_an_answer_from_the_server_it_is_offline(
    bare: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    mirror = logger(bare, timeout=2.0)
    mirror.conclude({"accuracy": 3.0}, [])
    mirror.close()
    monkeypatch.setattr(Wandb, "unreachable", False)
    assert "cannot be reached" in caplog.text
    assert read(bare)["summary"]["accuracy"] == 3.0
