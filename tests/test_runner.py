"""The runner on toy stages: what is asked how often, what becomes of failures, what a second run does."""

import csv
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from kvtp.backbone.base import AbstractBackbone, LLMShape, Size, Skeleton, VisionShape
from kvtp.benchmark._summary import summary
from kvtp.benchmark.base import AbstractBenchmark
from kvtp.budget.base import AbstractBudget
from kvtp.cell import Cell
from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.errors import LoadError
from kvtp.frames.base import AbstractFrames
from kvtp.pipeline import Pipeline
from kvtp.pruner.base import AbstractPruner
from kvtp.relevance.base import AbstractRelevance
from kvtp.runner import Runner
from kvtp.scout.base import AbstractScout
from kvtp.scout.none import NoScout
from kvtp.store import Store
from kvtp.types import Answer, Budget, Frames, Prediction, Prompt, Question, Selection, Verdict, VisualTokens

SLOW = 0.2  # [s]


class Benchmark(AbstractBenchmark):
    parser = "none"

    def __init__(self, *asked: tuple[str, str]) -> None:
        self.asked = [
            Question(f"{place}", video, text, answer="B", groups={"kind": text}, cluster=video)
            for place, (video, text) in enumerate(asked)
        ]

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> Question:
        return self.asked[index]

    def prompt(self, question: Question, frames: Frames) -> Prompt:
        return Prompt(question.text, question.text, (0, len(question.text)), "toy")

    def parse(self, reply: str, question: Question) -> Verdict:
        return Verdict("correct" if reply == question.answer else "wrong", float(reply == question.answer), reply)

    def summarise(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return summary(predictions)


class Files(AbstractFrames):
    """Videos are names; those that begin with `broken` cannot be read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.begun: list[str] = []
        self.workers = 1

    @property
    def ahead(self) -> int:
        return self.workers

    def __call__(self, video: Any) -> Frames:
        self.read.append(video)
        if video == "slow at first" and self.read.count(video) == 1:
            time.sleep(SLOW)
            raise LoadError("out of luck")
        if video.startswith("broken"):
            raise LoadError(f"{video}: the answer is B")
        return Frames(
            torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
            torch.arange(2, dtype=torch.float64),
            torch.arange(2),
            2.0,
            "toy",
        )

    def prefetch(self, video: Any) -> None:
        self.begun.append(video)


class Model(AbstractBackbone):
    """Replies with the prompt's text, unless that tells it to do otherwise."""

    shape = LLMShape(layers=2, width=4, heads=1, kv_heads=1, head_dim=4, ffn=8, vocabulary=10)
    value_bytes = 4
    newlines = "none"
    supplies = frozenset({"tower_states", "probe_attention"})

    def vision_shape(self, size: Size) -> VisionShape:
        return VisionShape(
            rows=3, patches=3, patch_values=5, width=4, ffn=8, ffn_matrices=2, layers=2, pairs=18, connector=48
        )

    def skeleton(self, size: Size) -> Skeleton:
        def part(rows: int, columns: int) -> Any:
            return torch.nn.Linear(columns, 7, device="meta"), (torch.empty(1, rows, columns, device="meta"),)

        return Skeleton(
            tower=part(3, 5), connector=part(3, 4), attention=part(1, 4), mlp=part(1, 8), lm_head=part(1, 2)
        )

    def __init__(self) -> None:
        self.encoded: list[frozenset[str]] = []
        self.said: list[str] = []
        self.loads = 0
        self.weights = "first"

    @property
    def identity(self) -> str:
        return self.weights

    def blank(self, frames: int, size: Size) -> VisualTokens:
        raise AssertionError("only the meter asks for blank tokens")

    def load(self) -> None:
        self.loads += 1

    def encode(self, frames: Frames, cues: frozenset[str]) -> VisualTokens:
        self.encoded.append(cues)
        tokens = torch.arange(4)
        return VisualTokens(
            torch.zeros(4, 4), tokens // 2, tokens * 0, tokens % 2, 2, (1, 2), frames.timestamps, tokens, tokens
        )

    def ask(self, tokens: VisualTokens, prompt: Prompt) -> VisualTokens:
        return tokens

    def embed(self, tokens: VisualTokens, prompt: Prompt) -> Any:
        return prompt.text

    def prefill(self, state: Any, upto: int, site: str = "layer") -> Any:
        return state

    def generate(self, state: Any) -> Answer:
        self.said.append(state)
        match state:
            case "fails":
                raise RuntimeError("the answer is B")
            case "slow at first" if self.said.count(state) == 1:
                time.sleep(SLOW)
                raise RuntimeError("out of luck")
            case "fails once" if self.said.count(state) == 1:
                raise RuntimeError("out of luck")
            case "stops" if self.said.count(state) == 1:
                raise KeyboardInterrupt
        return Answer(
            "B" if state != "A" else "A",
            {"visual": (4, 2), "newline": (0, 0), "text": (5, 5)},
            mlp_rows=(9, 6),
            full_rows=9,
            cache_rows=(9, 7),
            kept=torch.tensor([0, 3]),
            steps=(2,),
            likelihoods={"A": -1.5, "B": -0.5} if state != "A" else None,
        )


class Even(AbstractRelevance):
    def __call__(self, frames: Frames, tokens: VisualTokens, question: Question) -> torch.Tensor:
        return torch.zeros(tokens.frames)


class Whole(AbstractBudget):
    def __call__(self, relevance: torch.Tensor, tokens: VisualTokens) -> Budget:
        return Budget(tokens.per_frame, 1.0)


class Never(AbstractBudget):
    def __call__(self, relevance: torch.Tensor, tokens: VisualTokens) -> Budget:
        raise ValueError("retention_ratio must be in [0.3, 1], got 0.2")


class Keep(AbstractPruner):
    def __init__(self, *cues: str) -> None:
        self.cues = frozenset(cues)  # type: ignore[misc]

    def __call__(self, tokens: VisualTokens, budget: Budget) -> Selection:
        return Selection(torch.arange(len(tokens)))


class Scout(AbstractScout):
    """Looks at films but for those called `unseen`."""

    supplies = frozenset({"scout"})

    def __init__(self, world: "World", identity: str = "") -> None:
        self.world, self._identity = world, identity
        self.loads, self.looked = 0, []

    @property
    def identity(self) -> str:
        return self._identity

    def load(self, backbone: AbstractBackbone) -> None:
        self.loads += 1

    def look(self, frames: Frames) -> None:
        video = self.world.frames.read[-1]
        assert len(self.world.model.encoded) == len(self.world.frames.read) - 1, "the tower comes after it"
        self.looked.append(video)
        if video.startswith("unseen"):
            raise RuntimeError("out of memory")

    def __call__(self, frames: Frames, question: Question, tokens: VisualTokens) -> VisualTokens:
        if self.looked[-1].startswith("unseen"):
            raise RuntimeError("out of memory")
        return tokens


class World:
    """Stages that several runs share, and their folders."""

    def __init__(self, root: Path, *asked: tuple[str, str]) -> None:
        self.root, self.benchmark, self.frames, self.model = root, Benchmark(*asked), Files(), Model()
        self.logger: dict[str, Any] = {}
        self.scouts: dict[str, AbstractScout] = {}  # of runs that have one

    def run(
        self,
        *names: str,
        budget: AbstractBudget | None = None,
        threshold: float = 1.0,
        attempts: int = 2,
        samples: int = 0,
    ) -> None:
        Runner(threshold, attempts, "auto", 30, samples)(self.cells(*names, budget=budget or Whole()))

    def cells(self, *names: str, budget: AbstractBudget) -> list[Cell]:
        groups = ("method", "backbone", "benchmark", "scout", "relevance", "budget", "pruner")
        choices = dict.fromkeys(groups, "toy")
        config = {
            "retention_ratio": 0.2,
            "paths": {"data": "here"},
            "frames": {"reader": None},
            "backbone": {"device": "cpu"},
            "budget": {"retention_ratio": 0.4},
            "pruner": {},
            "logger": self.logger,
        }
        return [
            Cell(
                Row(name, name, self.root / name, choices, (), config),
                Pipeline(self.benchmark, self.frames, self.model, *self.choosing(name, budget)),
            )
            for name in names
        ]

    def choosing(self, name: str, budget: AbstractBudget) -> tuple[Any, ...]:
        return self.scouts.get(name, NoScout()), Even(), budget, Keep(*name.split("+"))

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / name / "predictions.jsonl").read_text().splitlines()]

    def told(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / name / "summary.json").read_text())


