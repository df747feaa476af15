"""The papers' figures against sums over what they print, and against the lists made when the tables were checked
(anomalies.csv, empty_cells.csv, relabel_tarsier.csv): what does not add up has a reason, what does has none."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path
from statistics import mean

import pytest

from kvtp.paper.published import KEYS, Cell, Reason, read, reasons, tables

FOLDER = Path(__file__).resolve().parents[2] / "published"
TABLES = {  # lines, and those without a reason: what a measurement can be compared with
    "kvtp_table1": (6, 0),
    "kvtp_table2": (36, 6),
    "kvtp_table3": (36, 6),
    "kvtp_table4": (12, 3),
    "kvtp_web_llava_video_72b": (36, 6),
    "kvtp_web_llava_video_7b": (36, 6),
    "llm_vtp_table1": (294, 196),
    "llm_vtp_table2": (252, 0),
    "llm_vtp_table3": (16, 4),
    "llm_vtp_table4": (2, 0),
    "llm_vtp_table5": (2, 0),
    "llm_vtp_table6": (3, 0),
    "llm_vtp_table7": (72, 57),
    "llm_vtp_table8": (48, 36),
    "llm_vtp_table9": (18, 0),
    "llm_vtp_table10": (20, 3),
    "vista_table1": (180, 103),
    "vista_table2": (180, 75),
    "vista_table3": (15, 5),
    "vista_table4": (28, 1),
    "vista_table5": (44, 20),
    "vista_table6": (35, 12),
    "vista_table7": (35, 14),
    "vista_table8": (90, 47),
    "vista_table9": (18, 0),
}
UNITS = {"%", "pp", "0-5", "s", "x", "GB", "TFLOPs", "B", "tokens", "samples", "ratio"}
FOUR = ("mvbench", "longvideobench", "mlvu", "videomme")
SPLITS = ("videomme_short", "videomme_medium", "videomme_long")
ASPECTS = ("vcgbench_CI", "vcgbench_DO", "vcgbench_CU", "vcgbench_TU", "vcgbench_CO")
QUESTIONS = {"mvbench": 3699, "longvideobench": 1337, "mlvu": 2170, "videomme": 2700, **dict.fromkeys(SPLITS, 900)}
FULL = {"llava_onevision_7b": "vista_table1", "llava_video_7b": "vista_table2"}  # where the full models stand


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def every_cell() -> Iterator[Cell]:
    for table in TABLES:
        yield from read(FOLDER, table)


def some(table: str, **words: str) -> list[Cell]:
    """Cells of a table whose words begin so."""
    return [
        cell for cell in read(FOLDER, table) if all(getattr(cell, key).startswith(word) for key, word in words.items())
    ]


def kinds(cell: Cell) -> set[str]:
    return {reason.kind for reason in reasons(FOLDER, cell)}


def text(cell: Cell, kind: str) -> str:
    [found] = [reason.text for reason in reasons(FOLDER, cell) if reason.kind == kind]
    return found


def lines(table: str) -> dict[tuple[str, str, str], dict[str, Cell]]:
    """A printed row's cells by benchmark; of averages and costs by metric."""
    found: dict[tuple[str, str, str], dict[str, Cell]] = defaultdict(dict)
    for cell in read(FOLDER, table):
        told = cell.metric if cell.benchmark in ("average", "efficiency") else cell.benchmark
        if cell.metric not in ("accuracy_delta",) and not (cell.benchmark.endswith("_qa") and cell.metric == "score"):
            found[cell.backbone, cell.method, cell.setting][told] = cell
    return found


def number(cell: Cell) -> float:
    assert cell.figure is not None, cell
    return cell.figure


def is_count(value: float, questions: int) -> bool:
    """Whether a whole number of so many questions rounds to these percent, of two digits."""
    return abs(round(value * questions / 100) * 100 / questions - value) <= 0.005 + 1e-9


# the tables


def test_tables_have_their_rows() -> None:
    """Counted once in the files that the tables were copied from."""
    assert tables(FOLDER) == tuple(TABLES)
    assert [len(read(FOLDER, table)) for table in TABLES] == [count for count, _ in TABLES.values()]


