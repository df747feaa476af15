"""Sheets of a paper's table and of one's own runs, against tables and answers that are typed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kvtp.config import Row
from kvtp.metric.statistics import interval
from kvtp.paper.computed import Computed
from kvtp.paper.measure import Finished
from kvtp.paper.published import read, reasons
from kvtp.paper.sheets import Rows, own, table
from kvtp.report.render import lines, markdown
from kvtp.report.sheet import Entry, Sheet
from kvtp.types import Prediction

FOLDER = Path(__file__).resolve().parents[2] / "published"
QWEN = "qwen2_5_vl_7b"
TRAINED = "${paths.outputs}/train/qformer/model"  # as conf/experiment writes it
NONE = {"backbone": QWEN, "method": "none"}
FASTVID = {"backbone": QWEN, "method": "fastvid", "retention_ratio": 0.25}
VISTA = {**FASTVID, "method": "vista", "pruner.rho": 0.85, "budget.tau": 0.8, "scout.checkpoint": TRAINED}
# its own ratios are not asked: what the unpruned row costs is
COSTS = {"flops/vision_tflops": 1.0, "flops/prefill_tflops": 1.0, "flops/method_tflops": 2.0, "flops/thop_tmacs": 1.0}
COSTS |= {"flops/analytic_ratio": 0.9, "rows/mean_over_layers": 100.0}
WHOLE = {**COSTS, "flops/prefill_tflops": 7.0, "flops/method_tflops": 0.0, "flops/thop_tmacs": 8.0}


def films(right: str, **more: Any) -> list[Prediction]:
    """A word per film, a character per question; r: refused."""
    known = {"method": "", "choice": None, "tokens_per_layer": None, "answer": "A", "groups": {}, "timings_ms": {}}
    outcomes = {"1": "correct", "0": "wrong", "r": "refused", "e": "load_error"}
    return [
        Prediction(
            **{"question_id": f"{film}.{nth}", "text": "not at 5 %", **known, **more},
            outcome=outcomes[hit],
            score=float(hit) if hit in "01" else None,
            cluster=f"f{film}",
        )
        for film, word in enumerate(right.split())
        for nth, hit in enumerate(word)
    ]


def row(entry: Mapping[str, Any], benchmark: str, config: Mapping[str, Any] | None = None, **more: Any) -> Row:
    """One that says `entry`, on a benchmark."""
    ratio = entry.get("retention_ratio")
    choices = {"backbone": entry["backbone"], "benchmark": benchmark, "pruner": entry["method"]}
    settings = {"benchmark": dict(config or {}), "backbone": {}, "pruner": {}, "budget": {"retention_ratio": ratio}}
    words = tuple(f"{key}={value}" for key, value in {**entry, "benchmark": benchmark}.items())
    name = f"{'_'.join(map(str, entry.values()))}_{benchmark}"
    return Row(entry["method"], name, Path(), choices, words, settings, {**entry, "benchmark": benchmark}, **more)


def finished(told: Row, right: str, **more: Any) -> Finished:
    versions = [{"commit": "abc123"}]
    return Finished(told, films(right, **more), {"valid": True, "versions": versions}, Path())


def same_for_all(rows: Sequence[Row]) -> list[Computed]:
    return [Computed(WHOLE if row.entry["method"] == "none" else COSTS) for row in rows]


def at(sheet: Sheet, method: str, title: str, setting: str = "") -> Entry | None:
    """The entry of the line that has this method, and a setting that begins so."""
    [line] = [line for line in sheet.lines if line.label[1] == method and line.label[2].startswith(setting)]
    return line.entries[[column.title for column in sheet.columns].index(title)]


# -- a paper's table ---------------------------------------------------------------------------------------------------

HEAD = "paper,table,backbone,method,setting,benchmark,metric,value,unit\n"
MADE = (
    f"vista,table3,{QWEN},none,retention=100%,mlvu,accuracy,64.8,%\n"
    f"vista,table3,{QWEN},none,retention=100%,mvbench,accuracy,68.51,%\n"
    f"vista,table3,{QWEN},fastvid,retention=25%,mlvu,accuracy,70,%\n"
    f"vista,table3,{QWEN},fastvid,retention=25%,mvbench,accuracy,,%\n"
    f"vista,table3,{QWEN},fastvid,retention=25%,average,average_percent,98.0,%\n"
    "vista,table3,elsewhere_7b,none,,mlvu,accuracy,50.0,%\n"
)
REASONS = (
    "table,backbone,method,setting,benchmark,metric,kind,reason\n"
    "vista_table3,*,fastvid,*,mlvu,*,denominator,it is of fewer questions\n"
    "vista_table[12],*,*,*,*,*,misprint,of other tables\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vista_table3.csv").write_text(HEAD + MADE)
    (tmp_path / "reasons.csv").write_text(REASONS)
    return tmp_path


@pytest.fixture
def made(folder: Path) -> Sheet:
    """Both methods ran on MLVU, the unpruned model alone on MVBench."""
    rows = [row(entry, name) for entry in (NONE, FASTVID) for name in ("mlvu", "mvbench")]
    runs = [finished(rows[0], "11 10 1"), finished(rows[1], "1 0 1"), finished(rows[2], "01 10 1")]
    return table(folder, "vista_table3", Rows(rows, runs), same_for_all)


def test_columns_are_those_printed_and_then_the_costs_here(made: Sheet) -> None:
    assert [(column.title, column.unit) for column in made.columns] == [
        ("mlvu", "%"),
        ("mvbench", "%"),
        ("average percent", "%"),
        ("FLOPs here", "%"),
        ("FLOPs here, with choosing the tokens", "%"),
        ("THOP here", "%"),
    ]
    assert (made.name, made.stubs, made.notes) == ("vista_table3", ("backbone", "method", "setting"), ())


def test_a_line_for_each_printed_one(made: Sheet) -> None:
    assert [line.label for line in made.lines] == [
        (QWEN, "none", "retention=100%"),
        (QWEN, "fastvid", "retention=25%"),
        ("elsewhere_7b", "none", "–"),
    ]


def test_measured_beside_published(made: Sheet) -> None:
    entry = at(made, "none", "mlvu", "retention")
    assert entry is not None
    assert (entry.published, entry.measured, entry.digits, entry.missing) == ("64.8", pytest.approx(80), 1, "")
    assert (entry.low, entry.high) == pytest.approx(interval(films("11 10 1")), abs=2)
    assert entry.difference == pytest.approx(80 - 64.8)
    finer = at(made, "none", "mvbench", "retention")
    assert finer is not None
    assert finer.digits == 2


def test_a_reason_forbids_the_difference_and_nothing_else(made: Sheet) -> None:
    entry = at(made, "fastvid", "mlvu")
    assert entry is not None
    assert (entry.published, entry.measured, entry.difference) == ("70", pytest.approx(60), None)
    assert entry.reasons == ("it is of fewer questions",)
    assert entry.digits == 1, "a measurement is no whole number"


def test_what_is_not_run_says_so(made: Sheet) -> None:
    for title in ("mvbench", "average percent"):
        entry = at(made, "fastvid", title)
        assert entry is not None
        assert (entry.measured, entry.difference, entry.missing) == (None, None, "not run")
    empty = at(made, "fastvid", "mvbench")
    assert empty is not None
    assert empty.published is None


def test_what_is_not_printed_is_empty(made: Sheet) -> None:
    assert at(made, "none", "average percent", "retention") is None


def test_a_backbone_that_there_is_not(made: Sheet) -> None:
    *printed, flops, _, _ = made.lines[-1].entries
    assert printed[0] is not None
    assert printed[0].missing == "there is no backbone elsewhere_7b here"
    assert (printed[1:], flops) == ([None, None], None)


def test_costs_of_the_row_are_told_in_percent(made: Sheet) -> None:
    entries = made.lines[1].entries[-3:]
    assert [entry and entry.computed for entry in entries] == [25, 50, 12.5]


def test_a_refused_row_tells_why_it_has_no_costs(folder: Path) -> None:
    rows = [row(FASTVID, "mlvu")]
    sheet = table(folder, "vista_table3", Rows(rows, []), lambda asked: [Computed(None, "not at 25 %") for _ in asked])
    assert sheet.lines[1].entries[-3:] == (Entry(missing="not at 25 %"),) * 3
    assert sheet.lines[0].entries[-3:] == (None, None, None), "the experiment has no such row"


def test_a_caveat_forbids_the_difference(folder: Path) -> None:
    """Told beside the reasons of the figure itself, and only where there is a measurement."""
    rows = [row(entry, "mlvu", {"root": "miniature"}) for entry in (NONE, FASTVID)]
    runs = [finished(one, "11 10") for one in rows]
    sheet = table(folder, "vista_table3", Rows(rows, runs), same_for_all)
    first, second, other = (
        at(sheet, "none", "mlvu", "retention"),
        at(sheet, "fastvid", "mlvu"),
        at(sheet, "none", "mvbench", "retention"),
    )
    assert first is not None
    assert (first.measured, first.difference) == (75, None)
    assert (first.reasons, first.caveats) == ((), ("on a generated miniature of the set",))
    assert second is not None
    assert second.reasons == ("it is of fewer questions",)
    assert second.caveats == ("on a generated miniature of the set",)
    assert other is not None
    assert (other.reasons, other.caveats) == ((), ())


def test_a_run_that_two_entries_came_to_answers_both(folder: Path) -> None:
    """As dots of a figure and cells of a table do."""
    rows = [row(NONE, "mlvu", same=({**FASTVID, "benchmark": "mlvu", "frames": "uniform"},))]
    sheet = table(folder, "vista_table3", Rows(rows, [finished(rows[0], "1 0")]), same_for_all)
    measured = [at(sheet, "none", "mlvu", "retention"), at(sheet, "fastvid", "mlvu")]
    assert [entry and entry.measured for entry in measured] == [50, 50]


def test_a_row_with_other_settings_is_another() -> None:
    rows = Rows([row(VISTA, "mlvu")], [finished(row(VISTA, "mlvu"), "1")])
    assert rows.find({**VISTA, "benchmark.preset": "vista"}, "mlvu") is not None
    assert rows.find(VISTA, "mvbench") is None
    assert rows.find({**VISTA, "budget.tau": 0.95}, "mlvu") is None
    assert rows.row({**VISTA, "budget.tau": 0.95}) is None
    assert Rows([row(VISTA, "mlvu")], []).find(VISTA, "mlvu") is None, "it is not finished"


def test_vistas_table_1_as_it_is_printed() -> None:
    """The unpruned line, run on its four sets: what compares is what published/reasons.csv is silent on, as it is on
    Video-MME and not on MVBench, which the authors asked in part."""
    onevision = {"backbone": "llava_onevision_7b", "method": "none"}
    rows = [row(onevision, name) for name in ("mvbench", "longvideobench", "mlvu", "videomme")]
    sheet = table(FOLDER, "vista_table1", Rows(rows, [finished(one, "10 11") for one in rows]), same_for_all)
    assert len(sheet.lines) == 18
    titles = ["flops ratio", "mvbench", "longvideobench", "mlvu", "videomme_short", "videomme_medium", "videomme_long"]
    titles += ["videomme", "average score", "average percent"]
    assert [column.title for column in sheet.columns[:10]] == titles
    line = [cell for cell in read(FOLDER, "vista_table1") if cell.method == "none"]
    for cell, entry in zip(line[1:], sheet.lines[0].entries[1:10], strict=True):
        assert entry is not None
        lengths = cell.benchmark.startswith("videomme_")
        assert entry.missing == ("none of the questions asked is of this kind" if lengths else "")
        value = None if lengths else 100 if cell.metric == "average_percent" else 75
        assert entry.measured == pytest.approx(value)
        compares = not lengths and not reasons(FOLDER, cell)
        assert entry.difference == (pytest.approx(value - float(cell.value)) if compares else None), cell
    mvbench, videomme = at(sheet, "none", "mvbench"), at(sheet, "none", "videomme")
    assert mvbench is not None
    assert mvbench.difference is None
    assert videomme is not None
    assert videomme.difference == pytest.approx(75 - 58.74)
    for other in sheet.lines[1:]:
        assert {entry.missing for entry in other.entries[1:10] if entry} == {"not run"}
    assert sheet.notes[0].startswith("Computed as the paper counts: ")


# -- one's own table ---------------------------------------------------------------------------------------------------

FLOPS = {"vision": 8.0, "cues": 1.0, "predictor": 2.0, "selection": 1.0, "decode": 0.0, "thop": 6.0, "prefill": 12.0}
FLOPS |= {"prefill_causal": 10.0, "kvtp": 1.0, "fastv": 1.0, "rows": 1.0}
FLOPS |= {
    f"full_{key}": 4 * FLOPS[key] for key in ("vision", "prefill", "prefill_causal", "thop", "kvtp", "fastv", "rows")
}
COST = 100 * (8 + 12 + 1 + 2 + 1) / (4 * 8 + 4 * 12)  # all that was done here, of tower and prefill unpruned
ANSWERED = {"flops": FLOPS, "memory": {"kv_cache": 1.0, "full_kv_cache": 2.0}}


def ran(method: str, ratio: float | None, right: str, benchmark: str = "shapes", **entry: Any) -> Finished:
    said = {"backbone": "tiny", "method": method, **({} if ratio is None else {"retention_ratio": ratio}), **entry}
    left = None if "r" in right else {"visual": (10, 10, 5, 3), "newline": (1, 1, 1, 1), "text": (9, 9, 9, 9)}
    return finished(row(said, benchmark), right, **{**ANSWERED, "tokens_per_layer": left})


def runs() -> list[Finished]:
    return [
        ran("none", None, "11 11 10"),
        ran("tome", 0.2, "11 00 10"),
        ran("tome", 0.5, "11 10 10"),
        ran("random", 0.05, "rr rr rr"),
        ran("random", 0.5, "00 00 10"),
        ran("tome", 0.25, "11 01 10"),
    ]


def test_own_lines_are_methods_and_columns_fall() -> None:
    """Tokens are visual ones, mean over the layers, in the order of the columns."""
    sheet = own("demo", runs(), "2026-01-02")
    assert [line.label for line in sheet.lines] == [("tome", "7 / 7 / 7 / –"), ("random", "7 / – / – / –")]
    assert (sheet.name, sheet.title, sheet.stubs) == ("demo", "demo", ("method", "tokens"))
    ratios = ("50 %", "25 %", "20 %", "5 %")
    places = [f"{part}, {ratio}" for part in ("accuracy", "FLOPs") for ratio in ratios]
    assert [column.title for column in sheet.columns] == places
    assert {column.unit for column in sheet.columns} == {"%"}


def test_own_accuracy_has_its_interval_and_cost_all_that_was_done() -> None:
    sheet = own("demo", runs(), "2026-01-02")
    tome, random = (line.entries for line in sheet.lines)
    assert [entry and entry.measured for entry in tome[:4]] == pytest.approx([100 * 4 / 6, 100 * 4 / 6, 50, None])
    assert [entry and entry.measured for entry in tome[4:]] == pytest.approx([COST, COST, COST, None])
    reached = tome[0]
    assert reached is not None
    assert (reached.low, reached.high) == interval(films("11 10 10"))
    assert reached.published is None
    assert [entry and entry.missing for entry in random] == ["", None, None, "not at 5 %"] * 2
    assert random[3] == Entry(missing="not at 5 %")


def test_own_notes_tell_the_unpruned_run_the_sizes_and_the_commit() -> None:
    unpruned, sizes, when = own("demo", runs(), "2026-01-02").notes
    low, high = interval(films("11 11 10")) or (0, 0)
    assert unpruned == f"none: 83.3 [{low:.1f}, {high:.1f}] %, FLOPs {COST:.1f} %."
    assert sizes.startswith("6 questions about 3 films; 95 % intervals, films resampled.")
    assert when == "2026-01-02, commit abc123."


def test_a_method_with_a_rule_of_its_own_stands_below() -> None:
    """No retention ratio is its column."""
    sheet = own("demo", [*runs(), ran("prumerge_plus", 0, "10 10 10")], "today")
    assert "prumerge_plus" not in [line.label[0] for line in sheet.lines]
    unpruned, plus = sheet.notes[0].split("; ")
    assert unpruned.startswith("none: 83.3 [")
    assert plus.startswith("prumerge_plus: 50.0 [")


def test_settings_tell_lines_of_one_method_apart() -> None:
    """One run of each: the setting in which they differ is in the label."""
    pair = [ran("vista", 0.2, "11 00", **{"budget.tau": tau}) for tau in (0.8, 0.95)]
    sheet = own("demo", pair, "today")
    assert [line.label[0] for line in sheet.lines] == ["vista (budget.tau=0.8)", "vista (budget.tau=0.95)"]


def test_several_sets_are_columns_of_one_line() -> None:
    each = [ran("tome", ratio, "11 00", name) for name in ("videomme", "mlvu") for ratio in (0.1, 0.2)]
    sheet = own("demo", [*each, ran("none", None, "11 10 11", "mlvu")], "today")
    assert [line.label[0] for line in sheet.lines] == ["tome"]
    places = ("tiny on mlvu, 20 %", "tiny on mlvu, 10 %", "tiny on videomme, 20 %", "tiny on videomme, 10 %")
    assert [column.title for column in sheet.columns[:4]] == [f"accuracy, {place}" for place in places]
    assert None not in sheet.lines[0].entries
    assert sheet.notes[0].startswith("none (tiny on mlvu): 83.3 [")
    assert sheet.notes[1].startswith("4 questions about 2 films, 6 questions about 3 films;")


def test_runs_of_several_commits_tell_all() -> None:
    versions = {"versions": [{"commit": "def"}, {"commit": "abc123"}]}
    later = Finished(ran("tome", 0.1, "1 0").row, films("1 0"), versions, Path())
    assert own("demo", [*runs(), later], "today").notes[-1] == "today, commit abc123, def."


def test_where_no_film_could_be_read_the_cost_is_missing() -> None:
    failed = [finished(ran(*said, "1").row, "ee e") for said in (("none", None), ("tome", 0.2))]
    sheet = own("demo", failed, "today")
    assert [entry and (entry.measured, entry.missing) for entry in sheet.lines[0].entries] == [
        (0, ""),
        (None, "no question was answered"),
    ]
    assert sheet.notes[0] == "none: no question was answered."


def test_without_labels_there_is_no_accuracy() -> None:
    sheet = own("demo", [finished(ran("tome", 0.2, "1").row, "00 0", answer=None, **ANSWERED)], "today")
    assert sheet.lines[0].entries == (Entry(missing="no labels"),) * 2


def test_with_nothing_finished_the_sheet_is_empty_and_can_be_shown() -> None:
    sheet = own("figure", [], "today")
    assert (sheet.lines, sheet.columns, sheet.notes) == ((), (), ("Nothing is finished.",))
    assert "Nothing is finished." in markdown(sheet)
    assert lines(sheet) == []


def test_kvtps_shares_are_told_of_newlines_that_stay() -> None:
    """13 newlines a frame are a share of 182 rows that its printed FLOPs lack (tests/metric/test_conventions.py); whole
    frames that go take theirs with them."""
    host, trained = {"backbone": "llava_video_7b"}, "${paths.outputs}/train/kvtp/model"
    kept = {**host, "method": "random_kvtp", "retention_ratio": 0.2, "relevance.checkpoint": trained}
    frames = {**kept, "method": "keyvideollm", "relevance.checkpoint": "google/siglip-so400m-patch14-384"}
    sets = ("videomme", "egoschema", "nextqa")
    rows = [row(entry, f"sparsekv_qa_{name}") for entry in ({**host, "method": "none"}, kept, frames) for name in sets]
    sheet = table(FOLDER, "kvtp_table2", Rows(rows, [finished(one, "1 0", **ANSWERED) for one in rows]), same_for_all)
    told = {name: at(sheet, name, "flops ratio") for name in ("none", "random_kvtp", "keyvideollm")}
    assert all(entry is not None and entry.measured == pytest.approx(100) for entry in told.values())
    caveats = {name: [one for one in entry.caveats if "newlines" in one] for name, entry in told.items() if entry}
    assert {name: len(found) for name, found in caveats.items()} == {"none": 0, "random_kvtp": 1, "keyvideollm": 0}
