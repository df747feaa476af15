"""SparseKV-QA over miniatures: which questions, which labels, what is refused."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from toys import toy_frames

from kvtp.benchmark.sparsekv_qa import SparseKVQA
from kvtp.benchmark.videomme import VideoMME
from kvtp.command import CONF
from kvtp.types import Verdict


def made(home: Path, *words: str) -> SparseKVQA:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        cfg = compose("eval", ["benchmark=sparsekv_qa", f"paths.data={home}", *words])
        return instantiate(cfg.benchmark, _convert_="all")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


SOURCES = {"videomme": (), "nextqa": (), "egoschema_subset": ()}


@pytest.mark.parametrize("source", SOURCES)
def test_splits_of_a_source(home: Path, source: str) -> None:
    """Its three splits are the index's rows of that set: together all questions, of no film two splits; labels too."""
    words = ("benchmark.root=miniature", f"benchmark@benchmark.source={source}")
    splits = {split: made(home, *words, f"benchmark.split={split}") for split in ("train", "val", "test")}
    (index,) = (home / "miniature").glob("sparsekv_qa_*/index.jsonl")
    name = splits["test"].source.release.name
    rows = [row for row in map(json.loads, index.read_text().splitlines()) if row["dataset"] == name]
    for split, benchmark in splits.items():
        asked = [benchmark[place] for place in range(len(benchmark))]
        told = [row for row in rows if row["split"] == split]
        assert [question.id for question in asked] == [row["question_id"] for row in told]
        assert [question.relevance for question in asked] == [tuple(row["scores"]) for row in told]
        assert [question.debiased for question in asked] == [row["debiased"] for row in told]
    films = [{benchmark[place].cluster for place in range(len(benchmark))} for benchmark in splits.values()]
    assert sum(map(len, films)) == len(set.union(*films))
    assert sum(map(len, splits.values())) == len(splits["test"].source)
    rows = splits["test"].canonical()
    assert [row["question_id"] for row in rows] == [question.id for question in splits["test"]]
    assert [row["relevance"] for row in rows] == [question.relevance for question in splits["test"]]


def test_all_else_is_the_source_s(home: Path) -> None:
    benchmark = made(home, "benchmark.root=miniature")
    question = benchmark[0]
    frames = toy_frames([0.0, 1.0], 2.0)
    assert benchmark.prompt(question, frames) == benchmark.source.prompt(question, frames)
    assert benchmark.parse(f"({question.answer})", question) == Verdict("correct", 1.0, question.answer)
    told = benchmark.summarise([])
    assert told["source"]["of"]["dataset"] == "videomme"
    assert benchmark.parser == benchmark.source.parser


def labelled(folder: Path, source: VideoMME, **changed: Any) -> Path:
    row = {
        "dataset": "videomme",
        "revision": None,
        "question_id": source[0].id,
        "split": "test",
        "duration": 4,
        "timestamps": [0, 1, 2, 3],
        "scores": [0, 5, 0, 1],
        "debiased": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.jsonl").write_text(json.dumps(row | changed) + "\n")
    return folder


FAULTS = {
    "one score per timestamp": {"scores": [1, 2]},
    "scores must be in 0–5": {"scores": [0, 6, 0, 0]},
    "must be spread evenly over the 4 s, number 3 of 4 lies at 9 s": {"timestamps": [0, 1, 2, 9]},
    "must be spread evenly over the 4 s, number 0 of 4 lies at 1000 s": {"timestamps": [1000, 1001, 1002, 1003]},
    "must be spread evenly over the 9 s": {"duration": 9},
    "1 questions are not in videomme": {"question_id": "nobody's"},
    "was made from revision abc": {"revision": "abc"},
    "has no questions of videomme in its split test, but of videomme train;": {"split": "train"},
    "field split": {"split": "dev"},
}


@pytest.mark.parametrize("reason", FAULTS)
def test_faults_are_named(home: Path, tmp_path: Path, reason: str) -> None:
    source = made(home, "benchmark.root=miniature").source
    folder = labelled(tmp_path, source, **FAULTS[reason])
    with pytest.raises(ValueError, match=reason) as error:
        SparseKVQA(str(folder), str(home / "miniature"), partial(lambda: source), "test", None, None)
    assert "index.jsonl" in str(error.value)
    whole = SparseKVQA(str(labelled(tmp_path, source)), str(home), partial(lambda: source), "test", None, None)
    assert whole[0].relevance == (0, 5, 0, 1)
