"""Faults planted in miniatures, one at a time: each is found, its file named. What is right is known from the planting,
and from the untouched miniature, in which nothing is found."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips import truncate
from sick import Rows, doctor, edit, errors, own_copy

from kvtp.command import groups
from kvtp.doctor.examine import published
from kvtp.doctor.films import look
from kvtp.doctor.finding import Finding
from kvtp.miniature._film import write_film
from kvtp.types import VideoRef

OTHERS = ("folder", "shapes", "shapes_train", "sparsekv_qa")  # whose variants are labels, too: test_index.py
SETS = [name for name in groups()["benchmark"] if not name.startswith(OTHERS)]
TABLE = "test-00000-of-00001.parquet"


@pytest.mark.parametrize("option", SETS)
def test_nothing_is_wrong_with_a_whole_miniature(option: str, healthy: Path) -> None:
    assert errors(doctor(option, healthy)) == []


def test_films_of_a_whole_miniature_can_be_read(healthy: Path) -> None:
    """All that is told is the one film without subtitles, as the set has some."""
    (only,) = doctor("videomme", healthy, probe=True)
    assert (only.kind, only.level, Path(only.file).name) == ("subtitles missing", "warning", "mini-000004.srt")


# -- annotations: what is done to the rows, and of what kind the finding is --------------------------------------------


def clear(field: str) -> Callable[[Rows], Any]:
    return lambda rows: [row.pop(field) for row in rows]


def put(field: str, value: Any, *places: int) -> Callable[[Rows], Any]:
    return lambda rows: [rows[place].update({field: value}) for place in places]


def same(rows: Rows) -> None:
    rows[1]["question"] = f"  {rows[0]['question'].upper()}"
    rows[1]["answer"] = rows[0]["answer"]


def contradicting(rows: Rows) -> None:
    rows[1]["question"] = rows[0]["question"]


OWN = "a rule of the set's own, whatever it calls it"
ROWS: dict[str, tuple[Callable[[Rows], Any], str, str, str]] = {
    "column gone": (clear("task_type"), "field missing: task_type", "row 0: field task_type", "error"),
    "unknown duration": (put("duration", "tiny", 3, 5), "field of the wrong kind: duration", "row 3", "error"),
    "answer beside the letters": (put("answer", "E", 7), "field of the wrong kind: answer", "row 7", "error"),
    "answer beyond the options": (
        lambda rows: rows[3].update(options=rows[3]["options"][:3], answer="D"),
        *(OWN, "row 3", "error"),
    ),
    "id twice": (put("question_id", "same", 4, 9), "duplicate id", "2 questions have the id 'same'", "error"),
    "question twice": (same, "duplicate question", "'001-1', '001-2'", "warning"),
    "two answers": (contradicting, "contradicting questions", "'001-1', '001-2'", "warning"),
    "no words": (put("question", " \n", 2), "empty question", "'001-3'", "error"),
    "empty option": (put("options", ["A. Up.", "B. ", "C. Left.", "D. No."], 2), "empty option", "'001-3'", "error"),
    "option twice": (
        put("options", ["A. Up.", "B. No.", "C. Up.", "D. Left."], 2),
        *("duplicate option", "'001-3'", "warning"),
    ),
    "option without its letter": (put("options", ["Up.", "B. No.", "C. So.", "D. Left."], 6), OWN, "row 6", "error"),
}


@pytest.mark.parametrize("fault", ROWS)
def test_faulty_rows(fault: str, root: Path, tmp_path: Path) -> None:
    change, kind, what, level = ROWS[fault]
    edit(root / "videomme" / TABLE, change)
    found = [one for one in doctor("videomme", tmp_path / "home") if one.kind != "subtitles missing"]
    assert {one.kind for one in found} == {kind if kind != OWN else found[0].kind}
    assert (found[0].file, found[0].level) == (str(root / "videomme" / TABLE), level)
    assert what in found[0].what


def test_all_complaints_are_told(root: Path, tmp_path: Path) -> None:
    """Of every row, not of the first; and the questions of the others are examined."""

    def change(rows: Rows) -> None:
        for place in range(0, 30, 2):
            rows[place]["duration"] = "tiny"
        for place in (3, 13, 23):
            rows[place]["answer"] = "yes"
        rows[29]["question"] = ""

    edit(root / "videomme" / TABLE, change)
    found = errors(doctor("videomme", tmp_path / "home"))
    tiny = [one.what for one in found if one.kind == "field of the wrong kind: duration"]
    assert [one.partition(":")[0] for one in tiny] == [f"row {place}" for place in range(0, 30, 2)]
    others = [(one.kind, one.what[:6]) for one in found if "duration" not in one.kind]
    wrong = "field of the wrong kind: answer"
    assert others == [(wrong, "row 3:"), (wrong, "row 13"), (wrong, "row 23"), ("empty question", "questi")]


def test_no_rows_are_an_error(root: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    path = root / "videomme" / TABLE
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(0, 0), path)
    found = errors(doctor("videomme", tmp_path / "home"))
    assert {one.kind for one in found} == {"no rows", "count"}
    assert {one.file for one in found} == {str(path)}


def test_counts_are_those_published(healthy: Path, tmp_path: Path) -> None:
    """A copy elsewhere is taken for the set, which has 2700."""
    root = own_copy("videomme", healthy, tmp_path)
    (found,) = errors(doctor("videomme", tmp_path, root=str(root)))
    assert (found.kind, found.what) == ("count", "30 rows, 2700 were published")


def test_annotations_that_are_gone_or_broken(healthy: Path, tmp_path: Path) -> None:
    """One broken file and one missing hide neither each other nor a film of the rest."""
    root = own_copy("mvbench", healthy, tmp_path)
    (root / "json" / "action_antonym.json").write_text('[{"video": "x.mp4"')
    (root / "json" / "scene_transition.json").unlink()
    films = sorted((root / "video" / "clevrer").rglob("*.mp4"))
    films[0].unlink()
    found = errors(doctor("mvbench", tmp_path))
    assert [(one.kind, one.file) for one in found] == [
        ("unreadable", str(root / "json" / "action_antonym.json")),
        ("annotations missing", str(root)),
        ("film missing", str(films[0])),
    ]
    assert "no annotations of scene_transition" in found[1].what


def test_a_broken_table_and_none(root: Path, tmp_path: Path) -> None:
    truncate(root / "videomme" / TABLE)
    assert _kinds(doctor("videomme", tmp_path / "home")) >= {"unreadable", "count"}
    (root / "videomme" / TABLE).unlink()
    found = errors(doctor("videomme", tmp_path / "home", repo=None))
    assert {one.kind for one in found} == {"annotations missing", "count"}
    assert str(root) in found[0].what


@pytest.mark.parametrize("name", ["test_q.json", "test_a.json"])
def test_what_hangs_on_a_broken_table_is_not_told(name: str, healthy: Path, tmp_path: Path) -> None:
    """Neither that questions lack their answers, nor the other way: the one file is at fault."""
    root = own_copy("msvd_qa", healthy, tmp_path)
    (root / name).write_text("[{")
    found = errors(doctor("msvd_qa", tmp_path))
    assert [(one.kind, one.file) for one in found if one.kind != "count"] == [("unreadable", str(root / name))]
    assert [one.kind for one in found if one.kind == "count"] == ["count"] * (name == "test_q.json")


def test_answers_are_not_taken_for_questions(healthy: Path, tmp_path: Path) -> None:
    """As where the subset's answers alone can be read."""
    root = own_copy("egoschema", healthy, tmp_path)
    for path in root.glob("*/*.parquet"):
        path.unlink()
    (root / "questions.json").write_text("[{")
    (root / "subset_answers.json").write_text('{"a": 1}')
    assert {one.kind for one in errors(doctor("egoschema_subset", tmp_path))} == {"unreadable", "count"}


