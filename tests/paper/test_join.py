"""The papers' printed lines against the rows of conf/experiment, both ways; what rows compose to against both.

Independent of kvtp.paper.join: how many rows and benchmarks a table has, counted by hand in the papers; a second
reading of the CSVs' settings; classes and checkpoints typed here; published/hyperparameters.csv, line by line.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from itertools import product, takewhile
from typing import Any

import pytest
from composing import composed_rows
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kvtp.command import CONF, ROOT, groups
from kvtp.config import STAGES
from kvtp.paper import join
from kvtp.paper.published import Cell, read, tables

FOLDER = ROOT / "published"
COUNTS = {  # methods × benchmarks, as the papers have them
    "kvtp_table1": 1 * 3,
    "kvtp_table2": 9 * 3,
    "kvtp_table3": 9 * 3,
    "kvtp_table4": 3 * 3,
    "llm_vtp_table1": 10 * 1,  # mvbench, whose tasks are parts of one run
    "llm_vtp_table2": 10 * 5,
    "llm_vtp_table3": 4 * 1,
    "llm_vtp_table4": 2 * 1,
    "llm_vtp_table5": 2 * 1,
    "llm_vtp_table6": 3 * 1,
    "llm_vtp_table7": 8 * 3,
    "llm_vtp_table8": 6 * 4,
    "llm_vtp_table9": (2 * 3 + 2) * 5,  # on two backbones, and what they are told against
    "llm_vtp_table10": 3 * 1,
    "vista_table1": 18 * 4,
    "vista_table2": 18 * 4,
    "vista_table3": 5 * 2,
    "vista_table4": 7 * 4,
    "vista_table5": (5 + 2 + 1) * 4,  # on LLaVA-Video without, on LLaVA-OneVision with and without, and Vista-LLM
    "vista_table6": (7 + 1) * 4,
    "vista_table7": (7 + 1) * 4,
    "vista_table8": (9 + 1) * 4,
    "vista_table9": 2 * 2 * 3,
    "kvtp_figure1": 2 * 9 * 3,
    "kvtp_figure6": 2 * 5 * 3,
    "kvtp_figure7": 7 * 3,
    "llm_vtp_figure3": (1 + 4 * 5) * 4,
    "llm_vtp_figure4": (1 + 4 * 5) * 4,
    "vista_figure2": 2 * 18 * 4,
    "vista_figure3": 2 * 4,
    "vista_figure5": (7 + 1) * 4,
}
FIGURES = {  # the tables whose cells they draw; none where the paper prints no numbers of theirs
    "kvtp_figure1": ("kvtp_table2", "kvtp_table3"),
    "kvtp_figure6": (),
    "kvtp_figure7": (),
    "llm_vtp_figure3": (),
    "llm_vtp_figure4": (),
    "vista_figure2": ("vista_table1", "vista_table2"),
    "vista_figure3": ("vista_table5",),  # of which it draws block e
    "vista_figure5": ("vista_table7",),
}
TABLES = tuple(name for name in COUNTS if name not in FIGURES)
PAGES = {"kvtp_web_llava_video_7b": "kvtp_table2", "kvtp_web_llava_video_72b": "kvtp_table3"}  # repeat these tables
SPARSE = ("sparsekv_qa_videomme", "sparsekv_qa_egoschema", "sparsekv_qa_nextqa")
FOUR = ("mvbench", "longvideobench", "mlvu", "videomme")
LINES = {  # printed lines of every table: those with rows, and those without
    "kvtp_table1": (1, 0),
    "kvtp_table2": (9, 0),
    "kvtp_table3": (9, 0),
    "kvtp_table4": (3, 0),
    "kvtp_web_llava_video_7b": (9, 0),
    "kvtp_web_llava_video_72b": (9, 0),
    "llm_vtp_table1": (10, 4),
    "llm_vtp_table2": (10, 8),
    "llm_vtp_table3": (4, 0),
    "llm_vtp_table4": (2, 0),
    "llm_vtp_table5": (2, 0),
    "llm_vtp_table6": (3, 0),
    "llm_vtp_table7": (8, 4),
    "llm_vtp_table8": (6, 0),
    "llm_vtp_table9": (3, 0),
    "llm_vtp_table10": (3, 0),
    "vista_table1": (18, 0),
    "vista_table2": (18, 0),
    "vista_table3": (5, 0),
    "vista_table4": (7, 0),
    "vista_table5": (11, 0),
    "vista_table6": (7, 0),
    "vista_table7": (7, 0),
    "vista_table8": (9, 0),
    "vista_table9": (18, 0),
}
# other authors' models, printed beside the pruned ones as their own papers report them: not built here
OTHERS = {
    "llm_vtp_table1": {"video_llama_7b", "llama_adapter_7b", "video_chatgpt_7b", "videochat_7b"},
    "llm_vtp_table2": {
        *("video_llama_7b", "llama_adapter_7b", "video_chatgpt_7b", "video_llava_7b"),
        *("chat_univi_7b", "moviechat_7b", "videochat_7b", "vista_llama_7b"),
    },
    "llm_vtp_table7": {"video_llava_7b", "chat_univi_v1_5", "mplug_owl", "internvideo"},
}
# KVTP's table 1 describes its seven sources before the filter, which were published without labels
NO_RUN = {("kvtp_table1", "full_dataset")}
# rows without a line: the unpruned model, which percentages and differences are told against; printed in another table
AGAINST = {
    ("llm_vtp_table9", "pllava_7b"),
    ("llm_vtp_table9", "tarsier_7b"),
    ("vista_table6", "llava_video_7b"),
    ("vista_table7", "llava_video_7b"),
    ("vista_table8", "llava_video_7b"),
    ("vista_table9", "llava_onevision_7b"),  # LLaVA-Video's is also the run that tells the films' lengths
}
RELATIVE = {"relative_accuracy", "relative_change", "average_percent"}
# of a row: what no line prints
CELLS_ALONE = ("benchmark", "benchmark.preset", "frames", "backbone.pool", "backbone.time_instruction")


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        yield


def file(name: str) -> str:
    return (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")


@cache
def listed(name: str) -> dict[str, Any]:
    """The experiment's YAML as it stands."""
    return OmegaConf.to_container(OmegaConf.create(file(name)))


