"""Question files as people write them: what is accepted, and what the complaint says."""

import json
from pathlib import Path

import pytest
import torch

from kvtp.benchmark.folder import Folder
from kvtp.types import OUTCOMES, Frames, Prediction, VideoRef

ROW = {"id": "1", "video": "a.mp4", "question": "Which colour?", "options": ["red", "blue"], "answer": "B"}


def folder(root: Path, *rows: dict | str, split: str | None = "test", limit: int | None = None) -> Folder:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return Folder(str(root), "questions.jsonl", "videos", split, limit)


def test_every_field_arrives(tmp_path: Path) -> None:
    full = {
        "start": 1.5,
        "end": 4,
        "groups": {"kind": "colour", "level": 2},
        "cluster": "film",
        "debiased": "colours",
        "relevance": [0, 1],
    }
    question = folder(tmp_path, ROW | full)[0]
    assert question.ref == VideoRef(str(tmp_path / "videos" / "a.mp4"), 1.5, 4)
    assert (question.text, question.options, question.answer) == ("Which colour?", ("red", "blue"), "B")
    assert question.groups == {"kind": "colour", "level": "2"}
    assert (question.cluster, question.debiased, question.relevance) == ("film", "colours", (0, 1))
    assert folder(tmp_path, ROW)[0].cluster == "a.mp4"


@pytest.mark.parametrize("answer", ["B", "b", 1, "blue", "Blue."])
def test_answers_become_letters(tmp_path: Path, answer: str | int) -> None:
    assert folder(tmp_path, ROW | {"answer": answer})[0].answer == "B"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"answr": "B"}, r"questions.jsonl:2: field answr: unknown; nearest: answer"),
        ({"answer": "C"}, r"questions.jsonl:2: answer must be a letter A–B, .* got 'C', which is none of them"),
        ({"answer": 2}, r"got 2, which is none of them"),
        ({"options": ["1", "0"], "answer": 1}, r"got 1, which may mean A or B; write the letter"),
        ({"answer": True}, r"field answer"),
        ({"options": ["red"]}, r"field options: .* at least 2 items"),
        ({"id": "1"}, r"questions.jsonl:2: field id: must be unique, '1' is also in line 1"),
        ({"start": -1}, r"field start: .* greater than or equal to 0, got -1"),
        ({"start": 4, "end": 4}, r"questions.jsonl:2: field start: must be before end, got 4 s to 4 s"),
        ({"end": float("inf")}, r"field end: Input should be a finite number"),
        ({"relevance": [0, float("nan")]}, r"questions.jsonl:2: field relevance.1: Input should be a finite number"),
        ({"question": ""}, r"field question: .* at least 1 character"),
    ],
)
def test_complaints(tmp_path: Path, change: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        folder(tmp_path, ROW, ROW | {"id": "2"} | change)


def test_complaints_about_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"questions.jsonl:2: not a JSON object"):
        folder(tmp_path, ROW, '{"id": "2", ')
    with pytest.raises(ValueError, match=r"questions.jsonl:1: field video: missing"):
        folder(tmp_path, {key: value for key, value in ROW.items() if key != "video"})
    with pytest.raises(ValueError, match=r"benchmark.split=val has no questions .* there are: test, train"):
        folder(tmp_path, ROW | {"split": "test"}, ROW | {"id": "2", "split": "train"}, split="val")
    with pytest.raises(ValueError, match=r"benchmark.root=.*nowhere must be a folder with the file questions.jsonl"):
        Folder(str(tmp_path / "nowhere"), "questions.jsonl", "videos", None, None)
    with pytest.raises(ValueError, match=r"benchmark.limit must be a whole number in \[1, inf\], got 0"):
        folder(tmp_path, ROW, limit=0)


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """Some editors begin a UTF-8 file with U+FEFF."""
    assert folder(tmp_path, "\ufeff" + json.dumps(ROW))[0].id == "1"


def test_split_and_limit(tmp_path: Path) -> None:
    rows = [
        ROW | {"id": str(n)} | ({"split": split} if split else {})
        for n, split in enumerate(["test", "val", None, "test"])
    ]
    assert [question.id for question in folder(tmp_path, *rows)] == ["0", "2", "3"]
    assert [question.id for question in folder(tmp_path, *rows, split="val")] == ["1", "2"]
    assert len(folder(tmp_path, *rows, split=None)) == 4
    assert [question.id for question in folder(tmp_path, *rows, limit=2)] == ["0", "2"]


def test_prompt_is_the_field_s(tmp_path: Path) -> None:
    frames = Frames(
        torch.zeros(1, 2, 2, 3, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.int64),
        1.0,
        "none",
    )
    benchmark = folder(tmp_path, ROW, {"id": "2", "video": "a.mp4", "question": "Who?", "answer": "The cat"})
    prompt = benchmark.prompt(benchmark[0], frames)
    assert prompt.text == (
        "Which colour?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
    )
    assert prompt.text[slice(*prompt.question_span)] == prompt.bare == "Which colour?"
    assert prompt.choices == ("A", "B")
    open_prompt = benchmark.prompt(benchmark[1], frames)
    assert open_prompt.text.startswith("Who?\n")
    assert open_prompt.choices == ()


