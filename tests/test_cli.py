"""The commands as a person types them."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import make_clip, make_sound, spoil, truncate
from shell import Shell, ask


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("asked")
    (root / "videos").mkdir()
    names = [f"film{place}.mp4" for place in range(10)]
    for name in names:
        make_clip(root / "videos" / name, seconds=1)
    return ask(root, names, 20)


@pytest.fixture
def shell(project_root: Path, tmp_path: Path) -> Shell:
    return Shell(project_root, tmp_path)


def test_help_and_refusals_take_no_model(shell: Shell) -> None:
    """All at once; none may load torch, which the interpreter would tell."""
    commands = {
        "--help": "Groups and their options",
        "pruenr=tome": "nearest: pruner",
        "pruner=toem": "nearest: tome",
        "retention_ration=0.1": "nearest: retention_ratio",
        "method=tome pruner.vriant=x": "nearest: variant",
        "budget=softmax budget.temperatur=1": "nearest: temperature",
        "seed=1 -m method=none,toem": "nearest: tome",
        "method=[none,tome]": "methods=[none,tome]",
        "method=tome": "benchmark.root must be set",
        "+experiment=baseline": "nearest: baselines",
    }
    shell.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    started = {words: shell.start(*words.split()) for words in commands}
    for words, process in started.items():
        said = process.communicate()[0]
        told = [line for line in said.splitlines() if not line.startswith("import time:")]
        assert commands[words] in "\n".join(told), words
        assert " torch\n" not in said
        if words != "--help":
            assert process.returncode != 0
            assert len(told) == 1, told
    assert not list(shell.outputs.iterdir())


def test_wrong_values_are_one_line(shell: Shell, asked: Path) -> None:
    commands = {
        "method=tome pruner.variant=papre": "pruner: variant must be one of paper, official, got 'papre'; nearest:",
        "method=prumerge backbone.head=null": "prumerge: PruMerge needs the cues probe_attention",
        "runner.attempts=1.5": "runner.attempts must be a whole number in [1, inf], got 1.5",
        "backbone.max_new_tokens=abc": "backbone.max_new_tokens must be a whole number in [1, inf], got 'abc'",
        "retention_ratios=[abc]": "retention_ratio must be in (0, 1], got 'abc'",
    }
    started = {words: shell.start(f"benchmark.root={asked}", *words.split()) for words in commands}
    for words, process in started.items():
        said = process.communicate()[0]
        assert process.returncode != 0
        assert len(said.splitlines()) == 1, said
        assert commands[words] in said


def test_twenty_clips(shell: Shell, tmp_path: Path) -> None:
    """Real H.264 of several sizes and rates, one portrait, one of variable rate: PruMerge at 0.2 answers them all."""
    root = tmp_path / "asked"
    (root / "videos").mkdir(parents=True)
    sizes = [(128, 96), (130, 98), (320, 180), (640, 360), (96, 160)]
    names = []
    for place in range(20):
        (width, height), fps = sizes[place % 5], (5, 12, 25, 30)[place % 4]
        names.append(f"{place:02}_{width}x{height}_{fps}.mp4")
        path = root / "videos" / names[-1]
        make_clip(path, width=width, height=height, fps=fps, seconds=1.2, gop=5 + place, variable_rate=place == 7)
    ask(root, names, 2)
    status, said = shell.run(
        *("backbone=tiny", "benchmark=folder", f"benchmark.root={root}"), *("method=prumerge", "retention_ratio=0.2")
    )
    assert status == 0, said
    ((name, rows),) = shell.predictions().items()
    assert [row["question_id"] for row in rows] == [f"{name}-{place}" for name in names for place in range(2)]
    for row in rows:
        frames = min(32, round(1.2 * int(row["cluster"].rpartition("_")[2].removesuffix(".mp4"))))
        assert row["tokens_per_layer"]["visual"] == [12 * frames] * 4  # ⌊0.2 · 64⌋ of each frame
        assert row["outcome"] in ("correct", "wrong", "unparsed", "empty")
    told = json.loads((shell.folders()[name] / "summary.json").read_text())
    assert (told["questions"], told["errors"], told["valid"]) == (40, 0, True)
    assert 0 <= told["accuracy"] <= 100


def test_a_sweep_equals_one_process_equals_single_runs(shell: Shell, asked: Path, tmp_path: Path) -> None:
    common = (f"benchmark.root={asked}", "frames.count=4", "benchmark.limit=25")
    status, said = shell.run("-m", "method=none,random,tome,prumerge", "retention_ratio=0.1,0.2", *common)
    assert status == 0, said
    swept = shell.predictions()
    assert len(swept) == 7  # `none` is one run at every ratio
    assert all(len(rows) == 25 for rows in swept.values())
    assert len({json.dumps([row["tokens_per_layer"] for row in rows]) for rows in swept.values()}) >= 3

    (tmp_path / "together").mkdir()
    together = Shell(shell.root, tmp_path / "together")
    status, said = together.run("methods=[none,random,tome,prumerge]", "retention_ratios=[0.1,0.2]", *common)
    assert status == 0, said
    assert together.predictions() == swept
    for name, folder in together.folders().items():
        assert f"run_id: {name}" in (folder / ".hydra" / "config.yaml").read_text()
        timed = [json.loads(line)["timings_ms"] for line in (folder / "predictions.jsonl").read_text().splitlines()]
        assert ["decode_video" in times for times in timed] == [place % 20 == 0 for place in range(25)]

    (tmp_path / "dealt").mkdir()
    dealt = Shell(shell.root, tmp_path / "dealt")
    status, said = dealt.run("methods=[none,random,tome,prumerge]", "retention_ratios=[0.1,0.2]", *common, processes=2)
    assert status == 0, said
    assert dealt.predictions() == swept
    for folder in dealt.folders().values():  # one film each
        assert [path.read_bytes().count(b"\n") for path in sorted(folder.glob("predictions.?.jsonl"))] == [20, 5]
        assert len(list((folder / ".hydra").glob("sessions.?.jsonl"))) == 2
        assert len(json.loads((folder / "summary.json").read_text())["versions"]) == 1

    status, said = together.run("method=tome", "retention_ratio=0.1", *common)  # resumes what the list has done
    assert status == 0, said
    assert "makes 0 of 25 answers" in said


def test_killed_at_any_moment(shell: Shell, asked: Path, tmp_path: Path) -> None:
    """kill -9 at random moments, with one process and with two, then as the last prediction is written: what an
    uninterrupted run predicts. KVTP_SEED repeats the moments."""
    seed = int(os.environ.get("KVTP_SEED", random.randrange(2**32)))
    print(f"KVTP_SEED={seed}")
    draw = random.Random(seed)
    words = ("method=tome", f"benchmark.root={asked}", "frames.count=4", "benchmark.limit=100")
    moments = sorted(draw.sample(range(1, 80), 2))
    (tmp_path / "whole").mkdir()
    whole = Shell(shell.root, tmp_path / "whole")
    status, said = whole.run(*words)
    assert status == 0, said
    (tmp_path / "killed").mkdir()
    killed = Shell(shell.root, tmp_path / "killed")
    for moment, processes in zip(moments, (1, 2), strict=True):
        assert killed.killed(moment, draw.uniform(0, 0.05), *words, processes=processes) < 100
    assert killed.killed(100, draw.uniform(0, 0.02), *words) == 100  # while files are merged, or close to it
    status, said = killed.run(*words)
    assert status == 0, said
    assert killed.predictions() == whole.predictions()
    assert killed.written() == 100  # nothing was asked twice
    (folder,) = killed.folders().values()
    assert {path.name for path in folder.glob("eval*.log")} == {"eval.log", "eval.1.log"}

    two = Shell(shell.root, tmp_path / "two")
    two.outputs.mkdir()
    status, said = two.run(*words, processes=2)
    assert status == 0, said
    assert two.predictions() == whole.predictions()
    (folder,) = two.folders().values()
    assert all(0 < path.read_bytes().count(b"\n") < 100 for path in folder.glob("predictions.?.jsonl"))


def test_a_refused_run_is_no_zero(shell: Shell, tmp_path: Path) -> None:
    """Nothing failed, so the exit status is 0; but there is no accuracy, and the reason is told."""
    (tmp_path / "films" / "videos").mkdir(parents=True)
    make_clip(tmp_path / "films" / "videos" / "film.mp4", seconds=1)
    root = ask(tmp_path / "films", ["film.mp4"], 2)
    rows = [json.loads(line) for line in (root / "questions.jsonl").read_text().splitlines()]
    for row in rows:
        del row["relevance"]
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (f"benchmark.root={root}", "frames.count=2", "method=tome", "relevance=oracle", "budget=softmax")
    status, said = shell.run(*words)
    assert status == 0, said
    assert "refused 2 of 2: Refused: " in said
    ((_, folder),) = shell.folders().items()
    told = json.loads((folder / "summary.json").read_text())
    assert (told["accuracy"], told["refused"], told["errors"]) == (None, 2, 0)


def test_two_at_once_are_refused(shell: Shell, asked: Path) -> None:
    words = ("method=tome", f"benchmark.root={asked}", "frames.count=4", "benchmark.limit=40")
    first = shell.start(*words)
    while not shell.written() and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    status, said = shell.run(*words)
    first.send_signal(signal.SIGCONT)
    assert status != 0
    assert "is being written by another run" in said
    assert "done" in first.communicate()[0]
    assert first.returncode == 0


def test_broken_files_are_told_and_counted(shell: Shell, tmp_path: Path) -> None:
    root = tmp_path / "asked"
    videos = root / "videos"
    videos.mkdir(parents=True)
    names = [f"film{place:02}.mp4" for place in range(17)]
    for place, name in enumerate(names):
        make_clip(videos / name, width=64 + 16 * (place % 3), height=64, seconds=1, fps=5 + place % 4)
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("no film")
    make_sound(videos / "sound.mp4")
    make_clip(videos / "half.mp4", seconds=1)
    truncate(videos / "half.mp4")
    make_clip(videos / "spoilt.mp4", seconds=1)
    spoil(videos / "spoilt.mp4", offset=0, length=64)
    broken = ["empty.mp4", "text.mp4", "sound.mp4", "half.mp4", "spoilt.mp4", "missing.mp4"]
    make_clip(videos / "one.mp4", seconds=0.2, fps=5)
    make_clip(videos / "variable.mp4", seconds=1, variable_rate=True)
    make_clip(videos / "wrong.mp4", seconds=1)
    (videos / "wrong.mp4").rename(videos / "wrong.txt")
    ask(root, [*broken, *names, "one.mp4", "variable.mp4", "wrong.txt"], 2)
    words = (f"benchmark.root={root}", "frames.count=3")

    status, said = shell.run("-m", "method=tome,random", *words)
    assert status != 0
    assert "12 load_error of 52 questions" in said
    assert "first: empty.mp4-0, empty.mp4-1, text.mp4-0" in said
    assert "Traceback" not in said
    folder, other = (shell.folders()[name] for name in sorted(shell.folders(), reverse=True))  # all jobs were run
    assert other.name.startswith("random")
    told = json.loads((folder / "summary.json").read_text())
    assert (told["questions"], told["outcomes"]["load_error"], told["valid"]) == (52, 12, False)
    assert sum(told["outcomes"].values()) == 52
    assert [row["question_id"].rpartition("-")[0] for row in told["failures"]] == [
        name for name in broken for _ in "12"
    ]
    assert all(row["message"].startswith("LoadError: ") for row in told["failures"])
    assert "Traceback" in (folder / "eval.log").read_text()
    rows = {row["question_id"]: row for row in shell.predictions()[folder.name]}
    assert rows["one.mp4-0"]["tokens_per_layer"]["visual"] == [12] * 4  # one frame of 64 tokens at 0.2
    assert rows["wrong.txt-0"]["tokens_per_layer"]["visual"] == [36] * 4

    make_clip(videos / "missing.mp4", seconds=1)
    status, said = shell.run(
        "method=tome", *words, "runner.error_threshold=0.5"
    )  # the same run: thresholds predict nothing
    assert status == 0, said
    assert "makes 12 of 52 answers" in said
    told = json.loads((folder / "summary.json").read_text())
    assert (told["outcomes"]["load_error"], told["valid"]) == (10, True)


def readme_files(project_root: Path) -> dict[str, str]:
    """The README's code blocks that begin with the path of their file."""
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", (project_root / "README.md").read_text(), re.DOTALL)
    return dict(blocks)