def test_two_tasks_may_ask_the_same(healthy: Path, tmp_path: Path) -> None:
    """Of one film; one task may not."""
    assert doctor("mvbench_video", healthy) == []
    root = own_copy("mvbench_video", healthy, tmp_path)
    meta = json.loads((root / "test.json").read_text())
    meta["meta"]["action_count"][1]["question"] = meta["meta"]["action_count"][0]["question"]
    meta["meta"]["action_count"][1]["candidates"] = meta["meta"]["action_count"][0]["candidates"]
    meta["meta"]["action_count"][1]["answer"] = "nothing"
    (root / "test.json").write_text(json.dumps(meta))
    assert [one.kind for one in doctor("mvbench_video", tmp_path)] == ["contradicting questions"]


def test_a_number_that_is_no_option(healthy: Path, tmp_path: Path) -> None:
    root = own_copy("nextqa", healthy, tmp_path)
    edit(table := next(root.rglob("*.parquet")), put("answer", 5, 2))
    (found,) = errors(doctor("nextqa", tmp_path))
    assert (found.file, "row 2" in found.what, "5" in found.what) == (str(table), True, True)


def test_a_label_that_is_not_there(healthy: Path, tmp_path: Path) -> None:
    """In the part whose labels were published, not in the other."""
    root = own_copy("egoschema", healthy, tmp_path)
    (table,) = root.glob("Subset/*.parquet")
    edit(table, put("answer", None, 1))
    (found,) = errors(doctor("egoschema_subset", tmp_path))
    assert found.file == str(table)
    assert not errors(doctor("egoschema", tmp_path))


