"""What the head of an experiment says of hours and disk."""

import re
from collections.abc import Sequence

import pytest
from composing import composed_rows

from kvtp.command import ROOT
from kvtp.config import Row
from kvtp.paper.computed import Computed, computed
from kvtp.paper.published import PAPERS

SETS = {  # questions, films; of SparseKV-QA, whose index is not public, those of its sources
    "videomme": (2700, 900),
    "mvbench": (4000, 3641),
    "mlvu": (2175, 1122),
    "longvideobench": (1337, 753),
    "egoschema": (5031, 5031),
    "egoschema_subset": (500, 500),
    "msvd_qa": (13157, 504),
    "msrvtt_qa": (72820, 2990),
    "tgif_qa": (25751, 24000),
    "activitynet_qa": (8000, 800),
    "vcgbench": (3493, 500),
    "sparsekv_qa_videomme": (2700, 900),
    "sparsekv_qa_egoschema": (500, 500),
    "sparsekv_qa_nextqa": (8564, 1000),
}
ARCHIVES = {  # [GB], as their publishers tell
    "longvideobench": ("LongVideoBench", 160),
    "egoschema": ("EgoSchema", 106),
    "egoschema_subset": ("EgoSchema", 106),
    "nextqa": ("NExT-QA", 6.5),
    "activitynet_qa": ("ActivityNet", 148),
    "vcgbench": ("Video-ChatGPT", 11.3),
}
NAMES = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml") if path.stem.startswith(PAPERS))
QUICK = ("llm_vtp_table5",)
WORDS = {
    "msvd_qa",
    "msrvtt_qa",
    "tgif_qa",
    "activitynet_qa",
    "vcgbench",
}  # replies of some 72 tokens, as LLM-VTP prints


def hours(rows: Sequence[Row], costs: Sequence[Computed]) -> float:
    """At 150 TFLOP/s; 30 ms for each token of a reply (a 72B 100), which waits for memory; 1.5 s of decoding for each
    film that nothing hides; films seen once for all rows of a backbone on a set; all else for every question."""
    films: dict[tuple[str, str], float] = {}
    total = 0.0
    for row, told in zip(rows, costs, strict=True):
        if told.costs is None:
            continue
        asked, seen = SETS[row.choices["benchmark"]]
        each = sum(told.costs[f"flops/{part}_tflops"] for part in ("prefill", "method")) / 150
        reply = (72 if row.choices["benchmark"] in WORDS else 4) * (0.1 if "72b" in row.choices["backbone"] else 0.03)
        total += asked * (each + reply)
        place = row.choices["backbone"], row.choices["benchmark"]
        films[place] = max(films.get(place, 0), seen * (told.costs["flops/vision_tflops"] / 150 + 1.5))
    return (total + sum(films.values())) / 3600


def head(name: str) -> str:
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    return " ".join(line.removeprefix("#").strip() for line in text.partition("\ndefaults")[0].splitlines())


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in NAMES])
def test_hours_follow_from_counted_flops(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = composed_rows(f"experiment={name}")
    expected = hours(rows, computed(rows, tmp_path_factory.getbasetemp() / "computed"))
    told = re.search(r"GPU: about ([\d.]+) hours of (one H100|the H100s that hold a 72B)\.", head(name))
    assert told is not None
    assert float(told[1]) == float(f"{expected:.2g}")
    assert (told[2] != "one H100") == any("72b" in row.choices["backbone"] for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_disk_is_that_of_its_sets(name: str) -> None:
    """As their publishers tell, by the rows as they are written."""
    written = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    rows = written.partition("\nrows:")[2]
    used = {one.removeprefix("sparsekv_qa_") for one in SETS if re.search(rf"\b{one}\b", rows)}
    disk = head(name).partition("Disk: ")[2]
    assert re.match(r"\d+ GB of weights", disk)
    known = {title: size for one, (title, size) in ARCHIVES.items() if one in used}
    for title, size in known.items():
        assert f"{title} {size:g} GB" in disk
    assert len(re.findall(r"[\d.]+ GB", disk)) == 1 + len(known)
    assert ("of no known size" in disk) == bool(used - set(ARCHIVES))
