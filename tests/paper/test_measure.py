"""What runs say to a printed cell, by plain arithmetic over answers that are typed here, and a bootstrap written anew.

Cells are those of published/; what is run is found by backbone, method and benchmark alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from kvtp.config import Row
from kvtp.paper import join
from kvtp.paper.measure import Finished, Found, caveats, measure
from kvtp.paper.published import Cell, read
from kvtp.types import Prediction

FOLDER = Path(__file__).resolve().parents[2] / "published"
FOUR = ("mvbench", "longvideobench", "mlvu", "videomme")
Key = tuple[str, str, str]  # backbone, method, benchmark
FULL, OWN = ("llava_onevision_7b", "none"), ("llava_onevision_7b", "vista")
TASKS = {  # as MVBench's paper abbreviates them (its table 1), and as its files are called
    "AS": "action_sequence",
    "AP": "action_prediction",
    "AA": "action_antonym",
    "FA": "fine_grained_action",
    "UA": "unexpected_action",
    "OE": "object_existence",
    "OI": "object_interaction",
    "OS": "object_shuffle",
    "MD": "moving_direction",
    "AL": "action_localization",
    "ST": "scene_transition",
    "AC": "action_count",
    "MC": "moving_count",
    "MA": "moving_attribute",
    "SC": "state_change",
    "FP": "fine_grained_pose",
    "CO": "character_order",
    "EN": "egocentric_navigation",
    "ER": "episodic_reasoning",
    "CI": "counterfactual_inference",
}


def told(score: float | None, film: str = "f", **more: Any) -> Prediction:
    known = {"outcome": "correct" if score else "wrong", "text": "A", "answer": "A", "groups": {}, "timings_ms": {}}
    return Prediction(
        **{"question_id": "", "method": "", "choice": None, "tokens_per_layer": None, **known, **more},
        score=score,
        cluster=film,
    )


def films(right: str, **more: Any) -> list[Prediction]:
    """A word per film, a character per question: `11 01 0`."""
    return [told(float(hit), f"f{nth}", **more) for nth, word in enumerate(right.split()) for hit in word]


def percent(right: str) -> float:
    hits = [int(hit) for hit in right.replace(" ", "")]
    return 100 * sum(hits) / len(hits)


def finished(key: Key, predictions: Sequence[Prediction], config: Mapping[str, Any] | None = None) -> Finished:
    backbone, method, benchmark = key
    choices = {"backbone": backbone, "benchmark": benchmark, "pruner": method}
    entry = {"backbone": backbone, "method": method, "benchmark": benchmark}
    row = Row(method, "_".join(key), Path(), choices, (), {"benchmark": dict(config or {})}, entry)
    return Finished(row, predictions, {"valid": True}, Path())


def cells(table: str, **words: str) -> list[Cell]:
    """Of a table, those whose words are these, or begin so where one ends in `…`."""

    def fits(said: str, word: str) -> bool:
        return said.startswith(word[:-1]) if word.endswith("…") else said == word

    return [cell for cell in read(FOLDER, table) if all(fits(getattr(cell, key), word) for key, word in words.items())]


def asked(runs: Sequence[Finished], cell: Cell) -> Found:
    """As a sheet asks: with the table's sets and the cell's line."""
    known = {(run.row.choices["backbone"], run.row.name, run.row.choices["benchmark"]): run for run in runs}
    whole = read(FOLDER, cell.table)
    line = [
        one for one in whole if (one.backbone, one.method, one.setting) == (cell.backbone, cell.method, cell.setting)
    ]
    return measure(
        cell, join.table_sets(whole), line, lambda entry, name: known.get((entry["backbone"], entry["method"], name))
    )


def answered(runs: Mapping[Key, Sequence[Prediction]], table: str, **words: str) -> Found:
    cell = cells(table, **words)[0]
    return asked([finished(key, predictions) for key, predictions in runs.items()], cell)


def bootstrap(sets: Sequence[Sequence[Sequence[Prediction]]], figure: Callable[[Any], float]) -> np.ndarray:
    """Of each set (its runs) films are drawn, with replacement, for every run the same; `figure` of [set][run]."""
    rng, found = np.random.default_rng(7), []
    for _ in range(2000):
        world = []
        for runs in sets:
            known = sorted({one.cluster for one in runs[0]})
            chosen = [known[nth] for nth in rng.integers(0, len(known), len(known))]
            world.append([[one.score for film in chosen for one in run if one.cluster == film] for run in runs])
        found.append(figure(world))
    return np.percentile(found, [2.5, 97.5])


# -- accuracies --------------------------------------------------------------------------------------------------------

VISTA = {"mvbench": "1 1 0 1 0 1", "longvideobench": "10 01 11", "mlvu": "111 110 1 0", "videomme": "100 011 010 111"}
PLAIN = {"mvbench": "1 1 1 1 0 1", "longvideobench": "11 01 11", "mlvu": "111 110 1 1", "videomme": "110 011 110 101"}


def four() -> dict[Key, list[Prediction]]:
    """Vista-LLM's row and the unpruned one, on four sets of different sizes."""
    return {
        **{(*OWN, name): films(right) for name, right in VISTA.items()},
        **{(*FULL, name): films(right) for name, right in PLAIN.items()},
    }