def sets(row: Mapping[str, Any]) -> list[str]:
    return [row["benchmark"]] if isinstance(row["benchmark"], str) else row["benchmark"]


def cells(name: str) -> list[dict[str, Any]]:
    """A row over several benchmarks once for each."""
    return [{**row, "benchmark": one} for row in listed(name)["rows"] for one in sets(row)]


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in CELLS_ALONE}


def home(table: str) -> str:
    """The experiment of a printed table."""
    return PAGES.get(table, table)


def lines(table: str) -> dict[tuple[str, str, str], list[Cell]]:
    found: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in read(FOLDER, table):
        found[cell.backbone, cell.method, cell.setting].append(cell)
    return found


def measured_on(cell: Cell) -> tuple[str, ...]:
    """By published/README.md: `mvbench_AA` is a part of mvbench, `a+b` several sets, `efficiency` and `average` belong
    to all that the table has; KVTP asks its own choice of its sets' questions."""
    if cell.benchmark in ("efficiency", "average"):
        if cell.table == "vista_table4":  # "average accuracy across four benchmarks", which stand in table 2
            return FOUR
        others = [one for one in read(FOLDER, cell.table) if one.benchmark not in ("efficiency", "average")]
        return tuple(dict.fromkeys(name for one in others for name in measured_on(one)))
    if cell.benchmark == "sparsekv_qa":
        return SPARSE
    names = tuple(re.sub(r"^(mvbench|vcgbench|videomme)_.*", r"\1", name) for name in cell.benchmark.split("+"))
    return tuple(f"sparsekv_qa_{name}" for name in names) if cell.table.startswith("kvtp") else names


# printed lines to rows, and rows to printed lines


def test_every_table_has_one_experiment() -> None:
    """Of tables alone; and every experiment of the papers is counted here."""
    assert set(COUNTS) == {name for name in groups()["experiment"] if re.match(r"(kvtp|llm_vtp|vista)_", name)}
    named = [(table, name) for name in TABLES for table in listed(name)["paper"]]
    assert sorted(named) == sorted((table, home(table)) for table in tables(FOLDER))
    assert {name: tuple(listed(name)["paper"]) for name in FIGURES} == FIGURES
    assert set(LINES) == set(tables(FOLDER))


@pytest.mark.parametrize("table", LINES)
def test_every_printed_line_has_its_rows(table: str) -> None:
    """One per backbone on every benchmark that it is measured on, but for other authors' models."""
    rows = cells(home(table))
    joined, orphans = 0, set()
    for (backbone, method, _), line in lines(table).items():
        entries = join.entries(line[0])
        assert all(join.entries(cell) == entries for cell in line)
        if not entries:
            orphans.add(backbone)
            assert method == "none"
            continue
        assert [entry["backbone"] for entry in entries] == (backbone or "llava_video_7b").split("+")
        for cell, entry in product(line, entries):
            if (table, cell.benchmark) in NO_RUN:
                continue
            for benchmark in measured_on(cell):
                found = [row for row in rows if said(row) == entry and row["benchmark"] == benchmark]
                assert len(found) == 1, (entry, benchmark)
        joined += 1
    assert orphans == OTHERS.get(table, set())
    assert (joined, len(lines(table)) - joined) == LINES[table]


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_its_printed_lines(name: str) -> None:
    """On every benchmark, but for what figures are told against."""
    printed = [
        (entry, benchmark)
        for table in listed(name)["paper"]
        for cell in read(FOLDER, table)
        if (table, cell.benchmark) not in NO_RUN
        for entry, benchmark in product(join.entries(cell), measured_on(cell))
    ]
    orphans = [row for row in cells(name) if (said(row), row["benchmark"]) not in printed]
    assert {(name, row["backbone"]) for row in orphans} == {pair for pair in AGAINST if pair[0] == name}
    needed = [
        (join.against(cell, backbone), benchmark)
        for cell in read(FOLDER, name)
        if cell.metric in RELATIVE
        for backbone, benchmark in product(join.backbones(cell), measured_on(cell))
    ]
    for row in orphans:
        assert row["method"] == "none"
        assert (said(row), row["benchmark"]) in needed
    for against, benchmark in needed:  # all of which are there
        assert any(said(row) == against and row["benchmark"] == benchmark for row in cells(name)), against


def test_what_a_row_says_beside_its_line_depends_on_backbone_and_benchmark_alone() -> None:
    """Prompts, frames and pooling are the host's on that set, in every table and for every method: what LLM-VTP prints
    in both tables 1 and 8 (51.1, 54.9) is one run."""
    seen: dict[Any, set[Any]] = defaultdict(set)
    for name in COUNTS:
        for row in cells(name):
            told = tuple(row.get(key) for key in CELLS_ALONE[1:])
            seen[paper(name), row["backbone"], row["benchmark"]].add(told)
    assert not {where: told for where, told in seen.items() if len(told) > 1}


