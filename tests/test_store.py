"""A run's folder under kills, torn lines and rivals."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kvtp.command import CommandError
from kvtp.store import Store, write_whole
from kvtp.types import Prediction, Question, VideoRef

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
        file.append(asdict(row))
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


@pytest.mark.parametrize(
    "line",
    [
        *('{"question_id": "b"}', "null", "5", "[]", '"b"', "{", "\udcff"),
        json.dumps(asdict(ROW) | {"outcome": "perfect"}),
        json.dumps(asdict(ROW) | {"tokens_per_layer": [1]}),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    store = Store(tmp_path)
    write(store, 0, ROW)
    with (tmp_path / "predictions.0.jsonl").open("a", errors="surrogateescape") as file:
        file.write(line + "\n")
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
    """Of other weights as well; where nothing is predicted yet there is nothing to refuse."""
    store = Store(tmp_path)
    asked = [
        Question("a", "here/videos/film.mp4", "Who?", ("x", "y"), "A", {"kind": "x"}),
        Question("b", VideoRef("here/videos/more/film.mp4", 1, 2), "Who?", cluster="film"),
    ]
    moved = [
        replace(asked[0], video="elsewhere/film.mp4"),
        replace(asked[1], video=VideoRef("elsewhere/more/film.mp4", 1, 2)),
    ]
    store.describe({"seed": 1}, ["seed=1"], asked[:1], "w", "p", "i", "1")
    store.describe({"seed": 0}, ["seed=0"], asked, "w", "p", "i", "1")
    write(store, 0, ROW)
    store.describe({"seed": 0, "device": "other"}, [], moved, "w", "p", "i", "1")
    assert (tmp_path / ".hydra" / "config.yaml").read_text() == "seed: 0\n"  # the first session's
    assert (tmp_path / ".hydra" / "overrides.yaml").read_text() == "- seed=0\n"
    for place, change in (
        (0, {"answer": "B"}),
        (0, {"video": "here/videos/other.mp4"}),
        (0, {"groups": {"kind": "y"}}),
        (0, {"cluster": "film"}),
        (1, {"video": VideoRef("here/videos/film.mp4", 1, 2)}),
        (1, {"video": VideoRef("here/videos/more/film.mp4", 1, 3)}),
        (1, {"debiased": "Who is it?"}),
    ):
        changed = [replace(row, **change) if number == place else row for number, row in enumerate(asked)]
        with pytest.raises(CommandError, match=r"made with other questions: .* move that folder away"):
            store.describe({"seed": 0}, [], changed, "w", "p", "i", "1")
    with pytest.raises(CommandError, match=r"made with other weights: .* move that folder away"):
        store.describe({"seed": 0}, [], asked, "v", "p", "i", "1")
    with pytest.raises(CommandError, match="made with other videos"):
        store.describe({"seed": 0}, [], asked, "w", "p", "j", "1")
    with pytest.raises(CommandError, match="made with another parser"):
        store.describe({"seed": 0}, [], asked, "w", "q", "i", "1")
    (tmp_path / ".hydra" / "weights").unlink()
    with pytest.raises(CommandError, match="made with other weights"):
        store.describe({"seed": 0}, [], asked, "w", "p", "i", "1")


def test_sessions_are_appended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.describe({}, [], [], "w", "p", "i", "1")
    assert store.sessions() == []
    store.begin(1, {"versions": {"kvtp": "1"}})
    store.begin(0, {"versions": {"kvtp": "2"}})
    store.begin(0, {"versions": {"kvtp": "3"}})
    assert [one["versions"]["kvtp"] for one in store.sessions()] == ["2", "3", "1"]


def test_one_writer_and_no_stale_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    rival = Store(tmp_path)
    with pytest.raises(CommandError, match="is being written by another run"):
        rival.lock(wait=False)
    caplog.set_level("INFO")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(rival.lock, True)
        while "waiting for the run that writes" not in caplog.text:
            assert not waits.done()
        store.unlock()
        waits.result(timeout=10)