def test_answers_without_their_questions(healthy: Path, tmp_path: Path) -> None:
    root = own_copy("msvd_qa", healthy, tmp_path)
    edit(root / "test_q.json", lambda rows: rows.pop(1))
    (found,) = errors(doctor("msvd_qa", tmp_path))
    assert (found.kind, found.file) == ("row", str(root / "test_a.json"))
    (root / "test_a.json").unlink()
    assert "test_a.json" in errors(doctor("msvd_qa", tmp_path))[0].what


# -- films -------------------------------------------------------------------------------------------------------------


def _film(root: Path, name: str = "mini-000001.mp4") -> Path:
    return root / "data" / name


def _kinds(found: list[Finding]) -> set[str]:
    return {one.kind for one in errors(found)}


def test_every_missing_film_is_told_once(root: Path, tmp_path: Path) -> None:
    gone = [_film(root), _film(root, "mini-000006.mkv"), _film(root, "mini-000007.mp4")]
    gone[2].rename(root / gone[2].name)
    for path in gone[:2]:
        path.unlink()
    found = errors(doctor("videomme", tmp_path / "home"))
    assert [Path(one.file).stem for one in found] == [path.stem for path in gone]
    assert {one.kind for one in found} == {"film missing"}
    assert str(root / gone[2].name) in found[2].remedy


def test_films_that_are_none(root: Path, tmp_path: Path) -> None:
    _film(root).write_bytes(b"")
    _film(root, "mini-000002.mp4").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    truncate(_film(root, "mini-000005.mp4"))
    _film(root, "mini-000007.mp4").write_text("<html>404</html>" * 100)
    found = errors(doctor("videomme", tmp_path / "home", probe=True))
    assert [(one.kind, Path(one.file).name) for one in found if one.kind == "film empty"] == [
        ("film empty", "mini-000001.mp4"),
        ("film empty", "mini-000002.mp4"),
    ]
    assert {Path(one.file).name for one in found if one.kind == "film broken"} == {"mini-000005.mp4", "mini-000007.mp4"}
    assert sorted(Path(one.file).name for one in found) == [f"mini-00000{number}.mp4" for number in (1, 2, 5, 7)]


def test_an_empty_folder_is_told_once(healthy: Path, tmp_path: Path) -> None:
    root = own_copy("mvbench", healthy, tmp_path)
    (folder,) = (path for path in (root / "video" / "tvqa" / "frames_fps3_hq").iterdir())
    for path in folder.iterdir():
        path.unlink()
    found = errors(doctor("mvbench", tmp_path, probe=True))
    assert [(one.kind, one.file) for one in found] == [("film empty", str(folder))]