@pytest.mark.parametrize("name", [name for name, paper in FIGURES.items() if paper])
def test_figures_are_cells_of_their_tables(name: str) -> None:
    """Row for row and all of them; but figure 3 draws two of table 5's eight. And set up as their tables are."""
    told = [cell for table in FIGURES[name] for cell in cells(table)]
    assert all(cell in told for cell in cells(name))
    left = [cell for cell in told if cell not in cells(name)]
    assert len(left) == (24 if name == "vista_figure3" else 0)
    shared = [{key: listed(one).get(key) for key in ("backbone", "benchmark")} for one in (name, *FIGURES[name])]
    assert all(one == shared[0] for one in shared)


def test_the_lines_that_figure_3_has_no_rows_for() -> None:
    """Every arm of table 5 but block e's; `vista` on LLaVA-Video is the same run in all blocks."""
    rows = [said(row) for row in cells("vista_figure3")]
    missing = {key[:2] for key, line in lines("vista_table5").items() if join.entries(line[0])[0] not in rows}
    assert missing == {
        ("llava_video_7b", "vista_intrinsic_attn"),
        ("llava_onevision_7b", "vista_static_alloc"),
        ("llava_onevision_7b", "vista"),
        ("llava_video_7b", "vista_random_supp"),
        ("llava_video_7b", "vista_rep_supp"),
        ("llava_video_7b", "vista_hard_pruning"),
    }


def swept(name: str, *keys: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(cell[key] for key in ("method", "benchmark", *keys)) for cell in cells(name) if keys[0] in cell)


def test_figures_without_printed_numbers_sweep_what_their_papers_do() -> None:
    """KVTP §5.3: beta of 1.5 to 2.3 with and without its budgets, temperatures of 0 to 5. LLM-VTP's text tells no
    values: a grid that its own settings (alpha 0.1 and 0.2, layers 5, 10 and 15) are points of, and no pruning."""
    betas = (1.5, 1.7, 1.9, 2.1, 2.3)
    assert swept("kvtp_figure6", "benchmark.beta") == sorted(product(("prumerge", "prumerge_kvtp"), SPARSE, betas))
    temperatures = (0, 0.5, 1, 2, 3, 4, 5)
    assert swept("kvtp_figure7", "budget.temperature") == sorted(product(("prumerge_kvtp",), SPARSE, temperatures))
    four = ("mvbench", "videomme", "msvd_qa", "vcgbench")
    for name, backbone in (("llm_vtp_figure3", "pllava_7b"), ("llm_vtp_figure4", "tarsier_7b")):
        found = swept(name, "pruner.layer", "retention_ratio")
        assert found == sorted(product(("llm_vtp",), four, (1, 5, 10, 15, 20), (0.1, 0.2, 0.3, 0.5)))
        assert sorted(cell["benchmark"] for cell in cells(name) if cell["method"] == "none") == sorted(four)
        assert {cell["backbone"] for cell in cells(name)} == {backbone}
    assert {cell["retention_ratio"] for name in ("kvtp_figure6", "kvtp_figure7") for cell in cells(name)} == {0.2}


@pytest.mark.parametrize("name", COUNTS)
def test_every_experiment_tells_its_cells(name: str) -> None:
    """None twice; and their number stands in its head, as here."""
    assert len(cells(name)) == COUNTS[name]
    assert len({tuple(sorted(cell.items())) for cell in cells(name)}) == COUNTS[name]
    head = list(takewhile(lambda line: line.startswith("#"), file(name).splitlines()))
    assert any(line.startswith(f"# {COUNTS[name]} cells. ") for line in head)


def test_tables_have_as_many_columns_as_sets() -> None:
    """Of every table the benchmarks, in the order of its columns where it has any."""
    for table in tables(FOLDER):
        here = dict.fromkeys(row["benchmark"] for row in cells(home(table)))
        columns = dict.fromkeys(
            name for cell in read(FOLDER, table) if (table, cell.benchmark) not in NO_RUN for name in measured_on(cell)
        )
        assert set(here) == set(columns), table
        assert sorted(join.table_sets(read(FOLDER, table))) == sorted(columns), table


# what rows compose to


def override(key: str, value: Any) -> str:
    return f"{key}='{value}'" if "$" in str(value) else f"{key}={value}"


@cache
def composed(name: str, place: int) -> dict[str, Any]:
    """The row's sections, on one of its benchmarks (the next row's is on the next), which it tells as `on`."""
    row = listed(name)["rows"][place]
    on = sets(row)[place % len(sets(row))]
    words = [override(key, value) for key, value in {**row, "benchmark": on}.items()]
    cfg = compose("eval", [f"experiment={name}", *words, "rows=null"])
    return {"on": on} | {stage: OmegaConf.to_container(cfg[stage], resolve=True) for stage in STAGES}


def get(cfg: Mapping[str, Any], key: str) -> Any:
    return reduce(lambda node, part: node[part], key.split("."), cfg)


def kind(cfg: Mapping[str, Any], stage: str) -> str:
    """The module that the stage is of."""
    return cfg[stage]["_target_"].split(".")[2]