def test_accuracy_of_a_benchmark() -> None:
    found = answered(four(), "vista_table1", backbone=OWN[0], method="vista", benchmark="mlvu")
    assert found.value == pytest.approx(percent(VISTA["mlvu"]))
    assert found.missing == ""
    assert [run.row.run_id for run in found.runs] == ["llava_onevision_7b_vista_mlvu"], "no other run is needed"
    expected = bootstrap([[films(VISTA["mlvu"])]], lambda world: 100 * np.mean(world[0][0]))
    assert found.interval == pytest.approx(expected, abs=4)  # steps of a bootstrap over four films


def test_failures_count_and_unlabelled_questions_do_not() -> None:
    failed = [
        told(None, "f", outcome=outcome, text="") for outcome in ("load_error", "model_error", "unparsed", "refused")
    ]
    others = [told(None, "g", outcome="unlabelled", answer=None), told(1.0, "g"), told(0.5, "h")]
    found = answered({(*OWN, "mlvu"): failed + others}, "vista_table1", method="vista", benchmark="mlvu")
    assert found.value == pytest.approx(100 * 1.5 / 6)


def test_average_is_of_benchmarks_not_of_questions() -> None:
    found = answered(four(), "vista_table1", backbone=OWN[0], method="vista", metric="average_score")
    assert found.value == pytest.approx(mean(map(percent, VISTA.values())))
    assert found.value != pytest.approx(percent("".join(VISTA.values())), abs=0.1)
    sets = [[films(right)] for right in VISTA.values()]
    expected = bootstrap(sets, lambda world: 100 * mean(np.mean(runs[0]) for runs in world))
    assert found.interval == pytest.approx(expected, abs=1.5)


def test_average_percent_is_a_ratio_of_means() -> None:
    found = answered(four(), "vista_table1", backbone=OWN[0], method="vista", metric="average_percent")
    own, full = (mean(map(percent, part.values())) for part in (VISTA, PLAIN))
    assert found.value == pytest.approx(100 * own / full)
    ratios = [percent(VISTA[name]) / percent(PLAIN[name]) for name in FOUR]
    assert found.value != pytest.approx(100 * mean(ratios), abs=0.1)
    sets = [[films(VISTA[name]), films(PLAIN[name])] for name in FOUR]
    expected = bootstrap(
        sets, lambda world: 100 * sum(np.mean(own) for own, _ in world) / sum(np.mean(full) for _, full in world)
    )
    assert found.interval == pytest.approx(expected, abs=1.5)


def test_the_unpruned_row_is_all_of_itself_for_certain() -> None:
    found = answered(four(), "vista_table1", backbone=OWN[0], method="none", metric="average_percent")
    assert (found.value, found.interval) == (pytest.approx(100), pytest.approx((100, 100)))


def test_a_relative_figure_waits_for_the_unpruned_run() -> None:
    runs = four()
    del runs[*FULL, "mlvu"]
    found = answered(runs, "vista_table1", backbone=OWN[0], method="vista", metric="average_percent")
    assert (found.value, found.missing) == (None, "not run")
    assert answered(runs, "vista_table1", backbone=OWN[0], method="vista", metric="average_score").value is not None


def test_no_ratio_to_a_score_of_nothing() -> None:
    runs = four() | {(*FULL, name): films("0 0 00") for name in FOUR}
    found = answered(runs, "vista_table1", backbone=OWN[0], method="vista", metric="average_percent")
    assert (found.value, found.interval, found.missing) == (None, None, "a ratio to a score of 0")


def test_one_film_has_no_interval() -> None:
    found = answered({(*OWN, "mlvu"): films("1101")}, "vista_table1", method="vista", benchmark="mlvu")
    assert (found.value, found.interval) == (pytest.approx(75), None)