@pytest.mark.parametrize("table", TABLES)
def test_cells_are_the_files_lines(table: str) -> None:
    """Against the same file read without field names."""
    with (FOLDER / f"{table}.csv").open() as file:
        _, *expected = csv.reader(file)
    found = [
        [cell.backbone, cell.method, cell.setting, cell.benchmark, cell.metric, cell.value, cell.unit]
        for cell in read(FOLDER, table)
    ]
    assert found == [line[2:] for line in expected]
    assert {cell.table for cell in read(FOLDER, table)} == {table}
    for cell in read(FOLDER, table):
        assert cell.unit in UNITS
        assert (cell.figure is None) == (cell.value == "")


def test_no_cell_stands_twice() -> None:
    told = [tuple(getattr(cell, key) for key in KEYS) for cell in every_cell()]
    assert len(set(told)) == len(told) == 1514


def test_figures_are_numbers_as_printed() -> None:
    [cell] = some("vista_table6", setting="retention=25%;newline=grid;rho=0.6", benchmark="mvbench")
    assert (cell.value, cell.figure) == ("61.50", 61.5)
    assert [cell.figure for cell in some("vista_table9", method="vista", setting="retention=25%;duration=lt3m")] == [
        -0.39,
        -1.9,
    ]


def test_a_table_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'vista_tabel1'; nearest: .*vista_table1"):
        read(FOLDER, "vista_tabel1")
    with pytest.raises(ValueError, match="table must be one of the papers'"):
        read(FOLDER, "anomalies")


# the reasons


def test_all_six_patterns_must_match(tmp_path: Path) -> None:
    (tmp_path / "reasons.csv").write_text(
        "table,backbone,method,setting,benchmark,metric,kind,reason\n"
        'vista_table[12],*,[!h]*,*;rho=0.6;*,*,accuracy,judge,"one, of two"\n'
        "*,,*,*,*,*,hardware,no backbone\n"
        "*,a_7B,*,*,*,*,column,other letters\n"
        "*,a_7b,*,*,*,*,misprint,two\n"
    )
    cell = Cell("vista_table1", "a_7b", "vista", "tau=1;rho=0.6;x=2", "mvbench", "accuracy", "1.0", "%")
    assert reasons(tmp_path, cell) == (Reason("judge", "one, of two"), Reason("misprint", "two"))
    for word in ({"table": "vista_table3"}, {"method": "holitom"}, {"setting": "rho=0.65;x=2"}, {"metric": "score"}):
        other = Cell(**{**vars(cell), **word})
        assert reasons(tmp_path, other) == (Reason("misprint", "two"),)
    assert [reason.text for reason in reasons(tmp_path, Cell(**{**vars(cell), "backbone": ""}))][-1] == "no backbone"


def test_kinds_are_those_of_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8").partition("## reasons.csv")[2]
    assert {line["kind"] for line in rows("reasons")} == set(re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE))


def test_every_reason_is_about_a_cell() -> None:
    cells = list(every_cell())
    for line in rows("reasons"):
        assert line["reason"], line
        assert any(all(fnmatchcase(getattr(cell, key), line[key]) for key in KEYS) for cell in cells), line


def test_no_cell_has_a_reason_twice() -> None:
    for cell in every_cell():
        assert len(set(reasons(FOLDER, cell))) == len(reasons(FOLDER, cell)), cell


def test_so_many_cells_compare() -> None:
    for table, (_, comparable) in TABLES.items():
        assert len([cell for cell in read(FOLDER, table) if not kinds(cell)]) == comparable, table