@pytest.mark.parametrize(
    ("reply", "outcome", "score"),
    [
        ("B", "correct", 1.0),
        ("(A)", "wrong", 0.0),
        ("A man", "unparsed", 0.0),
        ("E", "unparsed", 0.0),
        (" \n", "empty", 0.0),
    ],
)
def test_verdicts(tmp_path: Path, reply: str, outcome: str, score: float) -> None:
    benchmark = folder(tmp_path, ROW)
    verdict = benchmark.parse(reply, benchmark[0])
    assert (verdict.outcome, verdict.score) == (outcome, score)


def test_open_and_unlabelled_questions(tmp_path: Path) -> None:
    asked = {"id": "1", "video": "a.mp4", "question": "Who?"}
    benchmark = folder(tmp_path, asked | {"answer": "The cat"}, ROW | {"id": "2", "answer": None})
    assert benchmark.parse("a Cat.", benchmark[0]).outcome == "correct"
    assert benchmark.parse("dog", benchmark[0]).outcome == "wrong"
    verdict = benchmark.parse("B", benchmark[1])
    assert (verdict.outcome, verdict.score, verdict.choice) == ("unlabelled", None, "B")


@pytest.mark.parametrize(
    ("reply", "answer", "outcome"),
    [
        ("-3", "3", "wrong"),
        ("−3", "-3", "correct"),
        ("3-4", "3 4", "wrong"),
        (".5", "5", "wrong"),
        ("C", "C++", "wrong"),
        ("c++.", "C++", "correct"),
        ("O", "O-", "wrong"),
        ("5%", "5", "wrong"),
        ("5 %", "5%", "correct"),
        ("$5", "5", "wrong"),
        ("1 2", "1/2", "wrong"),
        ("½", "1/2", "correct"),
        ("3:1", "3 1", "wrong"),
        ("?", "!", "wrong"),
        ("✗", "✓", "wrong"),
        ("की", "का", "wrong"),  # a vowel sign is no punctuation
        ("A well-known (red) T-shirt!", "well known red t shirt", "correct"),
        ("- **cat**: the 'best'...", "cat, best", "correct"),
        ("Covid-19; 1.5 m", "covid 19 1.5 m", "correct"),
    ],
)
def test_open_answers(tmp_path: Path, reply: str, answer: str, outcome: str) -> None:
    benchmark = folder(tmp_path, {"id": "1", "video": "a.mp4", "question": "What?", "answer": answer})
    assert benchmark.parse(reply, benchmark[0]).outcome == outcome


def predicted(outcome: str, answer: str | None = "A", kind: str = "x") -> Prediction:
    return Prediction(
        question_id=outcome,
        method="none",
        outcome=outcome,
        score={"correct": 1.0, "wrong": 0.0}.get(outcome),
        text="",
        choice=None,
        answer=answer,
        groups={"kind": kind},
        cluster="",
        tokens_per_layer=None,
        timings_ms={},
    )


def test_nothing_leaves_the_denominator(tmp_path: Path) -> None:
    """By hand: one right of seven, and of the two of kind x."""
    outcomes = ["correct", "wrong", "unparsed", "empty", "load_error", "model_error", "refused"]
    rows = [predicted(outcome, kind="x" if outcome in ("correct", "load_error") else "y") for outcome in outcomes]
    told = folder(tmp_path, ROW).summarise(rows)
    assert told["accuracy"] == pytest.approx(100 / 7)
    assert told["questions"] == 7
    assert told["groups"]["kind"] == {"x": {"questions": 2, "accuracy": 50.0}, "y": {"questions": 5, "accuracy": 0.0}}
    assert told["outcomes"] == {outcome: int(outcome in outcomes) for outcome in OUTCOMES}


@pytest.mark.parametrize(
    ("rows", "accuracy"),
    [
        ([predicted("unlabelled", None), predicted("load_error", None)], None),
        ([predicted("correct"), predicted("load_error"), predicted("unlabelled", None)], 50.0),
        ([predicted("refused"), predicted("refused"), predicted("load_error", None)], None),
        ([predicted("refused"), predicted("load_error")], 0.0),
        ([], None),
    ],
)
def test_accuracy_is_of_the_labelled(tmp_path: Path, rows: list[Prediction], accuracy: float | None) -> None:
    """By hand: whatever happened to a question without a label says nothing of accuracy."""
    told = folder(tmp_path, ROW).summarise(rows)
    assert told["accuracy"] == accuracy
    assert told["questions"] == len(rows)