def kept(cfg: Mapping[str, Any]) -> Any:
    """What a row keeps, by whatever name its pruner has for it."""
    own = {
        "llm_vtp": "pruner.alpha",
        "framefusion": "pruner.cost",
        **dict.fromkeys(("look_m", "dycoke", "holitom", "fastvid", "fastv"), "pruner.retention_ratio"),
    }
    return get(cfg, own.get(kind(cfg, "pruner"), "budget.retention_ratio"))


def number(text: str) -> Any:
    """A share for percent; the words where it is no number."""
    try:
        return pytest.approx(float(text[:-1]) / 100 if text.endswith("%") else float(text))
    except ValueError:
        return text


def half(cfg: Mapping[str, Any]) -> float:
    """Look-M's two shares."""
    assert cfg["pruner"]["recent_ratio"] is cfg["pruner"]["important_ratio"] is None
    return kept(cfg) / 2


SAYS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {  # of a composed row, as the papers print it
    "retention": kept,
    "frame_retention": kept,
    "prune": lambda cfg: 1 - kept(cfg),
    "alpha": lambda cfg: cfg["pruner"]["alpha"],
    "layer": lambda cfg: cfg["pruner"]["layer"],
    "rho": lambda cfg: cfg["pruner"]["rho"],
    "tau": lambda cfg: cfg["budget"]["tau"],
    "newline": lambda cfg: cfg["backbone"]["newline"],
    "token_merge": lambda cfg: {False: "none", True: "pivotal"}[cfg["pruner"]["merge"]],
    "rank_scope": lambda cfg: {"frame": "individual_frame", "video": "whole_sequence"}[cfg["pruner"]["scope"]],
    "head_pool": lambda cfg: cfg["pruner"]["head_pool"],
    "recent_ratio": half,
    "important_ratio": half,
    "max_frames": lambda cfg: cfg["backbone"]["frames"],
    "eval_set": lambda cfg: kind(cfg, "benchmark"),
    "rate_source": lambda cfg: {"oracle": "gpt", "siglip": "keyvideollm", "kvtp": "kvtp"}[kind(cfg, "relevance")],
    "selection": lambda cfg: {"softmax": "soft", "topk": "hard"}[kind(cfg, "budget")],
}
NO_SETTING = {
    "block": "of a table of several parts",
    "duration": "of questions: the runs are over all of them",
    "variant": "HoliTom has no other form here than that outside the LLM",
}
OUTCOMES = ("prumerge", "prumerge_plus")  # of LLM-VTP: what adaptive selection came to, not what was set
METHODS = {  # by printed name: pruner, relevance, budget, scout
    "dataset": ("none", "uniform", "uniform", "none"),
    "none": ("none", "uniform", "uniform", "none"),
    "random": ("random", "uniform", "uniform", "none"),
    "tome": ("tome", "uniform", "uniform", "none"),
    "prumerge": ("prumerge", "uniform", "uniform", "none"),
    "keyvideollm": ("random", "siglip", "topk", "none"),
    "fastv": ("fastv", "uniform", "uniform", "none"),
    "random_kvtp": ("random", "kvtp", "softmax", "none"),
    "tome_kvtp": ("tome", "kvtp", "softmax", "none"),
    "prumerge_kvtp": ("prumerge", "kvtp", "softmax", "none"),
    "gpt_assigned": ("prumerge", "oracle", "softmax", "none"),
    "keyvideollm_soft": ("prumerge", "siglip", "softmax", "none"),
    "prumerge_plus": ("prumerge_plus", "uniform", "adaptive", "none"),
    "look_m": ("look_m", "uniform", "uniform", "none"),
    "llm_vtp": ("llm_vtp", "uniform", "uniform", "none"),
    "llm_vtp_pruned_tokens": ("llm_vtp", "uniform", "uniform", "none"),
    "visionzip": ("visionzip", "uniform", "uniform", "none"),
    "dycoke": ("dycoke", "uniform", "uniform", "none"),
    "framefusion": ("framefusion", "uniform", "uniform", "none"),
    "holitom": ("holitom", "uniform", "uniform", "none"),
    "fastvid": ("fastvid", "uniform", "uniform", "none"),
    **dict.fromkeys(
        ("vista", "vista_random_supp", "vista_rep_supp", "vista_hard_pruning", "vista_frozen_qformer"),
        ("vista", "prototype", "segment", "qformer"),
    ),
    "vista_static_alloc": ("vista", "uniform", "uniform", "qformer"),
    "vista_intrinsic_attn": ("vista", "prototype", "segment", "none"),
}
# of Vista-LLM and its ablations: saliency, compensation, aggregate (section 4.3 and the block's heading)
ARMS = {
    "vista": ("scout", "dpc", True),
    "vista_intrinsic_attn": ("intrinsic", "dpc", True),
    "vista_static_alloc": ("scout", "dpc", True),
    "vista_random_supp": ("scout", "random", True),
    "vista_rep_supp": ("scout", "representation", True),
    "vista_hard_pruning": ("scout", "dpc", False),
    "vista_frozen_qformer": ("scout", "dpc", True),
}
MODELS = {  # whose weights, and how many pictures: KVTP §3 and Vista-LLM §4.1, where they say it, else as released
    ("kvtp", "llava_video_7b"): ("lmms-lab/LLaVA-Video-7B-Qwen2", 128),
    ("kvtp", "llava_video_72b"): ("lmms-lab/LLaVA-Video-72B-Qwen2", 128),
    ("vista", "llava_video_7b"): ("lmms-lab/LLaVA-Video-7B-Qwen2", 64),
    ("vista", "llava_onevision_7b"): ("llava-hf/llava-onevision-qwen2-7b-ov-hf", 64),
    ("vista", "qwen2_5_vl_7b"): ("Qwen/Qwen2.5-VL-7B-Instruct", 64),
    ("llm_vtp", "pllava_7b"): ("ermu2001/pllava-7b", 16),
    ("llm_vtp", "tarsier_7b"): ("omni-research/Tarsier-7b", 8),
    ("llm_vtp", "videochat2_7b"): ("videochat2_7b", 16),
    ("llm_vtp", "st_llm_7b"): ("farewellthree/ST_LLM_weight/QA_weight", 16),
}