def test_every_failure_is_told_and_none_is_scored(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "B"), ("broken", "B"), ("film", "fails"), ("broken", "A"), ("film", "A"))
    world.run("tower_states")
    rows = world.rows("tower_states")
    assert [row["question_id"] for row in rows] == ["0", "1", "2", "3", "4"]  # the benchmark's order
    assert [row["outcome"] for row in rows] == ["correct", "load_error", "model_error", "load_error", "wrong"]
    assert [row["score"] for row in rows] == [1.0, None, None, None, 0.0]
    assert [row["choice"] for row in rows] == ["B", None, None, None, "A"]
    assert rows[1]["text"] == "LoadError: broken: the answer is B"
    assert rows[2]["text"] == "RuntimeError: the answer is B"
    told = world.told("tower_states")
    assert (told["questions"], told["accuracy"], told["errors"], told["valid"]) == (5, 20.0, 3, True)
    assert told["groups"]["kind"]["B"] == {"questions": 2, "accuracy": 50.0}
    assert [(row["question_id"], row["message"]) for row in told["failures"]] == [
        (str(place), rows[place]["text"]) for place in (1, 2, 3)
    ]
    assert told["retention_ratio"] == 0.4  # the budget's
    assert told["tokens"] == {"mean_over_layers": 3.0, "at_decode": 2.0, "per_layer": [4.0, 2.0]}
    log = (tmp_path / "tower_states" / "predictions.0.jsonl").read_text()
    assert log.count("\n") == 5