def test_lengths_of_video_mme() -> None:
    parts = {"short": "11 01", "medium": "1 1 0 1", "long": "000 100"}
    whole = [one for part, right in parts.items() for one in films(right, groups={"duration": part})]
    runs = {(*OWN, "videomme"): [replace(one, cluster=f"{one.groups['duration']} {one.cluster}") for one in whole]}
    for part, right in parts.items():
        found = answered(runs, "vista_table1", method="vista", benchmark=f"videomme_{part}")
        assert found.value == pytest.approx(percent(right))
    found = answered(runs, "vista_table1", method="vista", benchmark="videomme")
    assert found.value == pytest.approx(percent("".join(parts.values())))


def test_tasks_of_mvbench_by_their_short_names() -> None:
    """Task number n of 20 has n right of 20."""
    key = ("pllava_7b", "none", "mvbench")
    each = {
        short: [told(float(nth < number), f"{short}{nth}", groups={"task": task}) for nth in range(20)]
        for number, (short, task) in enumerate(TASKS.items(), 1)
    }
    runs = {key: [one for part in each.values() for one in part]}
    for number, short in enumerate(TASKS, 1):
        found = answered(runs, "llm_vtp_table1", backbone="pllava_7b", method="none", benchmark=f"mvbench_{short}")
        assert found.value == pytest.approx(5 * number)
    found = answered(runs, "llm_vtp_table1", backbone="pllava_7b", method="none", benchmark="mvbench")
    assert found.value == pytest.approx(5 * 10.5)


def test_differences_and_their_average_over_the_printed_tasks() -> None:
    """LLM-VTP's table 10: three tasks of MVBench; a fourth is in no column of it."""
    own = {"AS": "1101", "AP": "10", "ER": "111", "CI": "0000"}
    full = {"AS": "1001", "AP": "00", "ER": "110", "CI": "1111"}

    def run(right: Mapping[str, str]) -> list[Prediction]:
        return [
            told(float(hit), f"{task}{nth}", groups={"task": TASKS[task]})
            for task, word in right.items()
            for nth, hit in enumerate(word)
        ]

    runs = {("pllava_7b", "llm_vtp", "mvbench"): run(own), ("pllava_7b", "none", "mvbench"): run(full)}
    line = {"method": "llm_vtp", "setting": "retention=20%"}
    for task in ("AS", "AP", "ER"):
        found = answered(runs, "llm_vtp_table10", **line, benchmark=f"mvbench_{task}", metric="accuracy_delta")
        assert found.value == pytest.approx(percent(own[task]) - percent(full[task]))
    means = [mean(percent(right[task]) for task in ("AS", "AP", "ER")) for right in (own, full)]
    assert answered(runs, "llm_vtp_table10", **line, benchmark="average", metric="accuracy").value == pytest.approx(
        means[0]
    )
    found = answered(runs, "llm_vtp_table10", **line, benchmark="average", metric="accuracy_delta")
    assert found.value == pytest.approx(means[0] - means[1])


def test_two_equal_runs_differ_by_nothing_for_certain() -> None:
    same = [told(float(nth % 3 > 0), f"f{nth}", groups={"task": "action_sequence"}) for nth in range(20)]
    runs = {("pllava_7b", "llm_vtp", "mvbench"): same, ("pllava_7b", "none", "mvbench"): same}
    found = answered(runs, "llm_vtp_table10", method="llm_vtp", benchmark="mvbench_AS", metric="accuracy_delta")
    assert (found.value, found.interval) == (0, (0, 0))


# -- judged sets -------------------------------------------------------------------------------------------------------


def judged(scale: float = 1) -> list[Prediction]:
    """VCGBench as Video-ChatGPT asks it: generic questions have three aspects, the others one; one reply is empty."""
    generic = [
        {"correctness": 4.0, "detail orientation": 2.0, "contextual understanding": 5.0},
        {"correctness": 1.0, "detail orientation": 3.0, "contextual understanding": 4.0},
        {"correctness": 2.0, "detail orientation": 2.0, "contextual understanding": 0.0},
    ]
    grades = [("generic", one) for one in generic]
    grades += [("temporal", {"temporal understanding": 3.0}), ("consistency", {"consistency": 1.0})]
    grades += [("consistency", {"consistency": 2.0})]
    rows = [
        told(0.2, f"f{nth}", outcome="scored", groups={"kind": kind}, judged={one: scale * said[one] for one in said})
        for nth, (kind, said) in enumerate(grades)
    ]
    return [*rows, told(0.0, "f9", outcome="empty", groups={"kind": "temporal"})]


ASPECTS = {"CI": 7 / 3, "DO": 7 / 3, "CU": 9 / 3, "TU": 3 / 2, "CO": 3 / 2}  # of those grades