def paper(table: str) -> str:
    [found] = [name for name in ("kvtp", "llm_vtp", "vista") if table.startswith(f"{name}_")]
    return found


def of_lines(table: str) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """Of every line with rows: its method, its settings, and what each row composes to."""
    name = home(table)
    for (_, method, setting), line in lines(table).items():
        told = dict(re.findall(r"(\w+)=([^;]+)", setting))
        for place, row in enumerate(listed(name)["rows"]):
            if said(row) in join.entries(line[0]):
                yield method, told, composed(name, place)


@pytest.mark.parametrize("table", LINES)
def test_rows_have_the_settings_that_are_printed(table: str) -> None:
    """Read from the CSV a second time; settings that are none stand in NO_SETTING."""
    for method, told, cfg in of_lines(table):
        for name, text in told.items():
            if name in NO_SETTING or (name == "retention" and method in OUTCOMES and table.startswith("llm_vtp")):
                continue
            if (method, name) == ("vista_static_alloc", "tau"):  # of the block; even budgets have no segments
                assert "tau" not in cfg["budget"]
                continue
            assert SAYS[name](cfg) == number(text), (method, name, text)
        if method == "prumerge_plus" or (method, paper(table)) == ("prumerge", "llm_vtp"):
            assert "retention_ratio" not in cfg["budget"]
            assert cfg["pruner"]["ratio"] is None
        elif paper(table) == "kvtp" and method not in ("none", "dataset", "fastv"):
            assert kept(cfg) == 0.2  # "x20%", of their own rows; the others' is not printed
        if paper(table) == "vista" and kind(cfg, "backbone") == "llava_video":
            assert cfg["backbone"]["newline"] == told.get("newline", "grid")


@pytest.mark.parametrize("table", LINES)
def test_rows_are_the_methods_that_are_printed(table: str) -> None:
    """By METHODS and ARMS above."""
    for method, told, cfg in of_lines(table):
        misnamed = paper(table) == "llm_vtp" and method == "prumerge"  # Prumerge there is PruMerge+ elsewhere
        parts = tuple(kind(cfg, stage) for stage in ("pruner", "relevance", "budget", "scout"))
        assert parts == METHODS["prumerge_plus" if misnamed else method], method
        if kind(cfg, "pruner") == "vista":
            own = cfg["pruner"]
            assert (own["saliency"], own["compensation"], own["aggregate"]) == ARMS[method]
            assert cfg["relevance"].get("tau") == cfg["budget"].get("tau")  # of the same segments
        if kind(cfg, "scout") == "qformer":
            released = method == "vista_frozen_qformer"
            assert (cfg["scout"]["checkpoint"] == "Salesforce/blip2-itm-vit-g") == released
            assert cfg["scout"]["checkpoint"].endswith("/train/qformer/model") != released
        if kind(cfg, "pruner") == "llm_vtp":
            assert cfg["pruner"]["complement"] == (method == "llm_vtp_pruned_tokens")
        if kind(cfg, "pruner") == "prumerge_plus":
            assert cfg["pruner"]["spatial"]
        if method == "holitom":  # its released runs
            assert cfg["pruner"]["tau"] == (0.65 if told["retention"] == "10%" else 0.8)
        if kind(cfg, "relevance") == "siglip":  # that was not fine-tuned
            assert cfg["relevance"]["checkpoint"] == "google/siglip-so400m-patch14-384"
        if kind(cfg, "relevance") == "kvtp":
            assert cfg["relevance"]["checkpoint"].endswith("/train/kvtp/model")


@pytest.mark.parametrize("name", COUNTS)
def test_rows_are_of_their_models_and_frames(name: str) -> None:
    """By MODELS above, whose numbers of frames are the papers'; of figures the first and the last row."""
    rows = listed(name)["rows"]
    for place in range(len(rows)) if name in TABLES else (0, len(rows) - 1):
        cfg = composed(name, place)
        checkpoint, frames = MODELS[paper(name), rows[place]["backbone"]]
        assert cfg["backbone"]["checkpoint"].endswith(checkpoint)
        assert cfg["backbone"]["frames"] == cfg["frames"]["count"] == frames
        if "llava_video" in rows[place]["backbone"]:  # neither paper's code puts the frames' times into the prompt
            assert cfg["backbone"]["time_instruction"] is False
            # as KVTP's script calls lmms-eval: 13 × 13 tokens; Vista-LLM's rows have the release's 14 × 14
            assert cfg["backbone"]["pool"] == ("average" if paper(name) == "kvtp" else None)
        if paper(name) == "vista":
            assert cfg["benchmark"]["preset"] == "vista"
        if paper(name) == "kvtp":
            assert cfg["benchmark"]["source"]["preset"] == "kvtp"
            assert f"sparsekv_qa_{kind(cfg['benchmark'], 'source')}" == cfg["on"]


