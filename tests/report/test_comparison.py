"""Runs side by side: which are compared, and with what numbers."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from kvtp.command import CommandError
from kvtp.config import Row, labels
from kvtp.report import comparison
from kvtp.report.comparison import accuracies, along, pairs, shown, worlds, write
from kvtp.types import Prediction


def run(name: str, retention: float | None, right: str) -> tuple[Row, list[Prediction]]:
    """`right`: one character per question, 1 or 0, or r for refused; two questions per video."""
    pruner = "none" if retention is None else name
    row = Row(
        name,
        f"{name}_{retention}",
        Path(),
        {"pruner": pruner, "backbone": "tiny", "benchmark": "toys"},
        (),
        {
            "budget": {"retention_ratio": retention},
            "pruner": {},
            "runner": {"error_threshold": 0.05},
            "backbone": {},
            "benchmark": {},
        },
    )
    outcomes = {"1": "correct", "0": "wrong", "r": "refused"}
    return row, [
        Prediction(
            question_id=str(nth),
            method=name,
            outcome=outcomes[hit],
            score=None if hit == "r" else float(hit),
            text="",
            choice=None,
            answer="A",
            groups={"kind": "even" if nth % 2 == 0 else "odd"},
            cluster=str(nth // 2),
            tokens_per_layer=None if hit == "r" else {"visual": (8, 4)},
            timings_ms={},
        )
        for nth, hit in enumerate(right)
    ]


RUNS = [run("none", None, "1110"), run("tome", 0.2, "1010"), run("random", 0.2, "0000"), run("tome", 0.1, "rrrr")]


def test_accuracies_tell_every_run_and_kind() -> None:
    told = accuracies(RUNS)
    assert [line["accuracy"] for line in told] == [75, 50, 0, None]
    assert [(line["kind/even"], line["kind/odd"]) for line in told[:3]] == [(100, 50), (100, 0), (0, 0)]
    assert [line["tokens"] for line in told] == [6, 6, 6, None]
    assert told[3]["refused"] == 4
    assert told[0]["low"] <= 75 <= told[0]["high"]


def test_runs_of_one_name_are_told_apart_by_their_settings() -> None:
    (none, _), (tome, _), *_ = RUNS
    rows = [
        none,
        *(
            replace(tome, overrides=("method=tome", *own, "backbone=tiny"))
            for own in ((), ("budget.temperature=0", "benchmark.stay=3"), ("relevance.fusion=none",))
        ),
        replace(tome, name="tome+relevance=oracle", overrides=("method=tome", "relevance=oracle", "budget.x=1")),
    ]
    assert labels(rows) == [
        "none",
        "tome",
        "tome (budget.temperature=0, benchmark.stay=3)",
        "tome (relevance.fusion=none)",
        "tome+relevance=oracle",
    ]
    assert labels(rows, ("budget.", "benchmark.")) == ["none", "tome", "tome", *labels(rows)[3:]]
    assert labels(rows[:2]) == ["none", "tome"]
    assert worlds(rows[1:4]) == ["tiny on toys", "tiny on toys, benchmark.stay=3", "tiny on toys"]
    assert worlds(rows[2:3]) == ["tiny on toys"]


def test_runs_on_other_settings_of_a_benchmark_are_no_pairs() -> None:
    (row, told), (other, _), *_ = RUNS
    assert len(pairs([(row, told), (other, told)])) == 1
    longer = replace(other, config={**other.config, "benchmark": {"clips": 32}})
    assert pairs([(row, told), (longer, told)]) == []


def test_along_a_setting() -> None:
    assert along("budget.retention_ratio", RUNS) == [None, 0.2, 0.2, 0.1]
    with pytest.raises(CommandError, match="must name a number"):
        along("budget.temperatur", RUNS)


def test_along_sparsity(tmp_path: Path) -> None:
    """The mean over questions of the largest over the mean share, by hand; one question has no labels."""
    labels = ([5.0, 0.0, 0.0], [1.0, 1.0], None)
    rows = [
        {"id": str(nth), "video": "a.mp4", "question": "What?"} | ({"relevance": told} if told else {})
        for nth, told in enumerate(labels)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row, told = RUNS[1]
    benchmark = {"_target_": "kvtp.benchmark.folder.Folder", "root": str(tmp_path), "questions": "questions.jsonl"}
    benchmark |= {"videos": "videos", "split": None, "limit": None}
    peak = 3 * math.exp(2.5) / (math.exp(2.5) + 2)
    runs = [(replace(row, config={**row.config, "benchmark": benchmark}), told)]
    assert along("sparsity", runs) == [pytest.approx((peak + 1) / 2)]


def test_pairs_are_of_one_ratio_or_with_the_unpruned() -> None:
    told = {(line["first"], line["second"]): line for line in pairs(RUNS)}
    assert set(told) == {("none_None", "tome_0.2"), ("none_None", "random_0.2"), ("tome_0.2", "random_0.2")}
    line = told["none_None", "tome_0.2"]
    assert (line["difference"], line["won"], line["lost"], line["mcnemar"]) == (-25, 0, 1, 1)
    assert (line["tokens_first"], line["tokens_second"]) == (6, 6)
    assert line["p_holm"] >= line["p"]


def test_small_ps_of_many_pairs_are_told_from_more_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    """24 films, all of which change sides: one flip in 2^23 is as extreme, and so the least p comes out that there is.
    With 9999 flips it is 0.0002, which 250 lines would make 0.05."""
    runs = [run("none", None, "1" * 48), run("tome", 0.2, "0" * 48), run("pool", 0.2, "0" * 48)]
    monkeypatch.setattr(comparison, "LEAST", 0.0003)
    ps = {(line["first"], line["second"]): (line["p"], line["p_holm"]) for line in pairs(runs)}
    flips = 2 * 3 / 0.0003
    assert ps["none_None", "tome_0.2"] == pytest.approx((2 / (flips + 1), 3 * 2 / (flips + 1)))
    assert ps["tome_0.2", "pool_0.2"] == (1, 1)


def test_other_backbones_and_benchmarks_are_shown_but_not_compared() -> None:
    row, predictions = RUNS[1]
    elsewhere = replace(row, config={**row.config, "benchmark": {"_target_": "others"}})
    unlike = [replace(one, groups={"kind": "third"}) for one in predictions]
    assert pairs([RUNS[0], (elsewhere, unlike)]) == []
    header = shown(accuracies([RUNS[0], (elsewhere, unlike)])).splitlines()[0]
    assert header.split()[-3:] == ["even", "odd", "third"]


def test_tables_hold_what_was_told(tmp_path: Path) -> None:
    told = accuracies(RUNS)
    write(told, tmp_path / "accuracies.csv")
    with (tmp_path / "accuracies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["accuracy"] for row in rows] == ["75.0", "50.0", "0.0", ""]
    lines = shown(told).splitlines()
    assert lines[0].split()[:3] == ["run", "kept", "tokens"]
    assert lines[1].split()[:4] == ["none", "all", "6.0", "75.0"]
    assert lines[4].split() == ["tome", "0.1", "–", "–", "–", "0", "–", "–"]


def test_what_has_no_column_stands_below() -> None:
    told = accuracies(RUNS)
    told[3] |= {"refused": 2, "questions": 4}
    told[0] |= {"cached": 3.0}
    below = shown(told).splitlines()
    assert "none: 3.0 tokens in the caches when a reply begins" in below
    assert "tome at 0.1: refused 2 of 4 questions" in below


def test_unlike_questions_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same questions"):
        pairs([RUNS[0], run("tome", 0.2, "10")])
