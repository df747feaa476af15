"""Runs brought back by W&B's own client from a server of our own; what a folder says is read by kvtp.store, before and
after."""

import io
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest
from logger.wandb_server import Server
from PIL import Image

from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.logger import pull as module
from kvtp.logger.base import Sample
from kvtp.logger.pull import pull
from kvtp.logger.wandb import Wandb
from kvtp.store import Store
from kvtp.types import Prediction

PROJECT = "me/toys"
RUN = "tome+budget=x_tiny_shapes_0.2_0a1b"
OTHER = "none_tiny_shapes_1_0a1b"
ANSWERED = Prediction(
    "a", "tome", "correct", 1.0, "B", "B", "B", {"kind": "x"}, "film", {"visual": (4, 2)}, {"cut": 1.5}
)
TOLD = Sample("a", "What colour?", ("red", "blue"), "B", "B", "correct", 7)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 3)


def row(run_id: str) -> Row:
    return Row("name", run_id, Path("nowhere"), {}, (), {})


def written(folder: Path, run_id: str = RUN, text: str = "B\n\u2028") -> dict[str, bytes]:
    """A finished run of two questions, by kvtp.store; what is in its folder."""
    store = Store(folder)
    (folder / ".hydra").mkdir(parents=True)
    store.describe({"seed": 0}, ["seed=0"], [], "", "letters", "1", "2")
    store.begin(0, {"versions": {"kvtp": "0"}})
    file = store.append_to(0)
    for name in "ab":
        file.append(asdict(replace(ANSWERED, question_id=name, text=text)))
    file.close()
    store.merge(["b", "a"])
    store.sample(TOLD, Image.new("RGB", (8, 4), "red"), 3)
    store.summary({"run_id": run_id, "questions": 2, "accuracy": 100.0})
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """As the server has them; the same for the same."""
    whole = io.BytesIO()
    with ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(ZipInfo(name), content)
    return {"run.zip": whole.getvalue()}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return written(tmp_path / "local")


