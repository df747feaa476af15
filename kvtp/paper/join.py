"""What a printed line of a paper is called here: published/*.csv against conf/experiment/, both ways."""

import csv
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from kvtp.command import ROOT, groups
from kvtp.paper.published import Cell

Entry = dict[str, Any]  # as a row of an experiment, without its benchmark

AGAINST = {"method": "none"}  # what percentages and differences are told against
# figures of a data set, not of a method: the run that looks at its films and questions
DATASET = {"backbone": "llava_video_7b", **AGAINST}
METHODS: Mapping[str, Entry] = {
    "dataset": DATASET,
    "llm_vtp_pruned_tokens": {"method": "llm_vtp_pruned"},
    "vista_intrinsic_attn": {"method": "vista", "scout": "none", "pruner.saliency": "intrinsic"},
    "vista_static_alloc": {
        "method": "vista",
        "relevance": "uniform",
        "budget": "uniform",
        "budget.rounding": "largest_remainder",
    },
    "vista_random_supp": {"method": "vista", "pruner.compensation": "random"},
    "vista_rep_supp": {"method": "vista", "pruner.compensation": "representation"},
    "vista_hard_pruning": {"method": "vista", "pruner.aggregate": False},
    "vista_frozen_qformer": {"method": "vista", "scout.checkpoint": "Salesforce/blip2-itm-vit-g"},
}
# printed in three ways, "almost certainly one method" (published/README.md): the ratio of both comes to 35 %
MISNAMED = {("llm_vtp_table2", "prumerge"): "prumerge_plus", ("llm_vtp_table9", "prumerge"): "prumerge_plus"}
TRAINED: Mapping[str, Entry] = {  # what has to be trained first, where nothing else is said
    "vista": {"scout.checkpoint": "${paths.outputs}/train/qformer/model"},
    **{
        f"{pruner}_kvtp": {"relevance.checkpoint": "${paths.outputs}/train/kvtp/model"}
        for pruner in ("random", "tome", "prumerge")
    },
    "keyvideollm": {"relevance.checkpoint": "google/siglip-so400m-patch14-384"},
    "keyvideollm_soft": {"relevance.checkpoint": "google/siglip-so400m-patch14-384"},
}
SPARSE = ("sparsekv_qa_videomme", "sparsekv_qa_egoschema", "sparsekv_qa_nextqa")
FOUR = ("mvbench", "longvideobench", "mlvu", "videomme")
JUDGED = ("vcgbench", "msvd_qa", "msrvtt_qa", "activitynet_qa", "tgif_qa")
# of tables whose columns do not tell them, or not in an order
SETS = {"kvtp_table1": SPARSE, "vista_table4": FOUR, "llm_vtp_table9": JUDGED}
# of a row: what no printed line says
EXTRA = ("benchmark", "benchmark.preset", "frames", "backbone.pool", "backbone.time_instruction")
RELATIVE = ("average_percent", "relative_accuracy", "relative_change", "accuracy_delta", "speedup")
OWN_RULE = ("none", "prumerge_plus")  # how much these keep is no setting
UNSTATED = 0.2  # of KVTP's rows without budgets: what its page's FLOPs, and its own rows, come to
DURATIONS = {  # [s], Vista-LLM's table 9
    "lt3m": (0, 180),
    "3-10m": (180, 600),
    "10-20m": (600, 1200),
    "20-30m": (1200, 1800),
    "gt30m": (1800, float("inf")),
    "overall": (0, float("inf")),
}


def _share(value: str) -> float:
    return round(float(value.removesuffix("%")) / 100, 6)


def _nothing(value: str) -> Entry:
    return {}


SETTINGS: Mapping[str, Callable[[str], Entry]] = {
    "retention": lambda value: {"retention_ratio": _share(value)},
    "frame_retention": lambda value: {"retention_ratio": _share(value)},
    "prune": lambda value: {"retention_ratio": round(1 - _share(value), 6)},
    "layer": lambda value: {"pruner.layer": int(value)},
    "rho": lambda value: {"pruner.rho": float(value)},
    "tau": lambda value: {"budget.tau": float(value)},
    "newline": lambda value: {"backbone.newline": value},
    "token_merge": lambda value: {"pruner.merge": {"none": False, "pivotal": True}[value]},
    "rank_scope": lambda value: {"pruner.scope": {"individual_frame": "frame", "whole_sequence": "video"}[value]},
    "head_pool": lambda value: {"pruner.head_pool": value},
    "alpha": _nothing,  # LLM-VTP's name of the retention
    "recent_ratio": _nothing,  # Look-M's two shares are halves of the retention, as here
    "important_ratio": _nothing,
    "variant": _nothing,  # HoliTom outside the LLM: what is built here
    "eval_set": _nothing,  # the benchmark
    "max_frames": _nothing,  # one number for the whole table: the experiment's backbone.frames
    "rate_source": _nothing,  # the method
    "selection": _nothing,
    "block": _nothing,  # of a table of several parts
    "duration": _nothing,  # of questions, not of runs
}