def test_a_video_is_read_once_for_all(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "A"), ("other", "A"), ("film", "B"), ("third", "B"))
    world.run("tower_states", "probe_attention")
    assert world.frames.read == ["film", "other", "third"]
    assert world.frames.begun == ["other", "third"]
    assert world.model.encoded == [frozenset({"tower_states", "probe_attention"})] * 3
    assert world.model.loads == 1
    assert len(world.model.said) == 2 * 4
    for name in ("tower_states", "probe_attention"):
        decoded = ["decode_video" in row["timings_ms"] for row in world.rows(name)]
        assert decoded == [True, True, False, True]  # with the first question of each video
        assert all("decode" in row["timings_ms"] for row in world.rows(name))


def test_a_scout_looks_at_a_video_once_for_all(tmp_path: Path) -> None:
    """And before the tower; its time is told with the first question of the runs that it works for."""
    world = World(tmp_path, ("film", "A"), ("other", "A"), ("film", "B"))
    one, another = Scout(world), Scout(world)
    world.scouts = {"tower_states": one, "probe_attention": one, "tower_states+probe_attention": another}
    world.run("probe_attention+tower_states", *world.scouts)
    assert one.looked == another.looked == ["film", "other"]
    for name in world.scouts:
        assert ["scout_video" in row["timings_ms"] for row in world.rows(name)] == [True, True, False]
        assert all("vision" in row["timings_ms"] for row in world.rows(name)[:2])
    assert not any("scout_video" in row["timings_ms"] for row in world.rows("probe_attention+tower_states"))


def test_a_scout_looks_for_those_who_ask(tmp_path: Path) -> None:
    """Not for a run whose questions about the video are answered."""
    world = World(tmp_path, ("film", "A"))
    world.run("tower_states")
    scout = world.scouts["tower_states"] = Scout(world)
    world.frames.read.clear()
    world.model.encoded.clear()
    world.run("tower_states", "probe_attention")
    assert (scout.looked, world.frames.read) == ([], ["film"])


def test_a_scout_that_fails_is_its_own_runs_failure(tmp_path: Path) -> None:
    world = World(tmp_path, ("unseen film", "A"), ("film", "B"))
    world.scouts = {"tower_states": Scout(world)}
    world.run("probe_attention", "tower_states")
    assert [row["outcome"] for row in world.rows("probe_attention")] == ["wrong", "correct"]
    failed, answered = world.rows("tower_states")
    assert (failed["outcome"], failed["text"]) == ("model_error", "RuntimeError: out of memory")
    assert answered["outcome"] == "correct"


def test_as_many_videos_are_fetched_ahead_as_the_frames_take(tmp_path: Path) -> None:
    world = World(tmp_path, *((film, "A") for film in "abcd"))
    world.frames.workers = 2
    world.run("tower_states")
    assert world.frames.begun == ["b", "c", "c", "d", "d"]
    none = World(tmp_path / "none", *((film, "A") for film in "ab"))
    none.frames.workers = 0
    none.run("tower_states")
    assert none.frames.begun == []