def inside(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_logged_is_what_is_pulled(bare: Path, server: Server) -> None:
    """The logger and the way back meet in nothing but the server; a second time it is not asked."""
    here = written(bare)
    mirror = Wandb("toys", "me", "online", 30.0, bare, RUN, "group", [], {})
    mirror.conclude({"accuracy": 100.0}, Store(bare).samples())
    mirror.close()
    assert not mirror.broken
    into = bare.parent / "pulled"
    assert pull([row(RUN), row(OTHER)], PROJECT, into) == {RUN: into / RUN}
    own = {"predictions.0.jsonl"}
    assert inside(into) == {f"{RUN}/{name}": content for name, content in here.items() if name not in own}
    before, after = Store(bare), Store(into / RUN)
    assert [one.question_id for one in after.finished() or ()] == ["b", "a"]
    assert (after.finished(), after.told(), after.sessions()) == (before.finished(), before.told(), before.sessions())
    ((told, picture),) = after.samples()
    assert (told, Image.open(picture).getpixel((0, 0))) == (TOLD, (255, 0, 0))
    assert stat.S_IMODE((into / RUN).stat().st_mode) == stat.S_IMODE(into.stat().st_mode)
    server.asked.clear()
    assert pull([row(RUN)], PROJECT, into) == {RUN: into / RUN}
    assert not server.asked


def test_the_newest_that_is_finished_and_has_its_archive_comes(
    server: Server, files: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all rows in one question, however many pages its answer has."""
    newer = written(tmp_path / "newer", text="newer")
    server.add(RUN, packed(files))
    server.add(RUN, packed(newer))
    server.add("another", packed(files))
    server.add(OTHER, packed(written(tmp_path / "other", OTHER)))
    server.add(RUN, {"summary.json": b"{}", "config.yaml": b"W&B's own"})
    for _ in range(60):
        server.add(RUN, packed(files), "crashed")
    found = pull([row(RUN), row("absent"), row(OTHER), row(RUN)], PROJECT, tmp_path / "into")
    assert found == {name: tmp_path / "into" / name for name in (RUN, OTHER)}
    assert {row.text for row in Store(found[RUN]).finished() or ()} == {"newer"}
    listings = 1 + 2  # of the one without, and of the two that come
    assert [word for word in server.asked if word[0] in "RV"] == ["Viewer", "Runs", "Runs", *["RunFiles"] * listings]
    assert not [line for line in caplog.messages if "W&B's" in line]


def test_what_cannot_come_is_named(
    server: Server, files: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("old", "older"):
        server.add(name, {"config.yaml": b"", "wandb-summary.json": b"{}"})
    server.add("half", {"run.zip.new": b""})
    server.add("now", packed(files), "running")
    into = tmp_path / "into"
    assert pull([row(name) for name in ("old", "older", "half", "now", "absent")], PROJECT, into) == {}
    assert [line.partition(":")[0] for line in caplog.messages if PROJECT in line] == [
        f"old, older, half in W&B's {PROJECT}",
        f"now in W&B's {PROJECT}",
    ]
    assert "run.zip" in caplog.text
    assert not into.exists()


def spoilt(files: Mapping[str, bytes]) -> bytes:
    """Bytes of its predictions are others."""
    (whole,) = packed(files).values()
    return whole.replace(b'"question_id"', b'"question_ie"')


def _cut(files: dict[str, bytes], name: str, bytes_: int) -> None:
    files[name] = files[name][:bytes_]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda server, files: server.short.update({"run.zip": 50}), "unexpected EOF"),
        (lambda server, files: server.instead.update({"run.zip": b"<html>"}), "not a zip file"),
        (lambda server, files: server.instead.update({"run.zip": spoilt(files)}), "Bad CRC-32 for file"),
        (lambda server, files: server.gone.add("run.zip"), "404"),
        (lambda server, files: files.pop("predictions.jsonl"), "No such file"),
        (lambda server, files: files.pop("summary.json"), "No such file"),
        (lambda server, files: _cut(files, "predictions.jsonl", -1), "1 of 2 predictions"),
        (lambda server, files: files.update({"predictions.jsonl": b'{"x": 1}\n{}\n'}), "1 is no prediction"),
        (lambda server, files: files.update({"summary.json": b'{"run'}), "Unterminated string"),
        (lambda server, files: files.update({"summary.json": b"{}"}), "questions"),
        (lambda server, files: files.update({"samples/0003.json": b'{"options": null}'}), "missing (6|a) required"),
        (lambda server, files: files.pop("samples/0003.png"), "samples/0003.png is not there"),
        (
            lambda server, files: files.update({"summary.json": b'{"run_id": "x", "questions": 2}'}),
            "it is x by its summary",
        ),
    ],
)
def test_a_run_comes_whole_or_not_at_all(
    harm, said: str, server: Server, files: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And no other suffers; alone it is an error of one line."""
    into = tmp_path / "into"
    harm(server, files)
    server.add(RUN, packed(files))
    with pytest.raises(CommandError, match=rf"^{re.escape(RUN)} does not come whole from W&B's {PROJECT} .*{said}.*$"):
        pull([row(RUN)], PROJECT, into)
    assert not list(into.iterdir())
    server.short, server.gone, server.instead = {}, set(), {}
    if server.runs["id0"].files == packed(written(tmp_path / "again")):
        assert pull([row(RUN)], PROJECT, into) == {RUN: into / RUN}, "harmed on its way only"
        return
    server.add(OTHER, packed(written(tmp_path / "other", OTHER)))
    assert pull([row(RUN), row(OTHER)], PROJECT, into) == {OTHER: into / OTHER}
    assert os.listdir(into) == [OTHER]
    assert sum(f"{RUN} does not come whole" in line for line in caplog.messages) == 1


def test_a_folder_that_came_to_harm_here_is_named(
    server: Server, files: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.add(RUN, packed(files))
    server.add(OTHER, packed(written(tmp_path / "other", OTHER)))
    into = tmp_path / "into"
    found = pull([row(RUN), row(OTHER)], PROJECT, into)
    (found[RUN] / "predictions.jsonl").unlink()
    assert pull([row(RUN), row(OTHER)], PROJECT, into) == {OTHER: into / OTHER}
    assert f"{into / RUN} is no whole run" in caplog.messages[-1]
    assert "remove it" in caplog.messages[-1]


def test_no_name_in_an_archive_leads_out_of_the_folder(server: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    names = ("../x", "/x", "samples/../../x.png", ".hydra/..", "samples/a/../../../x.png", "..\\x", "samples/..\\x.png")
    server.add(RUN, packed(files | dict.fromkeys(names, b"x")))
    into = tmp_path / "deep" / "into"
    pull([row(RUN)], PROJECT, into)
    came = {name for name in files if name != "predictions.0.jsonl"}
    assert set(inside(tmp_path / "deep")) == {f"into/{RUN}/{name}" for name in came}


@pytest.mark.parametrize("path", ["toys", "me/toys/x", "me/", "https://wandb.ai/me/toys", ""])
def test_a_path_that_is_none_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"must be <entity>/<project>"):
        pull([row(RUN)], path, tmp_path)


def test_without_a_key_a_project_or_an_answer_nothing_comes(
    server: Server, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in one line that names the way out."""
    server.add(RUN, packed(files))

    def refused(path: str = PROJECT) -> str:
        with pytest.raises(CommandError) as caught:
            pull([row(RUN)], path, tmp_path / "into")
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"pull={path!r}")
        assert "`wandb login`" in line
        return line

    assert "no such project" in refused("me/others")
    server.shut = 401
    assert "Failed to verify credentials" in refused()
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    assert "does not answer" in refused()
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert "API key must have 40+ characters" in refused()
    monkeypatch.delenv("WANDB_API_KEY")
    assert "none is known here" in refused()
    assert not (tmp_path / "into").exists()


def test_what_has_come_stays_when_the_network_goes(
    server: Server, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(OTHER, packed(written(tmp_path / "other", OTHER)))
    server.add(RUN, packed(files))
    fetch = module._fetch

    def last(*given) -> None:
        fetch(*given)
        server.shut = 403

    monkeypatch.setattr(module, "_fetch", last)
    with pytest.raises(CommandError, match="what has come stays"):
        pull([row(RUN), row(OTHER)], PROJECT, tmp_path / "into")
    server.shut = None
    (came,) = os.listdir(tmp_path / "into")
    server.asked.clear()
    assert len(pull([row(RUN), row(OTHER)], PROJECT, tmp_path / "into")) == 2
    assert json.loads((tmp_path / "into" / came / "summary.json").read_text())["run_id"] == came
    assert server.asked.count("run.zip") == 1
