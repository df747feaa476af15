"""A run's folder under kills, torn lines and rivals."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kvtp.command import CommandError
from kvtp.store import Store, write_whole
from kvtp.types import Prediction, Question

ROW = Prediction(
    question_id="a",
    method="none",
    outcome="correct",
    score=1.0,
    text="B\n\u2028\udcff",  # a line end, and a byte of a file name that is not UTF-8
    choice="B",
    answer="B",
    groups={"kind": "x"},
    cluster="film",
    tokens_per_layer={"visual": (4, 2), "newline": (1, 1), "text": (7, 7)},
    timings_ms={"decode": 1.5},
)
FAILED = replace(ROW, outcome="model_error", score=None, text="RuntimeError: B", choice=None, tokens_per_layer=None)


def write(store: Store, rank: int, *rows: Prediction) -> None:
    file = store.append_to(rank)
    for row in rows:
        file.append(row)
    file.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, 0, ROW)
    write(store, 1, replace(FAILED, question_id="b"))
    assert store.read() == {"a": ROW, "b": replace(FAILED, question_id="b")}
    assert store.merge(["b", "a"]) == [replace(FAILED, question_id="b"), ROW]
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["question_id"] for line in lines] == ["b", "a"]


def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    """Every byte at which a kill may tear the file; then the run goes on in it."""
    store = Store(tmp_path)
    rows = [replace(ROW, question_id=name) for name in "abc"]
    write(store, 0, *rows)
    path = tmp_path / "predictions.0.jsonl"
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        kept = whole[:end].count(b"\n")
        assert list(store.read().values()) == rows[:kept]
        write(store, 0, *rows[kept:])
        assert path.read_bytes() == whole


def test_errors_give_way_and_nothing_else_does(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, 1, FAILED)
    write(store, 0, ROW)
    write(store, 1, replace(FAILED, question_id="b"), replace(FAILED, question_id="b", text="later"))
    assert store.read()["a"] == ROW  # though file 1 was written after file 0
    assert store.read()["b"].text == "later"


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, 0, ROW)
    with (tmp_path / "predictions.0.jsonl").open("a") as file:
        file.write('{"question_id": "b"}\n')
    with pytest.raises(CommandError, match=r"predictions.0.jsonl:2 is no prediction"):
        store.read()


def test_files_are_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def dies(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_other_questions_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    question = Question("a", "here/film.mp4", "Who?", ("x", "y"), "A")
    store.describe({"seed": 0}, ["seed=0"], [question])
    store.describe({"seed": 0}, ["seed=0"], [replace(question, video="elsewhere/film.mp4")])
    with pytest.raises(CommandError, match="the questions are not those"):
        store.describe({"seed": 0}, ["seed=0"], [replace(question, answer="B")])
    assert (tmp_path / ".hydra" / "config.yaml").read_text() == "seed: 0\n"


def test_one_writer_and_no_stale_lock(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    code = (
        f"import filelock, time; lock = filelock.FileLock({path!r}); lock.acquire(); print(flush=True); time.sleep(99)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    store = Store(tmp_path)
    with pytest.raises(CommandError, match="is being written by another run"):
        store.lock(wait=False)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    store.lock(wait=False)
    with pytest.raises(CommandError, match="is being written by another run"):
        Store(tmp_path).lock(wait=False)
    store.unlock()
    Store(tmp_path).lock(wait=False)