def test_a_film_that_keeps_its_reader_waiting(tmp_path: Path) -> None:
    """And one that is in order, in the same process."""
    write_film(tmp_path / "a.mp4", 0, 2)
    os.mkfifo(tmp_path / "b.mp4")
    found = look([VideoRef(str(tmp_path / name)) for name in ("b.mp4", "a.mp4")], 1, 5.0)
    assert found[str(tmp_path / "a.mp4")] == pytest.approx(2.0)
    assert "TimeoutError" in str(found[str(tmp_path / "b.mp4")])


def test_two_films_in_one_file(root: Path, tmp_path: Path) -> None:
    edit(root / "videomme" / TABLE, put("videoID", "mini-000001.mp4", 0, 1))
    found = [one for one in errors(doctor("videomme", tmp_path / "home"))]
    assert [(one.kind, one.file) for one in found] == [("name collision", str(_film(root)))]


@pytest.mark.parametrize("both", [True, False])
def test_names_that_differ_in_case_alone(both: bool, root: Path, tmp_path: Path) -> None:
    edit(root / "videomme" / TABLE, put("videoID", "MINI-000001", 0, 1))
    if both:
        shutil.copy(_film(root), _film(root, "MINI-000001.mp4"))
    (found,) = [one for one in doctor("videomme", tmp_path / "home") if one.kind == "case collision"]
    assert found.level == ("warning" if both else "error")
    assert "MINI-000001.mp4, mini-000001.mp4" in found.what


def test_one_film_in_two_files(root: Path, tmp_path: Path) -> None:
    shutil.copy(_film(root, "mini-000006.mkv"), _film(root, "mini-000006.webm"))
    (found,) = [one for one in doctor("videomme", tmp_path / "home") if one.kind == "several files"]
    assert (found.file, found.level) == (str(_film(root, "mini-000006.mkv")), "warning")
    assert "mini-000006.mkv, mini-000006.webm" in found.what


def test_segments_outside_their_film(healthy: Path, tmp_path: Path) -> None:
    """Bounded tasks of MVBench: the first beyond the film's end, the second only its end, the third the wrong way."""
    root = own_copy("mvbench", healthy, tmp_path)
    names = ("action_sequence", "action_prediction", "object_interaction")
    for name, start, end in zip(names, (50.0, 0.0, 1.0), (60.0, 9.0, 0.5), strict=True):
        edit(root / "json" / f"{name}.json", lambda rows, s=start, e=end: rows[0].update(start=s, end=e))
    found = {
        Path(one.file).stem: one
        for one in doctor("mvbench", tmp_path, probe=True)
        if one.kind in ("segment", "row") and Path(one.file).stem in names
    }
    assert [found[name].level for name in names] == ["error", "warning", "error"]
    assert "50 s to 60 s" in found[names[0]].what


def test_subtitles_that_hold_none(root: Path, tmp_path: Path) -> None:
    folder = root / "subtitle"
    (folder / "mini-000001.srt").write_text("<html>404</html>")
    (folder / "mini-000002.srt").write_bytes(b"1\n00:00:00,000 --> 00:00:01,000\n\xff\xfe\n")
    (folder / "mini-000003.srt").unlink()
    found = doctor("videomme", tmp_path / "home")
    assert [(one.kind, Path(one.file).name) for one in errors(found)] == [
        ("subtitles unreadable", "mini-000001.srt"),
        ("subtitles unreadable", "mini-000002.srt"),
    ]
    assert str(folder / "mini-000003.srt") in {one.file for one in found if one.kind == "subtitles missing"}


def test_a_set_within_another_is_examined() -> None:
    from sick import section

    within = published(section("sparsekv_qa", root="miniature"))
    assert within is not None
    assert (within["_target_"], within["root"]) == ("kvtp.benchmark.videomme.VideoMME", "miniature")