@pytest.fixture
def copied(project_root: Path, tmp_path: Path) -> Shell:
    """The project somewhere else, with outputs of its own."""
    root = tmp_path / "copy"
    junk = shutil.ignore_patterns("__pycache__")
    for part in ("kvtp", "conf", "scripts", "checkpoints", "tests"):
        shutil.copytree(project_root / part, root / part, ignore=junk)
    shutil.copy(project_root / "pyproject.toml", root)
    (tmp_path / "outputs").mkdir()
    return Shell(root, tmp_path / "outputs")


def test_a_pruner_is_two_files(copied: Shell, asked: Path, project_root: Path) -> None:
    """The README's: dropped in, it runs, is swept, named in the help and put to the contract, with no other edit."""
    for path, code in readme_files(project_root).items():
        (copied.root / path).write_text(code)
    contract = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "tests/test_conf.py",
            "tests/test_pruner.py",
            "-k",
            "brightest",
        ],
        cwd=copied.root,
        env=copied.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    words = (f"benchmark.root={asked}", "frames.count=4", "benchmark.limit=4")
    status, said = copied.run("-m", "pruner=brightest,none", "retention_ratio=0.25", *words)
    assert status == 0, said
    runs = {name.partition("_")[0]: rows for name, rows in copied.predictions().items()}
    kept = {name: rows[0]["tokens_per_layer"]["visual"][-1] for name, rows in runs.items()}
    assert kept == {"none": 4 * 64, "brightest": 64}
    assert "brightest" in copied.run("--help")[1]
    told = contract.communicate()[0]
    assert contract.returncode == 0, told
    assert " passed" in told or "[100%]" in told
