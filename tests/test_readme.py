"""The README's commands do what a newcomer expects of them."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from clips import make_clip
from shell import Shell, ask


def commands(project_root: Path, language: str = "bash") -> list[str]:
    """Lines of blocks in `bash`, which run anywhere, or in `sh`, which need the hub."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (project_root / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_eval_commands(project_root: Path, tmp_path: Path) -> None:
    """Every one, on a folder of two films, answers all its questions; the sweep and the list make the same runs."""
    root = tmp_path / "my_questions"
    (root / "videos").mkdir(parents=True)
    for name in ("kitchen.mp4", "garden.mp4"):
        make_clip(root / "videos" / name, seconds=1)
    ask(root, ["kitchen.mp4", "garden.mp4"], 2)
    lines = [line for line in commands(project_root) if "my_questions" in line]
    assert len(lines) >= 5
    runs = []
    for number, line in enumerate(lines):
        shell = Shell(project_root, tmp_path / str(number))
        shell.outputs.mkdir()
        (shell.outputs / "my_questions").symlink_to(root)
        program, *words = shlex.split(line)
        processes = 1
        if program == "torchrun":
            assert words.pop(0) == "--nproc-per-node"
            processes = int(words.pop(0))
        else:
            assert program == "python"
        assert words.pop(0) == "scripts/eval.py"
        status, said = shell.run(*words, "frames.count=3", processes=processes)
        assert status == 0, f"{line}\n{said}"
        runs.append(shell.predictions())
        for rows in runs[-1].values():
            assert [row["outcome"] in ("correct", "wrong", "unparsed", "empty") for row in rows] == [True] * 4
    assert runs[1] == runs[2]
    assert len(runs[1]) == 7  # `none` is one run at every ratio


SMALLER = {
    "eval.py": ("benchmark.videos=4", "frames.count=8"),
    "report.py": ("benchmark.videos=4", "frames.count=8"),
    "shapes.py": ("frames.count=4",),
    "meter.py": ("meter.frames=[4]",),
    "explain.py": ("benchmark.videos=4", "frames.count=8", "explain.questions=2"),
    "probe.py": ("benchmark.videos=4", "frames.count=8", "films=8"),
    "train.py": (
        "data.benchmark.videos=4",
        "data.held_out_videos=2",
        "data.frames.count=4",
        "module.warmup=0",
        "trainer.max_steps=1",
    ),
}


def test_shapes_commands(project_root: Path, tmp_path: Path) -> None:
    """Every one, made small: runs and their comparison, contact sheet, probe, training."""
    lines = [line for line in commands(project_root) if "my_questions" not in line]
    assert {shlex.split(line)[1].removeprefix("scripts/") for line in lines} == set(SMALLER)
    for line in lines:
        program, script, *words = shlex.split(line)
        assert program == "python"
        shell = Shell(project_root, tmp_path, script.removeprefix("scripts/"))
        if script.endswith("meter.py"):
            words = [word.replace("=shapes/", f"={project_root}/shapes/") for word in words]
        if "module=answerer" in words:
            words.append("data.size=2")
        status, said = shell.run(*words, f"paths.data={tmp_path}/data", *SMALLER[shell.script])
        assert status == 0, f"{line}\n{said}"
    runs = shell.predictions()
    # the first line's budget takes each frame's floor; `none` is asked once; four runs of KVTP's table are known
    assert len(runs) == 1 + 29 + (11 - 4) + (8 - 1) + 2 - 1
    for rows in runs.values():
        assert [row["groups"]["kind"] for row in rows] == ["colour", "shape", "place", "after", "last"] * 4
    compared = tmp_path / "compare" / "shapes_pruners"
    assert len((compared / "accuracies.csv").read_text().splitlines()) == 1 + 29
    assert len((compared / "pairs.csv").read_text().splitlines()) == 1 + 3 * 36 + 28
    assert "data:image/png;base64," in (compared / "report.html").read_text()
    assert len(list(tmp_path.glob("meter/*/costs.png"))) == 2
    assert len(list(tmp_path.glob("*/*/wandb/offline-run-*/*.wandb"))) == 1, "`none` had nothing left to ask"
    assert (tmp_path / "shapes" / "test.png").read_bytes().startswith(b"\x89PNG")
    assert set(json.loads((tmp_path / "probe" / "probe.json").read_text())) == {
        *("colour", "shape", "place", "pictures", "backbone", "videos", "films")
    }
    trained = [path.read_text() for path in (tmp_path / "train").glob("*/model/config.json")]
    assert sorted("llava_onevision" in text for text in trained) == [False, False, True]


