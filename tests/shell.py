"""A script as a person starts it, and questions for it to ask."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

COLOURS = ["red", "blue", "green"]


def ask(root: Path, videos: list[str], each: int) -> Path:
    """A question file of `each` questions about every video, in `root`."""
    rows = [
        {
            "id": f"{video}-{place}",
            "video": video,
            "question": f"Which colour has number {place}?",
            "options": COLOURS,
            "answer": COLOURS[place % 3],
            "groups": {"parity": str(place % 2)},
            "relevance": [0, place],
        }
        for video in videos
        for place in range(each)
    ]
    (root / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


class Shell:
    """Runs a script of the project at `root`; runs go to `outputs`, where files called `lines` grow."""

    def __init__(self, root: Path, outputs: Path, script: str = "eval.py", lines: str = "predictions.*.jsonl") -> None:
        self.root, self.outputs, self.script, self.lines = root, outputs, script, lines
        self.environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self.environment.pop("RANK", None)

    def start(self, *words: str, processes: int = 1) -> subprocess.Popen[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [
            sys.executable,
            *(launcher if processes > 1 else []),
            str(self.root / "scripts" / self.script),
            *words,
        ]
        return subprocess.Popen(
            [*command, *self.fixed(words)],
            cwd=self.outputs,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fixed(self, words: tuple[str, ...]) -> list[str]:
        return [] if "--help" in words else [f"paths.outputs={self.outputs}"]

    def run(self, *words: str, processes: int = 1) -> tuple[int, str]:
        process = self.start(*words, processes=processes)
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    def killed(self, after: int, delay: float, *words: str, processes: int = 1) -> int:
        """Start, kill -9 all processes `delay` [s] after so many lines are written; how many there are then."""
        process = self.start(*words, processes=processes)
        while self.written() < after and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        with suppress(psutil.NoSuchProcess):  # it may just have ended
            parent = psutil.Process(process.pid)
            for one in [parent, *parent.children(recursive=True)]:  # torchrun's workers have sessions of their own
                one.kill()
        process.communicate()
        return self.written()

    def written(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.outputs.rglob(self.lines))

    def folders(self) -> dict[str, Path]:
        return {path.parent.name: path.parent for path in sorted(self.outputs.rglob("summary.json"))}

    def predictions(self) -> dict[str, list[dict[str, Any]]]:
        """Of every run, without the times."""
        rows = {name: (folder / "predictions.jsonl").read_text() for name, folder in self.folders().items()}
        return {
            name: [json.loads(line) | {"timings_ms": None} for line in text.splitlines()] for name, text in rows.items()
        }