def test_rows_run_as_they_compose_here() -> None:
    """The one thing that this file does not ask kvtp.config for, on a small table."""
    rows = composed_rows("experiment=llm_vtp_table10")
    assert [row.entry for row in rows] == cells("llm_vtp_table10")
    for place, row in enumerate(rows):
        expected = composed("llm_vtp_table10", place)
        assert {stage: row.config[stage] for stage in STAGES} == {stage: expected[stage] for stage in STAGES}


# published/hyperparameters.csv, line by line


@dataclass(frozen=True)
class Run:
    """`key`: of composed rows; `means`: what stands there, where it is not the number in the file; `but`: experiments
    that vary it, or have another one; `only`: the only ones that it is about; `at`: rows of that retention alone."""

    key: str | Callable[[Mapping[str, Any]], Any]
    means: Any = None
    but: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    at: float | None = None


ABLATIONS = ("vista_table5", "vista_table6", "vista_table7", "vista_table9")  # at tau 0.95; what table 9 comes from
OF_RUNS: Mapping[tuple[str, str, str], Run] = {
    ("kvtp", "all", "max_frames"): Run("backbone.frames"),
    ("kvtp", "all", "frame_sampling"): Run("frames._target_", "kvtp.frames.uniform.Uniform"),
    ("kvtp", "all", "flops_profile_frames"): Run("backbone.frames"),
    ("kvtp", "kvtp", "retention"): Run("budget.retention_ratio"),
    ("kvtp", "kvtp", "predictor"): Run("relevance._target_", "kvtp.relevance.kvtp.Kvtp"),
    ("kvtp", "keyvideollm", "frame_retention"): Run("budget.retention_ratio"),
    ("kvtp", "keyvideollm", "selection"): Run("budget._target_", "kvtp.budget.topk.TopK"),
    ("kvtp", "fastv", "prune_ratio"): Run("pruner.retention_ratio", 1 - 0.5),
    ("kvtp", "fastv", "layer"): Run("pruner.layer"),
    ("kvtp_web", "kvtp", "token_reduction"): Run("budget.retention_ratio", 1 - 0.8),
    ("llm_vtp", "llm_vtp", "alpha"): Run("pruner.alpha", but=("llm_vtp_table10",)),
    ("llm_vtp", "llm_vtp", "layer_M"): Run("pruner.layer"),
    ("llm_vtp", "llm_vtp", "retention_table10"): Run("pruner.alpha", only=("llm_vtp_table10",)),
    ("llm_vtp", "llm_vtp", "rank_scope"): Run("pruner.scope", "frame", but=("llm_vtp_table5",)),
    ("llm_vtp", "llm_vtp", "head_pooling"): Run("pruner.head_pool", but=("llm_vtp_table6",)),
    ("llm_vtp", "llm_vtp", "question_pooling"): Run("pruner.query_pool"),
    ("llm_vtp", "llm_vtp", "tokens_per_frame_kept"): Run("pruner.rounding", "ceil"),
    ("llm_vtp", "llm_vtp", "token_merge"): Run("pruner.merge", False, but=("llm_vtp_table4",)),
    ("llm_vtp", "look_m", "recent_ratio"): Run(half),
    ("llm_vtp", "look_m", "important_ratio"): Run(half),
    ("llm_vtp", "look_m", "retention"): Run("pruner.retention_ratio"),
    ("llm_vtp", "all", "subtitles"): Run("benchmark.subtitles", False),
    ("llm_vtp", "all", "judge"): Run("benchmark.judge.model", "gpt-3.5-turbo-0125"),
    ("vista", "all", "frames"): Run("backbone.frames"),
    ("vista", "vista", "tau@retention=25%"): Run("budget.tau", but=ABLATIONS, at=0.25),
    ("vista", "vista", "tau@retention=20%"): Run("budget.tau", but=ABLATIONS, at=0.2),
    ("vista", "vista", "tau@retention=15%"): Run("budget.tau", but=ABLATIONS, at=0.15),
    ("vista", "vista", "tau@retention=10%"): Run("budget.tau", but=ABLATIONS, at=0.1),
    ("vista", "vista", "rho"): Run("pruner.rho", but=("vista_table6",)),
    ("vista", "vista", "ablation_retention"): Run(kept, only=ABLATIONS),
    ("vista", "vista", "ablation_tau"): Run("budget.tau", only=("vista_table5", "vista_table6", "vista_table9")),
    ("vista", "vista", "ablation_rho"): Run("pruner.rho", only=("vista_table5", "vista_table7", "vista_table9")),
    ("vista", "dycoke", "retention"): Run("pruner.retention_ratio"),
}
TRAINED: Mapping[tuple[str, str, str], tuple[str, str]] = {  # by the command at the head of conf/module/<first>.yaml
    ("kvtp", "dataset", "clip_len_frames"): ("relevance", "module.fusion.clip"),
    ("vista", "vista", "scout_lr"): ("qformer", "module.lr"),
    ("vista", "vista", "scout_batch_size"): ("qformer", "data.size"),
    ("vista", "vista", "scout_grad_accumulation_steps"): ("qformer", "trainer.accumulate_grad_batches"),
    ("vista", "vista", "align_loss_weight_alpha"): ("qformer", "module.weight"),
    ("vista", "vista", "align_topk_K"): ("qformer", "module.alignment.keep"),
    ("vista", "vista", "align_temperature_T"): ("qformer", "module.alignment.temperature"),
    ("vista", "vista", "train_phrase_min_words"): ("qformer", "data.min_words"),
    ("vista", "vista", "scout_model"): ("qformer", "module.checkpoint"),
}
WORDS = {"BLIP-2 ITM (visual encoder + Q-Former)": "Salesforce/blip2-itm-vit-g"}
SWEPT = {  # over rows of figures: least and greatest
    ("kvtp", "dataset", "beta_ablation_range"): ("kvtp_figure6", "benchmark.beta"),
    ("kvtp", "prumerge_kvtp", "temperature_ablation_range"): ("kvtp_figure7", "budget.temperature"),
}
ELSEWHERE: Mapping[tuple[str, str, str], str] = {  # no key of a run or a training
    ("kvtp", "all", "flops_profiler"): "how FLOPs are counted: kvtp.metric.conventions",
    ("kvtp", "all", "metric"): "what a benchmark of options has",
    ("kvtp", "dataset", "captioner"): "how the authors made their labels",
    ("kvtp", "dataset", "relevance_labeller"): "how the authors made their labels",
    ("kvtp", "dataset", "relevance_score_range"): "of labels, which are read as they are",
    ("kvtp", "dataset", "query_refinement"): "how the authors made their labels",
    ("kvtp", "dataset", "query_max_tokens"): "what SigLIP's texts have",
    ("kvtp", "dataset", "filter_min_frames"): "of the authors' choice of films",
    ("kvtp", "kvtp", "predictor_trained_params"): "a printed cell of table 4, of SigLIP's size",
    ("kvtp", "kvtp", "tau_l"): "a parameter of kvtp.relevance._fusion",
    ("kvtp", "kvtp", "tau_g"): "a parameter of kvtp.relevance._fusion",
    ("kvtp", "kvtp", "logit_scale_a"): "a parameter of SigLIP",
    ("kvtp", "kvtp", "logit_bias_b"): "a parameter of SigLIP",
    ("kvtp", "kvtp", "train_softmax_temperature"): "kvtp.module._relevance_loss has no other",
    ("kvtp", "prumerge_kvtp", "temperature_0_frame_retention"): "tested below",
    ("kvtp", "keyvideollm", "retrained"): "not done here: conf/method/keyvideollm.yaml",
    ("kvtp", "keyvideollm_soft", "trained_params"): "not done here: conf/method/keyvideollm_soft.yaml",
    ("llm_vtp", "all", "hardware"): "the machine that runs it",
    ("llm_vtp", "prumerge_plus", "retention_mean"): "what adaptive selection came to",
    ("llm_vtp", "prumerge_plus", "retention"): "what adaptive selection came to",
    ("llm_vtp", "prumerge", "retention_mean"): "what adaptive selection came to",
    ("llm_vtp", "llm_vtp", "kv_cache_first_M_layers"): "kvtp.pruner.llm_vtp.LLMVTP.compress_cache",
    ("llm_vtp", "all", "tasks"): "of the set: kvtp.benchmark.mvbench.TASKS",
    ("llm_vtp", "all", "samples_per_task"): "of the set",
    (
        "vista",
        "all",
        "tokens_per_frame",
    ): "of the backbone: 27 × 27 patches become 14 × 14; of Qwen's the picture's own size",
    ("vista", "vista", "ablation_backbone_dynamic_budgeting"): "tested below",
    ("vista", "vista", "tau_default_appendix"): "tested below",
    ("vista", "vista", "scout_head_pooling"): "kvtp.scout.qformer has no other",
    ("vista", "vista", "scout_query_pooling"): "kvtp.scout.qformer has no other",
    ("vista", "vista", "foveal_budget"): "kvtp.pruner.vista has no other",
    ("vista", "vista", "scout_optimizer"): "kvtp.module.base has no other",
    ("vista", "vista", "vision_dim"): "of the checkpoint",
    ("vista", "vista", "itc_dim"): "of the checkpoint",
    ("vista", "vista", "best_checkpoint_step"): "tested below",
    ("vista", "holitom", "variant"): "HoliTom has no other form here",
    ("vista", "all", "hardware"): "the machine that runs it",
}
NOT_GIVEN = {  # a name without a value
    *(("kvtp", "dataset", name) for name in ("beta",)),
    *(("kvtp", "kvtp", name) for name in ("alpha", "theta_local", "phi_global", "inference_softmax_temperature")),
    *(("kvtp", method, "retention") for method in ("random", "tome", "prumerge")),
    *(("vista", "vista", name) for name in ("b_min", "fusion_alpha_eq12", "knn_K", "budget_softmax_temperature")),
}