@pytest.mark.parametrize("letters", ASPECTS)
def test_aspects_of_vcgbench(letters: str) -> None:
    runs = {("pllava_7b", "none", "vcgbench"): judged()}
    words = {"backbone": "pllava_7b", "method": "none", "benchmark": f"vcgbench_{letters}"}
    assert answered(runs, "llm_vtp_table2", **words).value == pytest.approx(ASPECTS[letters])


def test_vcgbench_is_the_mean_of_its_five_aspects() -> None:
    runs = {("pllava_7b", "none", "vcgbench"): judged()}
    found = answered(runs, "llm_vtp_table2", backbone="pllava_7b", method="none", benchmark="vcgbench")
    assert found.value == pytest.approx(mean(ASPECTS.values()))


def test_accuracy_and_score_of_open_answers() -> None:
    """The judge's score of five is not the share of right answers, and what is empty counts 0 in both."""
    rows = [told(1.0, "f", judged={"score": 4.0}), told(0.0, "g", judged={"score": 2.0})]
    rows += [told(1.0, "h", judged={"score": 5.0}), told(0.0, "i", outcome="empty")]
    words = {"backbone": "pllava_7b", "method": "none", "benchmark": "msvd_qa"}
    runs = {("pllava_7b", "none", "msvd_qa"): rows}
    assert answered(runs, "llm_vtp_table2", **words, metric="accuracy").value == pytest.approx(50)
    assert answered(runs, "llm_vtp_table2", **words, metric="score").value == pytest.approx(11 / 4)


def test_relative_accuracy_is_a_mean_of_ratios() -> None:
    """LLM-VTP's table 9: over both backbones, and the average over the five sets as well."""
    sets = ("msvd_qa", "msrvtt_qa", "activitynet_qa", "tgif_qa")
    pllava = {"none": "1111 1110", "llm_vtp": "1101 0110"}
    tarsier = {"none": "1100 1000", "llm_vtp": "1100 1010"}
    runs: dict[Key, list[Prediction]] = {}
    for backbone, right in (("pllava_7b", pllava), ("tarsier_7b", tarsier)):
        for method, hits in right.items():
            runs |= {
                (backbone, method, name): films(hits + " 1" * nth, judged={"score": 1.0})
                for nth, name in enumerate(sets)
            }
    runs |= {("pllava_7b", "none", "vcgbench"): judged(), ("pllava_7b", "llm_vtp", "vcgbench"): judged(0.5)}
    runs |= {("tarsier_7b", "none", "vcgbench"): judged(), ("tarsier_7b", "llm_vtp", "vcgbench"): judged(0.9)}

    ratios = {
        name: mean(percent(one["llm_vtp"] + "1" * nth) / percent(one["none"] + "1" * nth) for one in (pllava, tarsier))
        for nth, name in enumerate(sets)
    } | {"vcgbench": 0.7}
    for name, ratio in ratios.items():
        found = answered(runs, "llm_vtp_table9", method="llm_vtp", benchmark=name)
        assert found.value == pytest.approx(100 * ratio)
    found = answered(runs, "llm_vtp_table9", method="llm_vtp", benchmark="average")
    assert found.value == pytest.approx(100 * mean(ratios.values()))
    assert len(found.runs) == 2 * 2 * 5
    del runs["tarsier_7b", "none", "vcgbench"]
    assert answered(runs, "llm_vtp_table9", method="llm_vtp", benchmark="average").missing == "not run"


# -- by the films' length ----------------------------------------------------------------------------------------------

LENGTHS = {"lt3m": (0.0, 179.9), "3-10m": (180.0, 599.0), "10-20m": (600.0, 1199.0), "20-30m": (1200.0, 1799.0)}
LENGTHS |= {"gt30m": (1800.0, 9000.0)}
THREE = ("videomme", "mlvu", "longvideobench")


def by_length(right: str) -> list[Prediction]:
    """Two films of each of LENGTHS, of which `right` has a word; and one that could not be read."""
    words = right.split()
    rows = [
        told(float(hit), f"{part}{nth}", seconds=LENGTHS[part][nth % 2])
        for part, word in zip(LENGTHS, words, strict=True)
        for nth, hit in enumerate(word)
    ]
    return [*rows, told(None, "unread", outcome="load_error", text="")]


LONG_FULL = {"videomme": "11 11 10 01 11", "mlvu": "11 1111 11 11 10", "longvideobench": "10 11 11 11 00"}
LONG_OWN = {"videomme": "11 10 10 11 01", "mlvu": "10 1110 11 11 11", "longvideobench": "11 11 10 00 00"}