@pytest.mark.parametrize(
    ("table", "backbone", "method", "setting", "benchmark", "metric"),
    [
        ("kvtp_table2", "llava_video_7b", "random_kvtp", "", "efficiency", "flops_ratio"),
        ("kvtp_table4", "llava_video_7b", "prumerge_kvtp", "", "efficiency", "trained_params"),
        ("llm_vtp_table1", "pllava_7b", "none", "", "mvbench", "accuracy"),
        ("llm_vtp_table1", "pllava_7b", "none", "", "mvbench_AA", "accuracy"),
        ("llm_vtp_table1", "pllava_7b", "llm_vtp", "", "mvbench_AS", "accuracy"),
        ("llm_vtp_table1", "pllava_7b", "prumerge_plus", "", "mvbench", "accuracy"),
        ("llm_vtp_table1", "tarsier_7b", "llm_vtp", "", "mvbench", "accuracy"),
        ("llm_vtp_table1", "tarsier_7b", "none", "", "mvbench_MC", "accuracy"),  # where both orders agree
        ("llm_vtp_table1", "st_llm_7b", "none", "", "mvbench_CI", "accuracy"),
        ("llm_vtp_table3", "pllava_7b", "llm_vtp", "", "vcgbench", "tflops"),
        ("llm_vtp_table7", "tarsier_7b", "llm_vtp", "", "videomme", "accuracy"),
        ("llm_vtp_table7", "tarsier_7b", "none", "", "videomme_long", "accuracy"),
        ("llm_vtp_table7", "pllava_7b", "look_m", "", "egoschema", "accuracy"),
        ("llm_vtp_table8", "videochat2_7b", "llm_vtp", "", "mvbench", "accuracy"),
        ("llm_vtp_table10", "pllava_7b", "none", "", "mvbench_AS", "accuracy"),
        ("vista_table1", "llava_onevision_7b", "none", "", "longvideobench", "accuracy"),
        ("vista_table1", "llava_onevision_7b", "none", "", "average", "average_percent"),
        ("vista_table1", "llava_onevision_7b", "framefusion", "retention=25%", "videomme", "accuracy"),
        ("vista_table1", "llava_onevision_7b", "framefusion", "retention=20%", "longvideobench", "accuracy"),
        ("vista_table2", "llava_video_7b", "vista", "retention=25%", "longvideobench", "accuracy"),
        ("vista_table2", "llava_video_7b", "visionzip", "retention=20%", "videomme_short", "accuracy"),
        ("vista_table2", "llava_video_7b", "visionzip", "retention=15%", "videomme_long", "accuracy"),
        ("vista_table2", "llava_video_7b", "holitom", "retention=25%", "efficiency", "flops_ratio"),
        ("vista_table4", "llava_video_7b", "none", "", "efficiency", "speedup"),
        ("vista_table5", "llava_video_7b", "vista_rep_supp", "", "videomme", "accuracy"),
        ("vista_table6", "llava_video_7b", "vista", "retention=25%;newline=grid;rho=0.6", "videomme", "accuracy"),
        ("vista_table7", "llava_video_7b", "vista", "", "longvideobench", "accuracy"),
        ("vista_table8", "llava_video_7b", "framefusion", "retention=15%", "videomme_medium", "accuracy"),
    ],
)
def test_what_is_sound_has_no_reason(
    table: str, backbone: str, method: str, setting: str, benchmark: str, metric: str
) -> None:
    found = [
        cell
        for cell in some(table, backbone=backbone, setting=setting)
        if (cell.method, cell.benchmark, cell.metric) == (method, benchmark, metric)
    ]
    assert found
    assert [reasons(FOLDER, cell) for cell in found] == [()] * len(found)


# the lists made when the tables were checked

ANSWERS = {  # kinds of anomalies.csv: of reasons.csv
    "average_score": {"misprint"},
    "videomme_mean": {"misprint"},
    "relative_accuracy": {"misprint"},
    "average": {"misprint"},
    "duplicated_values": {"duplicate"},
    "web_vs_paper": {"conflict"},
    "extraction": {"unreadable"},
    "column_order": {"column"},
    "subset_below_fullset": {"column"},
    "vcg_average": {"definition"},
    "granularity": {"denominator", "misprint"},
}