def test_rows_tell_reader_likelihoods_and_cost(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "B"), ("film", "A"), ("broken", "A"), ("film", "fails"))
    world.run("tower_states")
    rows = world.rows("tower_states")
    assert [row["reader"] for row in rows] == ["toy", "toy", None, "toy"]
    assert [row["likelihoods"] for row in rows] == [{"A": -1.5, "B": -0.5}, None, None, None]
    assert rows[3]["flops"] is None
    told, frames = rows[0]["flops"], 2
    linear = 2 * 4 * (4 + 4)  # MACs of one row: queries, keys, values, output
    assert told["prefill"] == 2 * ((9 + 7) * linear + 2 * (9**2 + 7**2) * 4 + (9 + 6) * 3 * 4 * 8 + 4 * 10)
    assert told["full_prefill"] == 2 * (18 * linear + 2 * 2 * 9**2 * 4 + 18 * 3 * 4 * 8 + 4 * 10)
    assert told["prefill"] - told["prefill_causal"] == 2 * 2 * 4 * (9 * 8 / 2 + 7 * 6 / 2)  # pairs that lie ahead
    assert told["decode"] == 2 * (2 * (2 * linear + 2 * 3 * 4 * 8 + 4 * 10) + 2 * 4 * (10 + 11 + 8 + 9))
    assert told["vision"] == 2 * frames * 3 * (5 * 4 + 2 * 4 * (4 * 4 + 2 * 8 + 2 * 3) + 4 * 4)
    seen = frames * 3 * (5 + 4) * 7
    assert told["thop"] == 2 * (seen + (9 + 7) * 4 * 7 + (9 + 6) * 8 * 7 + 2 * 7)
    assert told["full_thop"] == 2 * (seen + 18 * 4 * 7 + 18 * 8 * 7 + 2 * 7)
    assert (told["predictor"], told["selection"], told["cues"]) == (0, 0, 0)
    assert told["fastv"] == 2 * sum(4 * n * 4**2 + 2 * n**2 * 4 + 2 * n * 4 * 8 for n in (9, 7))
    assert (told["rows"], told["full_rows"]) == (8, 9)
    assert told["kvtp"] == told["thop"] - 2 * 2 * 7
    one_row = 2 * 4 * 4  # keys and values, four bytes each
    assert rows[0]["memory"] == {"kv_cache": 16 * one_row, "full_kv_cache": 18 * one_row}


def test_the_times_of_failed_attempts_are_nobodys(tmp_path: Path) -> None:
    world = World(tmp_path, ("slow at first", "slow at first"), ("slow at first", "fails"), ("broken", "A"))
    world.run("tower_states")
    answered, failed, broken = (row["timings_ms"] for row in world.rows("tower_states"))
    assert {"decode_video", "vision", "decode"} <= answered.keys()
    assert sum(answered.values()) < 1e3 * SLOW
    assert failed == broken == {}


def test_other_frames_are_other_frames(tmp_path: Path) -> None:
    """Runs whose stages differ share nothing."""
    one, two = World(tmp_path / "one", ("film", "A")), World(tmp_path / "two", ("film", "A"))
    Runner(1.0, 1, "auto", 30, 0)(one.cells("tower_states", budget=Whole()) + two.cells("tower_states", budget=Whole()))
    assert one.frames.read == two.frames.read == ["film"]
    assert one.rows("tower_states")[0]["outcome"] == two.rows("tower_states")[0]["outcome"] == "wrong"


def test_errors_are_tried_again_and_answers_are_not(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "A"), ("film", "fails once"), ("film", "fails"))
    world.run("tower_states")
    assert [row["outcome"] for row in world.rows("tower_states")] == ["wrong", "correct", "model_error"]
    assert world.model.said == ["A", "fails once", "fails once", "fails", "fails"]
    world.run("tower_states", attempts=1)
    assert world.model.said[5:] == ["fails"]
    assert [row["outcome"] for row in world.rows("tower_states")] == ["wrong", "correct", "model_error"]