def lengths() -> dict[Key, list[Prediction]]:
    backbone = "llava_video_7b"
    return {
        (backbone, method, name): by_length(right[name])
        for method, right in (("none", LONG_FULL), ("vista", LONG_OWN))
        for name in THREE
    }


@pytest.mark.parametrize(("part", "nth"), [(part, nth) for nth, part in enumerate(LENGTHS)])
def test_change_by_length_is_of_all_questions_together(part: str, nth: int) -> None:
    own, full = (sum(right[name].split()[nth].count("1") for name in THREE) for right in (LONG_OWN, LONG_FULL))
    found = answered(lengths(), "vista_table9", backbone="llava_video_7b", setting=f"retention=25%;duration={part}")
    assert found.value == pytest.approx(100 * (own / full - 1))


def test_overall_change() -> None:
    own, full = (sum(right[name].count("1") for name in THREE) for right in (LONG_OWN, LONG_FULL))
    found = answered(lengths(), "vista_table9", backbone="llava_video_7b", setting="retention=25%;duration=overall")
    assert found.value == pytest.approx(100 * (own / full - 1))


def test_sizes_by_length() -> None:
    """A film that could not be read is of no length, but of the set."""
    for nth, part in enumerate(LENGTHS):
        found = answered(lengths(), "vista_table9", method="dataset", setting=f"duration={part}")
        assert (found.value, found.interval) == (sum(len(LONG_FULL[name].split()[nth]) for name in THREE), None)
    found = answered(lengths(), "vista_table9", method="dataset", setting="duration=overall")
    assert found.value == sum(len(right.replace(" ", "")) + 1 for right in LONG_FULL.values())


# -- of the data set ---------------------------------------------------------------------------------------------------

SPARSE = ("sparsekv_qa_videomme", "sparsekv_qa_egoschema", "sparsekv_qa_nextqa")


def test_size_and_length_of_sparsekv_qa() -> None:
    """Length is of films: one with many questions counts once, and films of two sets are two whatever their names."""
    runs = {
        ("llava_video_7b", "none", name): [
            told(1.0, "f", seconds=seconds),
            told(1.0, "f", seconds=seconds),
            told(1.0, "g", seconds=40.0),
            told(None, "h", outcome="load_error", text=""),
        ]
        for name, seconds in zip(SPARSE, (10.0, 20.0, 90.0), strict=True)
    }
    assert answered(runs, "kvtp_table1", benchmark="sparsekv_qa", metric="size").value == 12
    found = answered(runs, "kvtp_table1", benchmark="sparsekv_qa", metric="length_s")
    assert found.value == pytest.approx((10 + 20 + 90 + 3 * 40) / 6)
    unread = {key: [told(None, "h", outcome="load_error", text="")] for key in runs}
    assert answered(unread, "kvtp_table1", benchmark="sparsekv_qa", metric="length_s").missing == "no film was read"