def concerned(line: dict[str, str]) -> list[Cell]:
    """The cells that a line of anomalies.csv is about, read from its own words."""
    table, where, kind = line["table"], line["where"].replace(" full", " none"), line["kind"]
    if kind == "average_score":
        method, setting = where.split(maxsplit=1)
        return some(table, method=method, setting=setting.replace(" ", ";"), metric="average_score")
    if kind == "duplicated_values":
        columns = line["note"].split()
        found = []
        for part, side in zip(table.split("+"), where.split(" / "), strict=True):
            method, share = side.split()
            of = some(part, method=method, setting=f"retention={share}")
            found += [cell for cell in of if cell.benchmark in columns]
        assert len(found) == 2 * int(line["printed"]) == 2 * len(columns)
        return found
    if kind == "web_vs_paper":
        method, benchmark, metric = where.split()
        web = {"kvtp_table2": "kvtp_web_llava_video_7b", "kvtp_table3": "kvtp_web_llava_video_72b"}[table]
        sides = [(table, line["printed"]), (web, line["expected"])]
        return [
            cell
            for side, value in sides
            for cell in some(side, benchmark=benchmark, metric=metric, value=value)
            if cell.method == method
        ]
    if kind == "granularity":
        method, benchmark = where.split()
        of = some(table, method=method, value=line["printed"])
        return [cell for cell in of if cell.benchmark == benchmark and cell.method == method]
    if kind == "extraction":
        methods = re.findall("look_m|llm_vtp|prumerge_plus", where)
        return [cell for cell in some(table, backbone="pllava_7b") if cell.method in methods and not cell.value]
    if kind in ("relative_accuracy", "average"):
        method, benchmark = where.split()
        return some(table, method=method, benchmark=benchmark)
    backbone, method = where.split()
    columns = {
        "column_order": [told["printed_benchmark"] for told in rows("relabel_tarsier") if not _stays(told)],
        "vcg_average": ["vcgbench"],
        "videomme_mean": ["videomme"],
        "subset_below_fullset": ["egoschema", "egoschema_subset"],
    }[kind]
    return [cell for cell in some(table, backbone=backbone) if cell.method == method and cell.benchmark in columns]


def _stays(told: dict[str, str]) -> bool:
    return told["printed_benchmark"] == told["likely_benchmark"]


@pytest.mark.parametrize("line", rows("anomalies"), ids=lambda line: f"{line['table']}-{line['where']}-{line['kind']}")
def test_every_anomaly_has_its_reason(line: dict[str, str]) -> None:
    cells = concerned(line)
    assert cells
    for cell in cells:
        assert kinds(cell) & ANSWERS[line["kind"]], cell


def test_every_empty_cell_has_its_reason() -> None:
    """And the reason names what the extraction leaves to choose from."""
    listed = rows("empty_cells")
    cells = [read(FOLDER, line["csv"])[int(line["csv_line"]) - 2] for line in listed]
    assert cells == [cell for cell in every_cell() if cell.figure is None]
    for line, cell in zip(listed, cells, strict=True):
        kind = {"ambiguous": "unreadable", "not_reported": "not_reported"}[line["reason"]]
        assert kind in kinds(cell), cell
        assert all(candidate in text(cell, kind) for candidate in line["candidates"].split("|")), cell
    for cell in every_cell():
        assert cell.figure is None or not kinds(cell) & {"unreadable", "not_reported"}, cell


def test_tarsiers_tasks_are_named() -> None:
    told = {line["printed_benchmark"]: line for line in rows("relabel_tarsier")}
    assert sorted(line["likely_benchmark"] for line in told.values()) == sorted(told)
    cells = [cell for cell in some("llm_vtp_table1", backbone="tarsier_7b") if cell.benchmark in told]
    assert len(cells) == 4 * 20
    for cell in cells:
        if _stays(told[cell.benchmark]):
            assert not kinds(cell)
        else:
            assert text(cell, "column").endswith(f"likely {told[cell.benchmark]['likely_benchmark'][8:]}'s")


# sums over what is printed