def test_commands_that_need_the_hub_say_so(project_root: Path, tmp_path: Path) -> None:
    """Offline, with nothing cached: words are understood, and the message tells what is missing and what to do."""
    root = tmp_path / "my_questions"
    (root / "videos").mkdir(parents=True)
    make_clip(root / "videos" / "kitchen.mp4", seconds=1)
    ask(root, ["kitchen.mp4"], 1)
    lines = commands(project_root, "sh")
    assert len(lines) >= 4
    for number, line in enumerate(lines):
        words = [word for word in shlex.split(line) if not word.startswith("hydra/launcher=")]
        place = next(place for place, word in enumerate(words) if word.startswith("scripts/"))
        shell = Shell(project_root, tmp_path / str(number), words[place].removeprefix("scripts/"))
        shell.outputs.mkdir()
        (shell.outputs / "my_questions").symlink_to(root)
        status, said = shell.run(*words[place + 1 :])
        assert status == 1, f"{line}\n{said}"
        assert re.search(r"backbone\.checkpoint 'lmms-lab/LLaVA-Video-7B-Qwen2' .*(fetch|download)", said), said
        assert "Traceback" not in said


def test_published_sets_commands(project_root: Path, random_checkpoints: Path, tmp_path: Path) -> None:
    """Runs over miniatures, the doctor, and one of the runs read again: each does what the text beside it says."""
    lines = commands(project_root, "shell")
    assert {shlex.split(line)[1] for line in lines} == {"scripts/eval.py", "scripts/download.py", "scripts/report.py"}
    for line in lines:
        program, script, *words = shlex.split(line)
        assert program == "python"
        shell = Shell(project_root, tmp_path, script.removeprefix("scripts/"))
        if shell.script == "report.py":
            run = next(folder for folder in shell.folders().values() if "videomme" in folder.name)
            words = [f"run={run}" if word.startswith("run=") else word for word in words]
        if shell.script == "eval.py":
            words += ["frames.count=2", f"paths.checkpoints={random_checkpoints}"]
        status, said = shell.run(*words, f"paths.data={tmp_path}/data")
        assert status == 0, f"{line}\n{said}"
    assert len(shell.folders()) == 3, "two runs, and what was read again of one"
    assert (run / "rescored" / "lmms_eval" / "summary.json").is_file()


def test_papers_tables_commands(project_root: Path, tmp_path: Path) -> None:
    """The table as printed, its grid in miniature, and both side by side: for each printed figure a measured one."""
    lines = commands(project_root, "bash tables")
    assert [shlex.split(line)[1] for line in lines] == ["scripts/report.py", "scripts/eval.py", "scripts/report.py"]
    measured = []
    for line in lines:
        program, script, *words = shlex.split(line)
        assert program == "python"
        status, said = Shell(project_root, tmp_path, script.removeprefix("scripts/")).run(*words)
        assert status == 0, f"{line}\n{said}"
        tables = list((tmp_path / "compare").glob("vista_table3*/vista_table3.csv"))
        measured.append(sorted(sum(bool(row["measured"]) for row in csv.DictReader(path.open())) for path in tables))
    (before,), (same,), (still, after) = measured
    assert before == same == still == 0
    with (project_root / "published" / "vista_table3.csv").open() as file:
        assert after == len(list(csv.DictReader(file)))


@pytest.mark.parametrize("what", ["help", "setup", "demo", "test", "test-all", "lint", "tiny", "clean"])
def test_make_targets_exist(project_root: Path, what: str) -> None:
    text = (project_root / "Makefile").read_text()
    assert re.search(rf"^{what}:.*## \S", text, re.MULTILINE)


def test_it_is_a_door(project_root: Path) -> None:
    text = (project_root / "README.md").read_text()
    assert len(text.splitlines()) <= 170
    written = re.sub(r"<!-- (\w+) -->.*<!-- /\1 -->", "", text, flags=re.DOTALL)
    assert len(written.split()) <= 1250, "what there is more to say is said in docs/"
    for path in re.findall(r"\]\((docs/[^)]*)\)", text):
        assert (project_root / path).is_file(), path
    for path in re.findall(r"^((?:kvtp|conf|scripts|checkpoints|tests)/\S*)", text, re.MULTILINE):
        assert (project_root / path).exists(), path