def test_sparsity_of_sparsekv_qa(tmp_path: Path) -> None:
    """KVTP §3: the largest of softmax(score / 2) over their mean, mean over the questions that have labels."""
    labels = {name: [[8.0, 0.0, 0.0], [1.0, 2.0, 3.0, float(nth)]] for nth, name in enumerate(SPARSE)}
    runs, every = [], []
    for name, scores in labels.items():
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"id": str(nth), "video": "v.mp4", "question": "?", "relevance": one} for nth, one in enumerate(scores)]
        rows.append({"id": "9", "video": "v.mp4", "question": "no label"})
        (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {"_target_": "kvtp.benchmark.folder.Folder", "root": str(folder), "questions": "questions.jsonl"}
        config |= {"videos": "videos", "split": None, "limit": None}
        runs.append(finished(("llava_video_7b", "none", name), films("1 0 1"), config))
        for one in scores:
            powers = [exp(score / 2) for score in one]
            every.append(max(powers) / sum(powers) * len(powers))
    [cell] = cells("kvtp_table1", benchmark="sparsekv_qa", metric="sparsity")
    assert asked(runs, cell).value == pytest.approx(mean(every))
    for name in SPARSE:
        (tmp_path / name / "questions.jsonl").write_text('{"id": "9", "video": "v.mp4", "question": "no label"}\n')
    assert asked(runs, cell).missing == "its questions have no labels"


# -- costs -------------------------------------------------------------------------------------------------------------

WHOLE = {"kvtp": 100.0, "prefill": 80.0, "rows": 50.0, "fastv": 6e12, "vision": 8e12, "cues": 0.0, "predictor": 0.0}
WHOLE |= {"selection": 0.0, "decode": 1e12, "prefill_causal": 70.0, "thop": 90.0}


def spent(part: float, steps: int = 7, **more: Any) -> Prediction:
    """A question that cost this part of WHOLE."""
    flops = {key: part * value for key, value in WHOLE.items()} | {f"full_{key}": value for key, value in WHOLE.items()}
    # so that the conventions differ
    flops |= {"prefill": (part + 0.1) * WHOLE["prefill"], "rows": (part + 0.2) * WHOLE["rows"]}
    memory = {"kv_cache": 1.0, "full_kv_cache": 2.0}
    return told(1.0, flops=flops, **{"memory": memory, "steps": (steps,), **more})


@pytest.mark.parametrize(
    ("table", "words", "sets", "more"),
    [
        ("kvtp_table2", {"backbone": "llava_video_7b", "method": "random_kvtp"}, SPARSE, 0),
        ("vista_table1", {"backbone": "llava_onevision_7b", "method": "vista"}, FOUR, 0.2),  # rows of the LLM
        ("vista_table2", {"backbone": "llava_video_7b", "method": "dycoke"}, FOUR, 0.2),  # which has no newlines
        ("vista_table3", {"backbone": "qwen2_5_vl_7b", "method": "vista"}, ("mlvu", "mvbench"), 0.1),  # prefill
    ],
)
def test_flops_ratios_as_their_papers_count(
    table: str, words: dict[str, str], sets: Sequence[str], more: float
) -> None:
    """Of a set a question's mean, of which the larger one has more, to that of the unpruned row, whatever the row
    itself would cost with all tokens; then the mean over the sets."""
    larger = spent(0.5)
    assert larger.flops is not None
    larger = replace(larger, flops={key: 3 * value for key, value in larger.flops.items()})
    failed = told(None, outcome="load_error", text="")
    runs = {(words["backbone"], words["method"], name): [spent(0.25), larger, failed] for name in sets}
    runs |= {(words["backbone"], "none", name): [spent(1), spent(1)] for name in sets}
    runs[words["backbone"], words["method"], sets[0]] = [spent(0.1)]
    others = (0.25 + more + 3 * (0.5 + more)) / 2
    expected = (0.1 + more + (len(sets) - 1) * others) / len(sets) / (1 + more)
    found = answered(runs, table, **words, metric="flops_ratio")
    assert (found.value, found.interval) == (pytest.approx(100 * expected), None)


def test_tflops_of_llm_vtp() -> None:
    """By FastV's formula, mean over the questions, then over the table's four sets."""
    backbone, sets = "videochat2_7b", ("mvbench", "videomme", "egoschema_subset", "egoschema")
    runs = {(backbone, "llm_vtp", name): [spent(0.5), spent(0.25)] for name in sets}
    runs[backbone, "llm_vtp", "mvbench"] = [spent(1)]
    found = answered(runs, "llm_vtp_table8", backbone=backbone, method="llm_vtp", metric="tflops")
    assert found.value == pytest.approx((6 + 3 * 6 * 0.375) / 4)


def test_seconds_and_speedup_are_of_means() -> None:
    """A new video's question: the parts' means in turn; reading the film, and what the scout did beside the others,
    takes no time. Of four sets the mean."""

    def timed(*prefill: float) -> list[Prediction]:
        return [
            spent(1, timings_ms={"prune": 100.0, "prefill": ms, "scout_beside": 5e3, "decode_video": 7e3, **first})
            for ms, first in zip(prefill, ({"vision": 1000.0}, {}, {}), strict=True)
        ]

    key = "llava_video_7b"
    runs = {(key, "none", name): timed(3000, 2000, 9000) for name in FOUR}
    runs |= {(key, "visionzip", name): timed(500, 400, 900) for name in FOUR}
    runs[key, "none", "mlvu"] = timed(4000, 4000, 4000)
    words = {"backbone": key, "method": "visionzip"}
    assert answered(runs, "vista_table4", **words, metric="seconds").value == pytest.approx(1.7)
    found = answered(runs, "vista_table4", **words, metric="speedup")
    assert found.value == pytest.approx((3 * (1.1 + 14 / 3) + 5.1) / 4 / 1.7)
    assert answered(runs, "vista_table4", method="none", metric="speedup").value == 1
    del runs[key, "none", "mlvu"]
    assert answered(runs, "vista_table4", **words, metric="speedup").missing == "not run"


def test_peak_memory_is_the_largest_of_a_set() -> None:
    memory = {"kv_cache": 1.0, "full_kv_cache": 2.0}
    rows = [spent(1, memory={**memory, "peak_answer": peak}) for peak in (2.5e9, 4e9, 3e9)]
    runs = {("llava_video_7b", "none", name): rows for name in FOUR}
    found = answered(runs, "vista_table4", method="none", metric="peak_memory_gb")
    assert found.value == pytest.approx(4)
    runs["llava_video_7b", "none", "mlvu"] = [spent(1)]
    found = answered(runs, "vista_table4", method="none", metric="peak_memory_gb")
    assert found.missing == "the peak is told of GPUs alone"


def test_decoding_length_is_a_token_more_than_the_steps() -> None:
    rows = [spent(1, steps=9), spent(1, steps=20), told(None, outcome="load_error", text="")]
    runs = {("pllava_7b", "none", "vcgbench"): rows}
    found = answered(runs, "llm_vtp_table3", method="none", metric="decoding_length")
    assert found.value == pytest.approx((10 + 21) / 2)
    runs = {("pllava_7b", "none", "vcgbench"): [replace(one, steps=None) for one in rows]}
    found = answered(runs, "llm_vtp_table3", method="none", metric="decoding_length")
    assert found.missing == "no reply was written, or runs of before did not tell its length"


# -- what there is no figure of ----------------------------------------------------------------------------------------


def refused(text: str) -> Prediction:
    return told(None, outcome="refused", text=text)


def waiting() -> Prediction:
    return told(None, outcome="judge_error", groups={"kind": "generic"})


UNLABELLED = told(None, outcome="unlabelled", answer=None)
UNREAD = told(None, outcome="load_error", text="", answer=None)
UNPUBLISHED = "its films and labels were not published"
NO_ANSWERS = "no answers were published: the report's task=submit writes the file for the server"
NO_VERDICTS = "replies are not judged yet: the same command of scripts/eval.py asks the judge again"
NO_JUDGE = "no judge was asked, answers were compared as they stand"
MLVU = {"backbone": "llava_onevision_7b", "method": "vista", "benchmark": "mlvu"}
LONG = {**MLVU, "benchmark": "videomme_long"}
PLLAVA = {"backbone": "pllava_7b", "method": "none"}
MSVD = {**PLLAVA, "benchmark": "msvd_qa"}


@pytest.mark.parametrize(
    ("table", "words", "missing"),
    [
        ("llm_vtp_table1", {"backbone": "video_llama_7b"}, "there is no backbone video_llama_7b here"),
        ("kvtp_table4", {"metric": "trained_params"}, "a count of weights, not a measurement"),
        ("kvtp_table1", {"benchmark": "full_dataset", "metric": "size"}, UNPUBLISHED),
        ("kvtp_table1", {"benchmark": "full_dataset", "metric": "sparsity"}, UNPUBLISHED),
        ("kvtp_table1", {"benchmark": "sparsekv_qa", "metric": "size"}, "not run"),
        ("kvtp_table2", {"metric": "flops_ratio"}, "not run"),
        ("vista_table1", MLVU, "not run"),
    ],
)
def test_without_runs_nothing_is_measured(table: str, words: dict[str, str], missing: str) -> None:
    assert answered({}, table, **words) == Found(missing=missing)


@pytest.mark.parametrize(
    ("table", "words", "predictions", "missing"),
    [
        ("vista_table1", MLVU, [UNLABELLED], NO_ANSWERS),
        ("vista_table1", MLVU, [UNLABELLED, UNREAD], NO_ANSWERS),
        ("vista_table1", MLVU, [refused("not at 5 %"), UNLABELLED], "not at 5 %"),
        (
            "llm_vtp_table2",
            {**PLLAVA, "benchmark": "vcgbench_CI"},
            [waiting(), told(0.0, outcome="empty")],
            NO_VERDICTS,
        ),
        ("llm_vtp_table2", {**MSVD, "metric": "accuracy"}, [waiting()], NO_VERDICTS),
        ("llm_vtp_table2", {**MSVD, "metric": "score"}, films("1 0"), NO_JUDGE),
        (
            "vista_table1",
            LONG,
            films("1 0", groups={"duration": "short"}),
            "none of the questions asked is of this kind",
        ),
        (
            "llm_vtp_table3",
            {**PLLAVA, "metric": "tflops"},
            films("0", outcome="load_error"),
            "no question was answered",
        ),
        ("llm_vtp_table3", {**PLLAVA, "metric": "tflops"}, [refused("not so")], "not so"),
    ],
)
def test_what_ended_without_a_figure_says_why(
    table: str, words: dict[str, str], predictions: list[Prediction], missing: str
) -> None:
    [name] = join.benchmarks(cells(table, **words)[0])
    found = answered({(words["backbone"], words["method"], name): predictions}, table, **words)
    assert (found.value, found.interval, found.missing) == (None, None, missing)


def test_a_reply_that_waits_for_its_judge_counts_nothing_beside_judged_ones() -> None:
    rows = [told(1.0, "f", judged={"score": 5.0}), told(None, "g", outcome="judge_error")]
    runs = {("pllava_7b", "none", "msvd_qa"): rows}
    assert answered(runs, "llm_vtp_table2", **PLLAVA, benchmark="msvd_qa", metric="accuracy").value == 50


def test_every_printed_cell_is_answered_one_way_or_another() -> None:
    """With no run at all: no figure, and a reason that is not empty; nothing raises."""
    reasons = set()
    for table in sorted(path.stem for path in FOLDER.glob("*_table*.csv")):
        for cell in read(FOLDER, table):
            found = asked([], cell)
            assert found.value is None, cell
            assert found.missing, cell
            reasons.add(found.missing if not found.missing.startswith("there is no backbone") else "no backbone")
    assert reasons == {"no backbone", "not run", "a count of weights, not a measurement", UNPUBLISHED}


# -- caveats -----------------------------------------------------------------------------------------------------------


def about(run: Finished) -> tuple[str, ...]:
    return caveats(Found(1.0, runs=(run,)))


def test_a_whole_run_on_its_own_backbone_has_no_caveat() -> None:
    config = {"root": "data/mlvu", "limit": None, "judge": None}
    assert about(finished((*OWN, "mlvu"), films("1 0"), config)) == ()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"root": "miniature", "limit": None}, "on a generated miniature of the set"),
        ({"root": "miniature", "limit": 7}, "on a generated miniature of the set"),
        ({"root": "data/mlvu", "limit": 7}, "on the first 7 questions of the set alone"),
        ({"root": "data/x", "limit": None, "judge": {"_target_": "x"}}, "answers compared as they stand, by no judge"),
    ],
)
def test_caveats_of_the_set(config: dict[str, Any], expected: str) -> None:
    assert about(finished((*OWN, "mlvu"), films("1 0"), config)) == (expected,)


