"""What W&B was told, read back from its own file."""

import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from logger.offline import read
from logger.wandb_server import Entry, Server
from PIL import Image

from kvtp.logger.base import Sample
from kvtp.logger.wandb import Wandb

CONFIG = {"pruner": {"_target_": "kvtp.pruner.tome.Tome"}, "retention_ratio": 0.2, "seed": 0}
SUMMARY = {"accuracy": 61.5, "flops/thop_ratio": 0.36, "outcome/wrong": 5, "valid": True}


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
    assert "cannot be reached" in caplog.text
    assert read(bare)["summary"]["accuracy"] == 3.0


KEPT = (
    *("predictions.jsonl", "summary.json", "samples/0003.json", "samples/0003.png"),
    *(f".hydra/{name}" for name in ("config.yaml", "overrides.yaml", "questions", "weights", "parser", "videos")),
    *(".hydra/accounting", ".hydra/sessions.0.jsonl", ".hydra/sessions.11.jsonl"),
)
LEFT = (
    "predictions.0.jsonl",
    "metrics.csv",
    ".lock",
    ".hydra/hydra.yaml",
    "samples/0003.json.new",
    "judged/summary.json",
)


def ended(folder: Path) -> dict[str, bytes]:
    """Of a run's folder what shall be kept; there is more in it."""
    for name in (*KEPT, *LEFT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"{name}\n".encode() + b"\xff\0")
    return {name: (folder / name).read_bytes() for name in KEPT}


def unpacked(run: Entry) -> dict[str, bytes]:
    with ZipFile(BytesIO(run.files["run.zip"])) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_files_that_make_a_run_whole_wait_offline_and_are_sent(bare: Path, server: Server) -> None:
    """By W&B's own command, from wherever the folder was moved to, as they were when the run ended."""
    folder = bare.with_name("[a] run*")
    files = ended(folder)
    mirror = logger(folder, mode="offline")
    mirror.conclude(SUMMARY, [])
    mirror.close()
    assert not mirror.broken
    read(folder)  # waits for its end
    (kept,) = (folder / "wandb").glob("offline-run-*")
    for name in files:
        (folder / name).write_text("another run by now")
    moved = bare.with_name("elsewhere") / kept.name
    moved.parent.mkdir()
    shutil.move(kept, moved)
    assert not [path for path in moved.rglob("*") if path.name in ("summary.json", "predictions.jsonl")]
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(moved)], check=True, timeout=60, capture_output=True)
    (run,) = server.runs.values()
    assert (run.name, run.state) == ("tome+budget=x_tiny", "finished")
    assert unpacked(run) == files
    assert not run.files.keys() & {*KEPT, *LEFT}


def test_what_is_not_taken_in_time_is_said(bare: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """And can be sent by the command that the message names."""
    files = ended(bare)
    mirror = logger(bare, mode="online", entity="me", timeout=5.0)
    mirror.log_metrics({"running/accuracy": 1.0})
    server.stalls = True
    mirror.conclude(SUMMARY, [])
    mirror.close()
    (run,) = server.runs.values()
    assert run.state == "running"
    server.stalls = False
    words = caplog.messages[-1].partition("; `")[2].partition("`")[0].split()
    subprocess.run([sys.executable, "-m", *words], check=True, timeout=60, capture_output=True)
    assert (run.state, unpacked(run)) == ("finished", files)