@pytest.mark.parametrize("table", ["vista_table1", "vista_table2", "vista_table6", "vista_table7", "vista_table8"])
def test_vistas_averages(table: str) -> None:
    """The mean of the four benchmarks, and that mean against the full model's, to what rounding of all leaves open."""
    wrong = 0
    for (backbone, _, _), row in lines(table).items():
        whole = {key: cells for key, cells in lines(FULL[backbone]).items() if key[1] == "none"}
        [full] = whole.values()
        score, base = mean(number(row[name]) for name in FOUR), mean(number(full[name]) for name in FOUR)
        expected = {"average_score": (score, 0.0101, ".2f"), "average_percent": (100 * score / base, 0.07, ".1f")}
        for metric, (value, reach, digits) in expected.items():
            if metric not in row:  # tables 6 and 7 have percent alone
                continue
            fails = abs(number(row[metric]) - value) > reach
            assert fails == ("misprint" in kinds(row[metric])), row[metric]
            assert not fails or f"{value:{digits}}" in text(row[metric], "misprint")
            wrong += fails
    assert wrong == {"vista_table1": 2, "vista_table2": 2}.get(table, 0)


def test_vistas_averages_beside_times_are_the_main_tables() -> None:
    main = {(key[1], key[2].partition(";")[0]): row for key, row in lines("vista_table2").items()}
    for (_, method, setting), row in lines("vista_table4").items():
        told = main[method, setting.partition(";")[0]]["average_score"]
        assert row["average_score"].value == told.value
        assert kinds(row["average_score"]) == kinds(told)


@pytest.mark.parametrize("table", ["vista_table1", "vista_table2", "vista_table6", "vista_table7", "vista_table8"])
def test_a_mean_has_the_doubts_of_what_it_is_of(table: str) -> None:
    """Copies, and other numbers of questions; but the full model has 100 % of itself."""
    for (_, method, _), row in lines(table).items():
        scores = [kinds(row[name]) for name in FOUR]
        for metric in {"average_score", "average_percent"} & set(row):
            counted = any("denominator" in of for of in scores) and (method, metric) != ("none", "average_percent")
            assert counted == ("denominator" in kinds(row[metric])), row[metric]
            assert any("duplicate" in of for of in scores) == ("duplicate" in kinds(row[metric])), row[metric]


@pytest.mark.parametrize("table", ["vista_table1", "vista_table2", "vista_table8"])
def test_vistas_videomme(table: str) -> None:
    """The mean of the three lengths, everywhere."""
    for row in lines(table).values():
        assert number(row["videomme"]) == pytest.approx(mean(number(row[name]) for name in SPLITS), abs=0.0101)
        assert "misprint" not in kinds(row["videomme"])


def test_vistas_accuracies_are_counts() -> None:
    """Of 3699, 1337, 2170 and 2700 questions (900 of each length), or there is a reason; where the number of questions
    is the benchmark's own, counts of it have none but that of a whole row."""
    odd = 0
    for cell in every_cell():
        if not cell.table.startswith("vista") or cell.metric != "accuracy":
            continue
        count = is_count(number(cell), QUESTIONS[cell.benchmark])
        odd += not count
        if not count or cell.benchmark in ("mvbench", "mlvu"):
            assert kinds(cell) & {"denominator", "misprint"}, cell
        elif cell.method not in ("holitom", "vista_intrinsic_attn"):
            assert not kinds(cell) & {"denominator", "misprint"}, cell
    assert odd == len([line for line in rows("anomalies") if line["kind"] == "granularity"]) + 3  # Qwen2.5-VL's MLVU


def test_no_cell_has_two_numbers_of_questions() -> None:
    """But those that are no count over their column's, which both are told of."""
    two = [cell for cell in every_cell() if [told.kind for told in reasons(FOLDER, cell)].count("denominator") > 1]
    assert [(cell.table, cell.method, cell.value) for cell in two] == [
        ("vista_table1", "fastvid", "58.90"),
        ("vista_table1", "fastvid", "64.41"),
    ]


def test_no_one_number_of_questions_fits_qwens_mlvu() -> None:
    values = [number(cell) for cell in some("vista_table3", benchmark="mlvu")]
    assert not [questions for questions in range(1500, 2400) if all(is_count(value, questions) for value in values)]