def test_judged_replies_have_no_caveat() -> None:
    rows = films("1 0", judged={"score": 3.0})
    assert about(finished((*OWN, "msvd_qa"), rows, {"root": "x", "limit": None, "judge": {"_target_": "x"}})) == ()


def test_a_stand_in_is_told() -> None:
    run = finished((*OWN, "mlvu"), films("1 0"))
    stood = replace(run, row=replace(run.row, choices={**run.row.choices, "backbone": "tiny"}))
    assert about(stood) == ("run on tiny, not on llava_onevision_7b",)


def test_settings_of_the_command_line_are_told() -> None:
    """Those that change replies, whatever the row says, but for what has a caveat of its own."""
    run = finished((*OWN, "mlvu"), films("1 0"))
    words = ("method=vista", "frames.count=8", "+judge=openai", "judge.budget=5", "benchmark.limit=2", "seed=3")
    words += ("backbone.device=cpu", "paths.outputs=x", "benchmark.preset=official", "experiment=vista_table1")
    run = replace(run, row=replace(run.row, overrides=("pruner.rho=0.5", *words), given=words))
    assert about(run) == ("with method=vista, frames.count=8, +judge=openai, seed=3, benchmark.preset=official",)


def test_weights_of_a_training_here_are_told() -> None:
    run = finished((*OWN, "mlvu"), films("1 0"))
    entry = {**run.row.entry, "scout.checkpoint": "${paths.outputs}/train/qformer/model"}
    (told,) = about(replace(run, row=replace(run.row, entry=entry)))
    assert told.startswith("with weights trained here")
    entry["scout.checkpoint"] = "Salesforce/blip2-itm-vit-g"
    assert about(replace(run, row=replace(run.row, entry=entry))) == ()


def test_failures_are_told() -> None:
    run = replace(finished((*OWN, "mlvu"), films("1 0")), told={"valid": False})
    assert about(run) == ("too many of its questions failed",)


def test_each_caveat_is_told_once_whichever_run_it_is_of() -> None:
    runs = [finished((*OWN, name), films("1 0"), {"root": "miniature"}) for name in FOUR]
    runs.append(finished((*OWN, "mlvu"), films("1 0"), {"root": "x", "limit": 3}))
    told = caveats(Found(1.0, runs=tuple(runs)))
    assert told == ("on a generated miniature of the set", "on the first 3 questions of the set alone")