def settings(cell: Cell) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in cell.setting.split(";") if part)  # type: ignore[misc]


def backbones(cell: Cell) -> tuple[str, ...]:
    """Those of conf/backbone that the line is about; none where this project has not all of them."""
    named = tuple((cell.backbone or str(DATASET["backbone"])).split("+"))
    return named if set(named) <= set(groups()["backbone"]) else ()


def benchmarks(cell: Cell) -> tuple[str, ...]:
    """Those of conf/benchmark that a figure is measured on; none for one that is about all of the table's."""
    sparse = cell.table.startswith("kvtp_")
    if cell.method == "dataset" and sparse:
        return SPARSE if cell.benchmark == "sparsekv_qa" else ()
    found = []
    for name in cell.benchmark.split("+"):
        if name in ("efficiency", "average"):
            continue
        base = name if name in groups()["benchmark"] else name.rpartition("_")[0]  # mvbench_AA, videomme_short
        found.append(f"sparsekv_qa_{base}" if sparse else base)
    return tuple(found)


def table_sets(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Those of a whole table, in the order of its columns."""
    cells = list(cells)
    return SETS.get(cells[0].table) or tuple(dict.fromkeys(one for cell in cells for one in benchmarks(cell)))


def against(cell: Cell, backbone: str) -> Entry:
    """The row that a relative figure of this line is told against."""
    return {**_usual(cell, backbone, AGAINST["method"]), "backbone": backbone, **AGAINST}


def entries(cell: Cell) -> tuple[Entry, ...]:
    """What rows of an experiment must say for this line, one per backbone; none where there is no such backbone."""
    return tuple(_entry(cell, backbone) for backbone in backbones(cell))


def _entry(cell: Cell, backbone: str) -> Entry:
    printed = MISNAMED.get((cell.table, cell.method), cell.method)
    named = {"backbone": backbone, **METHODS.get(printed, {"method": printed})}
    method = named["method"]
    said = settings(cell)
    found = {key: value for name, text in said.items() for key, value in SETTINGS[name](text).items()}
    found = {**_usual(cell, backbone, method), **found}
    if method in OWN_RULE:
        found.pop("retention_ratio", None)
    if "budget" in named:  # the ablation's has no segments
        found.pop("budget.tau", None)
    trained = TRAINED.get(method, {}) if named.get("scout") != "none" else {}
    return {**trained, **found, **named}


def _usual(cell: Cell, backbone: str, method: str) -> Entry:
    """What the table does not print, as the paper says elsewhere (published/hyperparameters.csv)."""
    paper = next(paper for paper in ("kvtp", "llm_vtp", "vista") if cell.table.startswith(f"{paper}_"))
    found: Entry = {"backbone.newline": "grid"} if (paper, backbone) == ("vista", "llava_video_7b") else {}
    if paper == "kvtp" and method != "none":
        found["retention_ratio"] = UNSTATED
    if paper == "llm_vtp" and method in ("llm_vtp", "llm_vtp_pruned", "look_m"):
        on = next(iter(benchmarks(cell)), SETS.get(cell.table, ("mvbench",))[0])
        if (alpha := hyperparameter(paper, "llm_vtp", backbone, on, "alpha")) is not None:
            found["retention_ratio"] = float(alpha)
        if method != "look_m" and (layer := hyperparameter(paper, "llm_vtp", backbone, on, "layer_M")) is not None:
            found["pruner.layer"] = int(layer)
    if method == "holitom" and settings(cell).get("retention") == "10%":
        found["pruner.tau"] = 0.65  # as its released runs
    if cell.table == "vista_table9" and method == "vista":  # its figures are those of the ablations' setting
        found |= {"pruner.rho": 0.85, "budget.tau": 0.95}
    return found


@cache
def _hyperparameters() -> tuple[dict[str, str], ...]:
    with (ROOT / "published" / "hyperparameters.csv").open() as file:
        return tuple(csv.DictReader(file))


def hyperparameter(paper: str, method: str, backbone: str, benchmark: str, name: str) -> str | None:
    """What the paper's text gives for that backbone and benchmark; None where it does not."""
    for row in _hyperparameters():
        told = (row["paper"], row["method"], row["name"]) == (paper, method, name)
        if told and backbone in row["backbone"].split("|") and benchmark in row["benchmark"].split("|"):
            return row["value"]
    return None
