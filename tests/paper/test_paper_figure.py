"""Points of a paper's figure: hollow ones against sums typed from the tables, measured ones by plain arithmetic."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from kvtp.config import Row
from kvtp.metric.statistics import interval
from kvtp.paper.figure import FLOPS, MEAN, measured, printed
from kvtp.paper.measure import Finished
from kvtp.types import Prediction

FOLDER = Path(__file__).resolve().parents[2] / "published"
SETS = {"mlvu": "11 10 01 1", "mvbench": "1 0 0 1 1"}  # a word per film, a character per question
REASONS = "table,backbone,method,setting,benchmark,metric,kind,reason"  # the head of reasons.csv
COUNTS = dict.fromkeys(("vision", "cues", "predictor", "selection", "prefill", "prefill_causal", "decode"), 1.0)
COUNTS |= {f"{full}{key}": 1.0 for full in ("", "full_") for key in ("kvtp", "fastv", "rows")}
COUNTS |= {"full_prefill": 1.0, "full_prefill_causal": 1.0, "full_thop": 4.0}


def films(right: str, thop: float, **more: Any) -> list[Prediction]:
    known = {"method": "", "choice": None, "tokens_per_layer": None, "text": "", "groups": {}, "timings_ms": {}}
    known |= {"answer": "A", "flops": COUNTS | {"thop": thop}, "memory": {"kv_cache": 1.0, "full_kv_cache": 2.0}}
    return [
        Prediction(
            **{"question_id": f"{film}.{nth}", **known, **more},
            outcome="correct" if hit == "1" else "wrong",
            score=float(hit),
            cluster=f"f{film}",
        )
        for film, word in enumerate(right.split())
        for nth, hit in enumerate(word)
    ]


def run(
    entry: Mapping[str, Any], benchmark: str, right: str, thop: float = 1.0, config: Any = None, **more: Any
) -> Finished:
    ratio = entry.get("retention_ratio")
    said = {"backbone": "llava_video_7b", **entry, "benchmark": benchmark}
    choices = {"backbone": said["backbone"], "benchmark": benchmark, "pruner": said["method"]}
    settings = {"benchmark": {}, "backbone": {}, "pruner": {}, "budget": {"retention_ratio": ratio}, **(config or {})}
    name = f"{'_'.join(map(str, entry.values()))}_{benchmark}"
    row = Row(said["method"], name, Path(), choices, (), settings, said)
    return Finished(row, films(right, thop, **more), {"valid": True}, Path())


def rate(right: str) -> float:
    return 100 * right.count("1") / len(right.replace(" ", ""))


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_printed_means_over_retention() -> None:
    """Vista-LLM's table 1: the mean of four benchmarks, the lengths of Video-MME left out; the unpruned model has no
    place along the axis."""
    points = printed(FOLDER, ["vista_table1"], "retention_ratio")
    none = {"panel": MEAN, "series": "llava_onevision_7b none", "retention_ratio": None}
    assert {key: points[0][key] for key in none} == none
    assert points[0]["accuracy"] == pytest.approx(mean([58.56, 58.26, 68.11, 58.74]), abs=0.005)
    vista = {point["retention_ratio"]: point["accuracy"] for point in points if point["series"].endswith(" vista")}
    assert sorted(vista) == [0.1, 0.15, 0.2, 0.25]
    assert len(points) == 18
    # published/README.md: DyCoke's row is LLaVA-Video's, and FrameFusion's has one score twice, so another mean
    assert [point["series"].split()[1] for point in points if point["doubted"]] == ["dycoke", "framefusion"]


def test_printed_means_over_flops() -> None:
    """KVTP's table 2: three parts of SparseKV-QA over THOP's share."""
    points = printed(FOLDER, ["kvtp_table2", "kvtp_table3"], FLOPS)
    assert len(points) == 2 * 9
    first = points[0]
    assert first["accuracy"] == pytest.approx((62.63 + 54.17 + 78.51) / 3)
    assert (first["series"], first[FLOPS]) == ("llava_video_7b none", 100)
    assert {point["series"].split()[0] for point in points} == {"llava_video_7b", "llava_video_72b"}


def test_backbones_that_there_are_not_have_no_point() -> None:
    points = printed(FOLDER, ["llm_vtp_table1"], "retention_ratio")
    assert {point["series"].split()[0] for point in points} == {"pllava_7b", "st_llm_7b", "tarsier_7b", "videochat2_7b"}


def test_empty_cells_have_no_point(tmp_path: Path) -> None:
    lines = [
        "paper,table,backbone,method,setting,benchmark,metric,value,unit",
        "vista,table1,llava_video_7b,none,,mlvu,accuracy,,%",
        "vista,table1,llava_video_7b,none,,efficiency,flops_ratio,100,%",
        "vista,table1,llava_video_7b,vista,retention=25%,mlvu,accuracy,60.0,%",
        "vista,table1,llava_video_7b,vista,retention=25%,videomme_long,accuracy,10.0,%",
        "vista,table1,llava_video_7b,vista,retention=25%,average,average_score,99.0,%",
    ]
    (tmp_path / "vista_table1.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "reasons.csv").write_text(REASONS)
    [point] = printed(tmp_path, ["vista_table1"], "retention_ratio")
    expected = {"panel": MEAN, "series": "llava_video_7b vista", "retention_ratio": 0.25, "accuracy": 99.0}
    assert point == {**expected, "doubted": False}


def shown(runs: list[Finished], axis: str, panels: bool) -> list[dict[str, Any]]:
    """Of an experiment of which all is finished."""
    return measured([run.row for run in runs], runs, axis, panels)


# -- what was measured -------------------------------------------------------------------------------------------------


def test_measured_means_of_benchmarks() -> None:
    runs = [run({"method": "tome", "retention_ratio": 0.2}, name, right) for name, right in SETS.items()]
    [point] = shown(runs, "retention_ratio", panels=False)
    assert (point["panel"], point["series"], point["retention_ratio"]) == (MEAN, "llava_video_7b tome", 0.2)
    assert point["accuracy"] == pytest.approx(mean(map(rate, SETS.values())))
    assert point["low"] < point["accuracy"] < point["high"]


def test_panels_are_benchmarks() -> None:
    runs = [run({"method": "tome", "retention_ratio": 0.2}, name, right) for name, right in SETS.items()]
    points = shown(runs, "retention_ratio", panels=True)
    assert {point["panel"]: point["accuracy"] for point in points} == pytest.approx(
        {name: rate(right) for name, right in SETS.items()}
    )
    for point in points:
        told = films(SETS[point["panel"]], 1.0)
        assert (point["low"], point["high"]) == pytest.approx(interval(told), abs=2)


def test_a_panel_of_grades_says_so() -> None:
    """VCGBench's scores are a judge's, 0 to 5; a run has their share of 5."""
    [point] = shown(
        [run({"method": "tome", "retention_ratio": 0.2}, "vcgbench", "1 0")], "retention_ratio", panels=True
    )
    assert point["panel"].startswith("vcgbench")
    assert "of 5" in point["panel"]


def test_one_film_has_no_interval() -> None:
    [point] = shown([run({"method": "tome", "retention_ratio": 0.2}, "mlvu", "110")], "retention_ratio", panels=True)
    assert (point["accuracy"], point["low"], point["high"]) == (pytest.approx(200 / 3), None, None)


def test_a_mean_of_fewer_benchmarks_is_left_out() -> None:
    runs = [run({"method": "tome", "retention_ratio": 0.2}, name, right) for name, right in SETS.items()]
    runs.append(run({"method": "random", "retention_ratio": 0.2}, "mlvu", "1 0"))
    assert [point["series"] for point in shown(runs, "retention_ratio", panels=False)] == ["llava_video_7b tome"]
    series = [point["series"] for point in shown(runs, "retention_ratio", panels=True)]
    assert sorted(series) == ["llava_video_7b random", "llava_video_7b tome", "llava_video_7b tome"]


def test_a_mean_of_the_benchmarks_that_are_finished_by_now_is_left_out() -> None:
    """All rows have one and the same set so far."""
    rows = [
        [run({"method": method, "retention_ratio": 0.2}, name, right) for name, right in SETS.items()]
        for method in ("tome", "random")
    ]
    asked = [one.row for each in rows for one in each]
    assert measured(asked, [each[0] for each in rows], "retention_ratio", panels=False) == []
    assert len(measured(asked, [each[0] for each in rows], "retention_ratio", panels=True)) == 2
    assert len(measured(asked, rows[0] + rows[1][:1], "retention_ratio", panels=False)) == 1


def test_what_was_refused_has_no_point() -> None:
    entry = {"method": "tome", "retention_ratio": 0.2}
    refused = run(entry, "mlvu", "00 0", flops=None, answer="A")
    refused = Finished(
        refused.row,
        [Prediction(**{**vars(one), "outcome": "refused"}) for one in refused.predictions],
        refused.told,
        Path(),
    )
    assert shown([refused], "retention_ratio", panels=True) == []
    unread = run(entry, "mlvu", "00 0", flops=None)
    assert shown([unread], FLOPS, panels=True) == []


def test_a_run_with_too_many_failures_has_no_point() -> None:
    one = run({"method": "tome", "retention_ratio": 0.2}, "mlvu", "1 0")
    assert shown([replace(one, told={"valid": False})], "retention_ratio", panels=True) == []


def test_points_on_figures_in_doubt_are_told(tmp_path: Path) -> None:
    """A printed mean is what is drawn, so its doubts count, else those of its parts."""
    said = "vista,table1,llava_video_7b,vista,retention={}%,{},{},{},%"
    lines = ["paper,table,backbone,method,setting,benchmark,metric,value,unit"]
    for ratio in (25, 20, 15):
        lines += [said.format(ratio, "mlvu", "accuracy", 60), said.format(ratio, "mvbench", "accuracy", 70)]
    lines += [said.format(ratio, "average", "average_score", 66) for ratio in (25, 20)]
    (tmp_path / "vista_table1.csv").write_text("\n".join(lines) + "\n")
    doubts = [(25, "average", "misprint"), (20, "mlvu", "duplicate"), (20, "average", "denominator")]
    rows = [f"vista_table1,*,*,retention={ratio}%,{name},*,{kind},x" for ratio, name, kind in doubts]
    rows += ["vista_table1,*,*,retention=15%,mlvu,*,misprint,x"]
    (tmp_path / "reasons.csv").write_text("\n".join([REASONS, *rows]))
    points = printed(tmp_path, ["vista_table1"], "retention_ratio")
    told = {point["retention_ratio"]: (point["accuracy"], point["doubted"]) for point in points}
    assert told == {0.25: (66, True), 0.2: (66, False), 0.15: (65, True)}


def test_the_unpruned_model_has_no_place_along_a_setting() -> None:
    runs = [run({"method": "none"}, "mlvu", "11 10"), run({"method": "tome", "retention_ratio": 0.2}, "mlvu", "1 0")]
    places = {point["series"]: point["retention_ratio"] for point in shown(runs, "retention_ratio", panels=True)}
    assert places == {"llava_video_7b none": None, "llava_video_7b tome": 0.2}


def test_flops_are_thops_share_mean_over_the_sets() -> None:
    entry = {"method": "tome", "retention_ratio": 0.2}
    runs = [run(entry, "mlvu", SETS["mlvu"], thop=1.0), run(entry, "mvbench", SETS["mvbench"], thop=2.0)]
    [point] = shown(runs, FLOPS, panels=False)
    assert point[FLOPS] == pytest.approx(100 * mean([1 / 4, 2 / 4]))


def test_a_setting_is_the_entrys_or_else_the_configurations() -> None:
    """A stand-in may be set otherwise than the paper's row says."""
    entry = {"method": "vista", "retention_ratio": 0.25, "pruner.rho": 0.85}
    config = {"pruner": {"rho": 0.5, "neighbours": 7}}
    one = run(entry, "mlvu", "1 0", config=config)
    assert [point["pruner.rho"] for point in shown([one], "pruner.rho", panels=True)] == [0.85]
    assert [point["pruner.neighbours"] for point in shown([one], "pruner.neighbours", panels=True)] == [7]
    assert [point["pruner.none"] for point in shown([one], "pruner.none", panels=True)] == [None]


def test_ratios_are_told_in_the_series_where_another_setting_is_swept() -> None:
    runs = [
        run({"method": "vista", "retention_ratio": ratio, "pruner.rho": rho}, "mlvu", "1 0")
        for ratio in (0.25, 0.1)
        for rho in (0.2, 0.4)
    ]
    points = shown(runs, "pruner.rho", panels=True)
    assert [(point["series"], point["pruner.rho"]) for point in points] == [
        ("llava_video_7b vista at 0.25", 0.2),
        ("llava_video_7b vista at 0.25", 0.4),
        ("llava_video_7b vista at 0.1", 0.2),
        ("llava_video_7b vista at 0.1", 0.4),
    ]


def test_the_backbone_of_the_paper_names_a_stand_ins_series() -> None:
    one = run({"method": "tome", "retention_ratio": 0.2}, "mlvu", "1 0")
    stood = Row(**{**vars(one.row), "choices": {**one.row.choices, "backbone": "tiny"}})
    [point] = shown([replace(one, row=stood)], "retention_ratio", panels=True)
    assert point["series"] == "llava_video_7b tome"
    assert point["on"] == "tiny"
    assert point["caveats"] == ("run on tiny, not on llava_video_7b",)