def test_a_refusal_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world = World(tmp_path, ("film", "A"))
    world.run("tower_states", budget=Never(), threshold=0.0)
    assert "tower_states: refused 1 of 1: Refused: retention_ratio must be in [0.3, 1], got 0.2" in caplog.text
    told = world.told("tower_states")
    assert (told["accuracy"], told["refused"], told["errors"], told["valid"]) == (None, 1, 0, True)
    (line,) = [line.split() for line in caplog.text.splitlines() if line.startswith("tower_states ")]
    assert line == ["tower_states", "–", "1", "0", "0", "1", "–"]
    (row,) = world.rows("tower_states")
    assert (row["outcome"], row["score"]) == ("refused", None)
    assert row["text"] == "Refused: retention_ratio must be in [0.3, 1], got 0.2"
    world.run("tower_states", budget=Never(), threshold=0.0)
    assert len(world.frames.read) == 1


def test_too_many_errors_end_the_command(tmp_path: Path) -> None:
    world = World(tmp_path, *[("film", "A")] * 18, ("broken", "A"), ("film", "fails"))
    world.run("tower_states", threshold=0.1)
    assert world.told("tower_states")["valid"]
    with pytest.raises(CommandError, match=r"1 load_error, 1 model_error of 20 .*=0.09 allows; first: 18, 19;"):
        world.run("tower_states", threshold=0.09)
    assert not world.told("tower_states")["valid"]


def test_an_interrupt_goes_through_and_the_next_run_resumes(tmp_path: Path) -> None:
    asked = [("film", "A"), ("film", "B"), ("other", "stops"), ("other", "A")]
    world = World(tmp_path / "halted", *asked)
    with pytest.raises(KeyboardInterrupt):
        world.run("tower_states")
    assert not (tmp_path / "halted" / "tower_states" / "predictions.jsonl").exists()
    world.run("tower_states")
    assert world.model.said == ["A", "B", "stops", "stops", "A"]
    whole = World(tmp_path / "whole", *asked)
    whole.model.said.append("stops")  # once is over
    whole.run("tower_states")
    assert untimed(world.rows("tower_states")) == untimed(whole.rows("tower_states"))


@pytest.mark.parametrize("file", ["config.yaml", "questions", "weights", "predictions.jsonl", "summary.json"])
def test_stopped_while_a_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """The next run brings what an undisturbed one does."""
    asked = [("film", "A"), ("film", "B")]
    whole = World(tmp_path / "whole", *asked)
    whole.run("tower_states")
    world = World(tmp_path / "halted", *asked)
    replace = Path.replace

    def halts(self: Path, target: Path) -> Path:
        if target.name == file:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", halts)
        with pytest.raises(KeyboardInterrupt):
            world.run("tower_states")
    assert not list(world.root.rglob(file))
    world.run("tower_states")
    assert untimed(world.rows("tower_states")) == untimed(whole.rows("tower_states"))
    told, expected = world.told("tower_states"), whole.told("tower_states")
    for one in (told, expected):
        one["costs"] = {key: value for key, value in one["costs"].items() if not key.startswith("latency/")}
    assert told == expected
    assert world.model.said == ["A", "B"]


def test_a_finished_run_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, ("film", "A"))
    world.run("tower_states")
    before = contents(tmp_path)
    monkeypatch.setattr("kvtp.session.versions", lambda: {"kvtp": "later"})
    world.run("tower_states")
    assert world.frames.read == ["film"]
    assert world.model.loads == 1
    assert contents(tmp_path) == before


def test_rows_are_of_the_versions_that_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, ("film", "A"), ("film", "fails"))
    for version in ("1", "1", "2"):
        monkeypatch.setattr("kvtp.session.versions", lambda version=version: {"kvtp": version})
        world.run("tower_states", attempts=1)
    assert world.told("tower_states")["versions"] == [{"kvtp": "1"}, {"kvtp": "2"}]
    lines = (tmp_path / "tower_states" / ".hydra" / "sessions.0.jsonl").read_text().splitlines()
    first, _, last = (json.loads(line) for line in lines)
    assert first | {"versions": {"kvtp": "2"}} == last
    assert (last["paths"], last["backbone.device"], last["processes"]) == ({"data": "here"}, "cpu", 1)


def test_other_weights_do_not_resume(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "A"))
    world.run("tower_states")
    world.model.weights = "trained further"
    with pytest.raises(CommandError, match=r"made with other weights: .* move that folder away"):
        world.run("tower_states")