def test_counts_in_reasons_round_to_their_cells() -> None:
    """`798 of 1336 does`, and HoliTom's four, for which no other number of questions near the benchmark's fits."""
    seen = 0
    for cell in every_cell():
        for reason in reasons(FOLDER, cell):
            if reason.kind == "denominator" and (told := re.search(r"(\d+) of (\d+) does", reason.text)):
                assert round(100 * int(told[1]) / int(told[2]), 2) == number(cell), cell
                seen += 1
    assert seen == 2 + 2 * 2 + 2
    for benchmark in ("longvideobench", *SPLITS, "videomme"):
        cells = [cell for cell in some("vista_table2", method="holitom") if cell.benchmark == benchmark]
        told = re.search(r"over (\d+) questions \(([\d, ]+)\), (one|three) fewer", text(cells[0], "denominator"))
        assert told is not None
        values = [number(cell) for cell in cells]
        assert [round(100 * int(count) / int(told[1]), 2) for count in told[2].split(",")] == values
        own = QUESTIONS[benchmark]
        assert int(told[1]) == own - {"one": 1, "three": 3}[told[3]]
        near = range(own - 60, own + 3)
        assert [questions for questions in near if all(is_count(value, questions) for value in values)] == [
            int(told[1])
        ]


@pytest.mark.parametrize(
    ("table", "method", "setting", "copied"),
    [("vista_table1", "framefusion", "retention=25%", 776), ("vista_table2", "vista", "retention=20%", 806)],
)
def test_the_longvideobench_that_restores_an_average(table: str, method: str, setting: str, copied: int) -> None:
    [row] = [row for key, row in lines(table).items() if key[1] == method and key[2].startswith(setting)]
    cell, right = row["longvideobench"], 100 * copied / 1337
    assert cell.value == row["mvbench"].value
    told = text(cell, "misprint")
    assert f"with {right:.2f}, {copied} of them" in told
    restored = mean([right, *(number(row[name]) for name in FOUR if name != "longvideobench")])
    assert restored == pytest.approx(number(row["average_score"]), abs=0.0101)


def test_rows_that_share_three_scores_are_told() -> None:
    """Rows of Vista-LLM's main tables, two by two: where three or more accuracies are the same, these are told, and the
    mean of the lengths with them; and no other accuracy is."""
    columns = ("mvbench", "longvideobench", "mlvu", *SPLITS, "videomme")
    every = [row for table in ("vista_table1", "vista_table2") for row in lines(table).values()]
    told = {row[name] for row in every for name in columns if "duplicate" in kinds(row[name])}
    expected = set()
    for one, other in combinations(every, 2):
        same = [name for name in columns if one[name].value == other[name].value]
        if len(same) >= 3:
            expected |= {row[name] for row in (one, other) for name in (*same, "videomme")}
    assert told == expected
    assert len(told) == 2 * 7 + 2 * 5


def test_table_6s_row_that_is_partly_table_7s() -> None:
    [sixth] = [row for key, row in lines("vista_table6").items() if "rho=0.6;" in key[2]]
    [seventh] = [row for key, row in lines("vista_table7").items() if key[2].endswith("tau=0.80")]
    same = {name for name in FOUR if sixth[name].value == seventh[name].value}
    assert same == {"mvbench", "longvideobench"}
    assert {name for name in FOUR if "duplicate" in kinds(sixth[name])} == same


def test_vistas_table_9_follows_from_table_5() -> None:
    """Overall: the relative change of all right answers, with the ablation's scores and not with the main tables'."""
    shares = {"videomme": 2700, "longvideobench": 1337, "mlvu": 2170}
    overall = {cell.backbone: cell for cell in some("vista_table9", setting="retention=25%;duration=overall")}
    assert set(overall) == set(FULL)
    for backbone, cell in overall.items():
        main = {key[1:]: row for key, row in lines(FULL[backbone]).items()}
        fifth = [row for key, row in lines("vista_table5").items() if key[:2] == (backbone, "vista")]
        of = {"full": next(row for (method, _), row in main.items() if method == "none"), "0.95": fifth[0]}
        of["0.80"] = next(row for (method, told), row in main.items() if method == "vista" and "=25%" in told)
        right = {name: sum(number(row[part]) * size for part, size in shares.items()) for name, row in of.items()}
        change = {name: 100 * (right[name] / right["full"] - 1) for name in ("0.95", "0.80")}
        assert number(cell) == pytest.approx(change["0.95"], abs=0.006)
        assert f"{change['0.80']:+.2f} follows" in text(cell, "other_rows")
    [size] = some("vista_table9", method="dataset", setting="duration=overall")
    assert number(size) == sum(shares.values())
    for cell in some("vista_table9", method="vista"):
        assert kinds(cell) == {"denominator", "other_rows"}