def hyperparameters() -> list[dict[str, str]]:
    with (FOLDER / "hyperparameters.csv").open(encoding="utf-8") as source:
        return list(csv.DictReader(source))


def name_of(line: Mapping[str, str]) -> tuple[str, str, str]:
    return line["paper"], line["method"], line["name"]


def value(name: tuple[str, str, str]) -> str:
    [found] = {line["value"] for line in hyperparameters() if name_of(line) == name}
    return found


def rows_of(line: Mapping[str, str], asked: Run) -> Iterator[dict[str, Any]]:
    """Composed rows of tables that a hyper-parameter is about."""
    parts = {"kvtp": ("random_kvtp", "tome_kvtp", "prumerge_kvtp")}
    methods = parts.get(line["method"], (line["method"],))
    on = set(line["benchmark"].split("|")) - {""}
    for name in TABLES:
        if paper(name) != line["paper"].removesuffix("_web") or name in asked.but or name not in (asked.only or TABLES):
            continue
        for place, row in enumerate(listed(name)["rows"]):
            if line["backbone"] and row["backbone"] not in line["backbone"].split("|"):
                continue
            if line["method"] != "all" and row["method"] not in methods:
                continue
            if asked.at not in (None, row.get("retention_ratio")):
                continue
            if on and on != {"sparsekv_qa"} and not on & set(sets(row)):
                continue
            if row.get("relevance") == "uniform" and asked.key == "budget.tau":  # even budgets have no segments
                continue
            cfg = composed(name, place)
            if not str(asked.key).startswith("benchmark.") or cfg["on"] in on:
                yield cfg