def test_a_scout_with_other_weights_does_not_resume(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "A"))
    world.scouts["tower_states"] = Scout(world, "first")
    world.run("tower_states")
    world.run("tower_states")
    world.scouts["tower_states"] = Scout(world, "trained further")
    with pytest.raises(CommandError, match=r"made with other weights: .* move that folder away"):
        world.run("tower_states")


def test_files_of_a_scout_that_do_not_load_are_one_line(tmp_path: Path) -> None:
    class Lacking(Scout):
        def load(self, backbone: AbstractBackbone) -> None:
            raise ValueError("scout.checkpoint lacks 3 of its weights")

    world = World(tmp_path, ("film", "A"))
    world.scouts["tower_states"] = Lacking(world)
    with pytest.raises(CommandError, match="lacks 3 of its weights"):
        world.run("tower_states")


def test_folders_are_locked_in_one_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits for the later folder holds the earlier one, in whatever order the runs are listed: no two commands
    can each hold what the other waits for."""
    world = World(tmp_path, ("film", "A"))
    caplog.set_level("INFO")
    holder = Store(tmp_path / "tower_states")
    holder.lock(wait=False)
    cells = world.cells("tower_states", "probe_attention", budget=Whole())
    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(Runner(1.0, 1, "auto", 30, 0), cells, True)
        while "waiting for the run that writes" not in caplog.text:
            assert not runs.done(), runs.result()
        try:
            with pytest.raises(CommandError, match="is being written by another run"):
                Store(tmp_path / "probe_attention").lock(wait=False)
        finally:
            holder.unlock()
        runs.result(timeout=30)


def test_ids_must_differ(tmp_path: Path) -> None:
    world = World(tmp_path, ("film", "A"), ("film", "B"))
    world.benchmark.asked[1] = world.benchmark.asked[0]
    with pytest.raises(CommandError, match="two questions have the same id '0'"):
        world.run("tower_states")


def test_bad_settings_are_refused() -> None:
    for bad in (
        {"error_threshold": 1.5},
        {"attempts": 0},
        {"accelerator": "tpu"},
        {"log_every": -1},
        {"samples": -1},
    ):
        usual = {"error_threshold": 0.05, "attempts": 2, "accelerator": "auto", "log_every": 30, "samples": 0}
        settings = usual | bad
        with pytest.raises(ValueError, match=f"runner.{next(iter(bad))} must be"):
            Runner(**settings)


def contents(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "timings_ms"} for row in rows]


def test_the_first_questions_get_pictures(tmp_path: Path) -> None:
    """Of those answered; a file name holds nothing but letters, digits, dots and dashes."""
    world = World(tmp_path, ("film", "A"), ("film", "fails"), ("film/2", "B"), ("film", "B"))
    world.run("tower_states", samples=3)
    folder = tmp_path / "tower_states" / "samples"
    told = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    assert len(told) == 2
    assert all((folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in told)
    assert [(one["reply"], one["outcome"], one["tokens"]) for one in told.values()] == [
        ("A", "wrong", 2),
        ("B", "correct", 2),
    ]
    world.run("probe_attention")
    assert not (tmp_path / "probe_attention" / "samples").exists()


def test_a_logger_is_told_what_the_files_say(tmp_path: Path) -> None:
    """Accuracy so far after every question, then the summary; a run that was stopped goes on counting."""
    world = World(tmp_path, ("film", "A"), ("film", "A"), ("film", "B"), ("film", "stops"), ("broken", "B"))
    world.logger = {"_target_": "kvtp.logger.csv.Csv", "_partial_": True}
    with pytest.raises(KeyboardInterrupt):
        world.run("tower_states")
    world.run("tower_states")
    with (tmp_path / "tower_states" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    running = [float(line["running/accuracy"]) for line in lines if line.get("running/accuracy")]
    scores = [row["score"] or 0.0 for row in world.rows("tower_states")]
    assert len(running) == 5
    assert running[-1] == pytest.approx(100 * sum(scores) / len(scores))
    summary = world.told("tower_states")
    assert float(lines[-1]["accuracy"]) == pytest.approx(summary["accuracy"])
    assert float(lines[-1]["outcome/load_error"]) == 1
    assert float(lines[-1]["flops/thop_ratio"]) == pytest.approx(summary["costs"]["flops/thop_ratio"])