def test_vcgbenchs_averages() -> None:
    """The mean of the five aspects, or the reason gives it, and the mean over questions."""
    checked, other = 0, 0
    for row in lines("llm_vtp_table2").values():
        if row["vcgbench"].figure is None:
            continue
        aspects = [number(row[name]) for name in ASPECTS]
        fails = abs(number(row["vcgbench"]) - mean(aspects)) > 0.0101
        assert fails == ("definition" in kinds(row["vcgbench"])), row["vcgbench"]
        checked, other = checked + 1, other + fails
        if fails:
            weights = (4, 4, 4, 1, 1)
            weighted = sum(weight * score for weight, score in zip(weights, aspects, strict=True)) / 14
            told = text(row["vcgbench"], "definition")
            assert f"here {mean(aspects):.2f};" in told
            assert told.endswith(f"{weighted:.2f}")
    assert (checked, other) == (17, 8)


@pytest.mark.parametrize(("table", "checked"), [("llm_vtp_table7", 10), ("llm_vtp_table8", 6)])
def test_videommes_averages(table: str, checked: int) -> None:
    """The mean of the lengths, each rounded to a tenth, or a misprint."""
    held = 0
    for row in lines(table).values():
        if row["videomme"].figure is None:
            continue
        value = mean(number(row[name]) for name in SPLITS)
        fails = abs(number(row["videomme"]) - value) > 0.1001
        assert fails == ("misprint" in kinds(row["videomme"])), row["videomme"]
        assert not fails or f"{value:.2f}" in text(row["videomme"], "misprint")
        held += 1
    assert held == checked


def test_mvbenchs_averages() -> None:
    """The mean of the twenty tasks, all printed exactly, in the eleven rows that can be read in full."""
    held = 0
    for row in lines("llm_vtp_table1").values():
        tasks = [cell.figure for name, cell in row.items() if name != "mvbench"]
        assert len(tasks) == 20
        if None not in tasks:
            assert abs(number(row["mvbench"]) - mean(task for task in tasks if task is not None)) <= 0.0501
            assert not kinds(row["mvbench"])
            held += 1
    assert held == 11


def test_egoschemas_columns() -> None:
    """The subset is above the full set, or both columns are told, each with the other's figure."""
    seen = Counter()
    for table in ("llm_vtp_table7", "llm_vtp_table8"):
        for row in lines(table).values():
            subset, full = row["egoschema_subset"], row["egoschema"]
            if subset.figure is None or full.figure is None:
                continue
            swapped = subset.figure < full.figure
            seen[table, swapped] += 1
            for cell, other in ((subset, full), (full, subset)):
                assert swapped == ("column" in kinds(cell))
                assert not swapped or text(cell, "column").endswith(f" {other.value}")
    assert seen == {("llm_vtp_table7", False): 8, ("llm_vtp_table8", True): 6}


def test_llm_vtps_table_9_follows_from_table_2() -> None:
    """The mean over both models of what a method keeps of their full score, or a misprint with the right figure."""
    second = {
        (backbone, method.removesuffix("_plus")): row for (backbone, method, _), row in lines("llm_vtp_table2").items()
    }
    right: dict[str, list[float]] = defaultdict(list)
    for cell in read(FOLDER, "llm_vtp_table9"):
        assert "judge" in kinds(cell)
        if cell.benchmark == "average":
            printed = [
                number(other) for other in some("llm_vtp_table9", method=cell.method) if other.benchmark != "average"
            ]
            fails = abs(number(cell) - mean(printed)) > 0.0501
            assert number(cell) == pytest.approx(mean(right[cell.method]), abs=0.0501)
            value = mean(printed)
        else:
            value = mean(
                100
                * number(second[backbone, cell.method][cell.benchmark])
                / number(second[backbone, "none"][cell.benchmark])
                for backbone in cell.backbone.split("+")
            )
            right[cell.method].append(value)
            fails = abs(number(cell) - value) > 0.0501
        assert fails == ("misprint" in kinds(cell)), (cell, value)
        assert not fails or f"{value:.1f}" in text(cell, "misprint")