def test_every_hyperparameter_is_looked_at_in_one_way() -> None:
    every = [name_of(line) for line in hyperparameters()]
    assert len(every) == 124
    kinds: tuple[Any, ...] = (OF_RUNS, TRAINED, SWEPT, ELSEWHERE, NOT_GIVEN)
    assert set(every) == set().union(*kinds)
    assert sum(map(len, kinds)) == len(set(every))
    assert {name_of(line) for line in hyperparameters() if not line["value"]} == NOT_GIVEN


@pytest.mark.parametrize("name", OF_RUNS, ids="-".join)
def test_rows_have_the_papers_hyperparameters(name: tuple[str, str, str]) -> None:
    """Every line of that name, in all rows that it is about, of which there are some."""
    asked = OF_RUNS[name]
    for line in hyperparameters():
        if name_of(line) != name:
            continue
        expected = number(line["value"]) if asked.means is None else asked.means
        if isinstance(expected, float):
            expected = pytest.approx(expected)
        found = list(rows_of(line, asked))
        assert found, line
        for cfg in found:
            assert (asked.key(cfg) if callable(asked.key) else get(cfg, asked.key)) == expected, line


@cache
def training(module: str) -> Any:
    """What the full-size command at the head of that module's YAML composes to, but for what it leaves open."""
    text = (CONF / "module" / f"{module}.yaml").read_text(encoding="utf-8")
    head = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), text.splitlines()))
    command = head[head.index("python scripts/train.py") :].replace("\\", " ").split()[2:]
    words = [word.strip("'") for word in takewhile(lambda word: "=" in word, command)]
    return compose("train", [word for word in words if not word.endswith("=…")])


@pytest.mark.parametrize("name", TRAINED, ids="-".join)
def test_trainings_have_the_papers_hyperparameters(name: tuple[str, str, str]) -> None:
    module, key = TRAINED[name]
    text = value(name)
    assert OmegaConf.select(training(module), key) == number(WORDS.get(text, text))


def test_trainings_go_on_to_the_best_checkpoint() -> None:
    """Validated every 25 steps, of 20 batches each; so step 625 is one of those that can be kept."""
    best = int(value(("vista", "vista", "best_checkpoint_step")))
    trainer = training("qformer").trainer
    each = trainer.val_check_interval / trainer.accumulate_grad_batches
    assert best <= trainer.max_steps
    assert best % each == 0


def test_rows_read_what_a_training_writes() -> None:
    """And the first table that needs it says which."""
    needed = defaultdict(set)
    for name in COUNTS:
        for row in listed(name)["rows"]:
            for key in ("scout.checkpoint", "relevance.checkpoint"):
                if "train/" in (path := row.get(key, "")):
                    needed[paper(name), key].add(path)
    assert needed == {
        ("kvtp", "relevance.checkpoint"): {"${paths.outputs}/train/kvtp/model"},
        ("vista", "scout.checkpoint"): {"${paths.outputs}/train/qformer/model"},
    }
    for name, module, given in (("kvtp_table2", "relevance", "kvtp"), ("vista_table1", "qformer", "qformer")):
        head = " ".join(line.lstrip("# ") for line in file(name).splitlines() if line.startswith("#"))
        assert f"conf/module/{module}.yaml" in head
        assert f"name={given}" in head


@pytest.mark.parametrize("name", SWEPT, ids="-".join)
def test_figures_sweep_the_papers_ranges(name: tuple[str, str, str]) -> None:
    experiment, key = SWEPT[name]
    steps = [row[key] for row in listed(experiment)["rows"]]
    assert [min(steps), max(steps)] == [float(end) for end in value(name).split("-")]
    assert listed(experiment)["axis"] == key


def test_at_temperature_0_a_fifth_of_the_frames_is_kept() -> None:
    [place] = [place for place, row in enumerate(listed("kvtp_figure7")["rows"]) if row["budget.temperature"] == 0]
    name = ("kvtp", "prumerge_kvtp", "temperature_0_frame_retention")
    assert composed("kvtp_figure7", place)["budget"]["retention_ratio"] == number(value(name))


def test_where_budgets_are_ablated() -> None:
    backbone = value(("vista", "vista", "ablation_backbone_dynamic_budgeting"))
    assert {row["backbone"] for row in listed("vista_table5")["rows"] if "budget" in row} == {backbone}


def test_tau_where_nothing_is_said() -> None:
    default = OmegaConf.load(CONF / "budget" / "segment.yaml").tau
    assert default == number(value(("vista", "vista", "tau_default_appendix")))