def test_table_10_is_the_mean_of_three_tasks() -> None:
    """Of the full model they are Table 1's."""
    first = lines("llm_vtp_table1")["pllava_7b", "none", "retention=100%"]
    for (_, method, _), row in lines("llm_vtp_table10").items():
        tasks = [cell for name, cell in row.items() if name.startswith("mvbench_")]
        assert number(row["accuracy"]) == pytest.approx(mean(map(number, tasks)), abs=0.0501)
        assert "definition" in kinds(row["accuracy"])
        if method == "none":
            assert [cell.value for cell in tasks] == [first[cell.benchmark].value for cell in tasks]


@pytest.mark.parametrize(
    ("paper", "page"),
    [("kvtp_table2", "kvtp_web_llava_video_7b"), ("kvtp_table3", "kvtp_web_llava_video_72b")],
)
def test_where_paper_and_page_differ_each_tells_the_other(paper: str, page: str) -> None:
    differ = 0
    for one, other in zip(read(FOLDER, paper), read(FOLDER, page), strict=True):
        assert (one.method, one.benchmark, one.metric) == (other.method, other.benchmark, other.metric)
        for cell, told in ((one, other), (other, one)):
            assert (one.value != other.value) == ("conflict" in kinds(cell))
            assert one.value == other.value or text(cell, "conflict").endswith(f" {told.value}")
        differ += one.value != other.value
    assert differ == {"kvtp_table2": 10, "kvtp_table3": 12}[paper]


def test_kinds_that_hold_for_whole_columns() -> None:
    for cell in every_cell():
        own = cell.table.startswith("kvtp") and (cell.metric == "accuracy" or cell.table == "kvtp_table1")
        assert own == ("evaluation_set" in kinds(cell)), cell
        judged = cell.table in ("llm_vtp_table2", "llm_vtp_table9")
        assert judged == ("judge" in kinds(cell)), cell
        timed = cell.metric in ("seconds", "peak_memory_gb") or (cell.metric == "speedup" and cell.method != "none")
        assert timed == ("hardware" in kinds(cell)), cell
        trained = cell.method.startswith("keyvideollm") and cell.metric == "accuracy"
        assert trained == ("retrained" in kinds(cell)), cell
        silent = (
            (
                cell.table.startswith("kvtp_")
                and cell.method in ("random", "tome", "prumerge")
                and cell.metric == "accuracy"
            )
            or (judged and cell.method == "prumerge")
            or cell.metric == "decoding_length"
            or cell.table in ("llm_vtp_table4", "llm_vtp_table5", "llm_vtp_table6")
            or (cell.table == "llm_vtp_table10" and cell.method != "none")
            or (cell.table, cell.method, cell.metric) == ("vista_table3", "vista", "accuracy")
        )
        assert silent == ("not_stated" in kinds(cell)), cell
        assert "definition" not in kinds(cell) or cell.benchmark in ("vcgbench", "average"), cell
        assert "duplicate" not in kinds(cell) or cell.benchmark != "efficiency", cell
        otherwise = cell.method == "vista_intrinsic_attn" or cell.table == "vista_table9"
        assert not otherwise or "denominator" in kinds(cell), cell


def test_costs_by_arithmetic_have_no_reason_but_a_conflict() -> None:
    """What reproduces FLOPs is told elsewhere (kvtp.metric.published)."""
    for cell in every_cell():
        if cell.metric in ("flops_ratio", "tflops", "trained_params"):
            assert kinds(cell) <= {"conflict"}, cell
