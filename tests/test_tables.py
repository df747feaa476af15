"""The papers' experiments as a person runs them, in miniature: runs, then their tables and pictures.

What must come of them is told by the experiment's YAML and by published/*.csv, read here without kvtp.
"""

import csv
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from shell import Shell

from kvtp.cell import make
from kvtp.command import CommandError

ROOT = Path(__file__).resolve().parent.parent
PAPERS = ("kvtp", "llm_vtp", "vista")
QUICK = ("kvtp_figure7", "llm_vtp_table4", "vista_table3")  # others: make test-all
JUDGED = {"vcgbench", "msvd_qa", "msrvtt_qa", "activitynet_qa", "tgif_qa"}  # where debug=tiny asks no judge
PNG = b"\x89PNG"
LONGEST = 1500  # [s] of a command


def experiments() -> list[Any]:
    """All of the papers; slow but for QUICK. Neighbours share runs."""
    names = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in names
        if name.rpartition("_")[0] in PAPERS
    ]


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "conf" / "experiment" / f"{name}.yaml").read_text())


def grid(told: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each of its benchmarks."""
    return [
        {**row, "benchmark": one}
        for row in told["rows"]
        for one in (row["benchmark"] if isinstance(row["benchmark"], list) else [row["benchmark"]])
    ]


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def printed(table: str) -> list[str]:
    return [line["value"] for line in lines(ROOT / "published" / f"{table}.csv") if line["value"]]


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:\.\d+)?", text))


def ran(shell: Shell, *words: str) -> str:
    """What it said; it must end with status 0."""
    process = shell.start(*words)
    try:
        said, _ = process.communicate(timeout=LONGEST)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this worker's tests keep runs (those that two experiments share are made once) and miniatures."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "outputs").mkdir()
    return folder


@pytest.mark.parametrize("name", experiments())
def test_in_miniature(project_root: Path, world: Path, name: str) -> None:
    told = read(name)
    words = (f"experiment={name}", "debug=tiny", f"paths.data={world / 'data'}")
    ran(Shell(project_root, world / "outputs"), *words)
    said = ran(Shell(project_root, world / "outputs", "report.py"), *words)
    assert "not finished" not in said
    folder = world / "outputs" / "compare" / f"{name}_tiny"
    cells = lines(folder / "cells.csv")
    asked = grid(told)
    assert len(cells) == len(asked)
    assert {cell["state"] for cell in cells} == {"finished"}
    assert {cell["backbone"] for cell in cells} == {"tiny"}
    assert all(int(cell["answers"]) > 0 for cell in cells)
    assert sorted(cell["row"] for cell in cells) == sorted(map(json.dumps, asked)), "a cell tells what the row says"
    page = (folder / "report.html").read_text()
    for table in told["paper"]:
        published_table(folder, table, page)
    if not told["paper"]:
        own = lines(folder / f"{name}_tiny.csv")
        assert any(line["measured"] for line in own)
        assert (folder / f"{name}_tiny.md").is_file()
        assert (folder / f"{name}_tiny.tex").is_file()
        assert f"<h2>{name}_tiny" in page
    everything = [line for table in told["paper"] for line in lines(folder / f"{table}.csv")]
    measured = [line for line in everything if line["measured"]]
    assert measured or not told["paper"] or {row["benchmark"] for row in asked} <= JUDGED
    assert name == "vista_figure3" or not [line for line in everything if line["missing"] == "not run"], "it is block e"
    for line in measured:
        assert "run on tiny, not on" in line["reason"], line
        assert "on a generated miniature" in line["reason"], line
        assert not line["difference"], "what does not compare is not subtracted"
    assert (folder / "figure.png").is_file() == ("axis" in told)
    if "axis" in told:
        assert (folder / "figure.png").read_bytes().startswith(PNG)
        assert "<svg" in page
    if "curves" in told:
        assert "no curves are drawn; train first" in said


def published_table(folder: Path, table: str, page: str) -> None:
    """All that is printed stands in every form, once; no number is missing without a word."""
    expected = Counter(printed(table))
    told = lines(folder / f"{table}.csv")
    assert Counter(line["published"] for line in told if line["published"]) == expected
    assert all(line["measured"] or line["computed"] or line["missing"] for line in told)
    (section,) = re.findall(rf"<h2>{table}\b.*?</table>", page, re.DOTALL)
    tex = (folder / f"{table}.tex").read_text()
    assert f"\\label{{tab:{table}}}" in tex
    for form in ((folder / f"{table}.md").read_text(), tex, section):
        there = numbers(form)
        assert not {value: count for value, count in expected.items() if there[value.lstrip("+-−")] < count}


@pytest.mark.parametrize("name", ["llm_vtp_table3", pytest.param("vista_table2", marks=pytest.mark.slow)])
def test_without_any_run(project_root: Path, tmp_path: Path, name: str) -> None:
    """What is printed, and what it costs by shapes: all of the full model, less where less is kept; kept for later."""
    told = read(name)
    shell = Shell(project_root, tmp_path, "report.py")
    said = ran(shell, f"experiment={name}", f"paths.data={tmp_path}")
    count = len(grid(told))
    assert f"{count} of {count} runs are not finished" in said
    folder = tmp_path / "compare" / name
    assert {cell["state"] for cell in lines(folder / "cells.csv")} == {"not finished"}
    (table,) = told["paper"]
    published_table(folder, table, (folder / "report.html").read_text())
    found = lines(folder / f"{table}.csv")
    assert not any(line["measured"] for line in found)
    costs: dict[str, list[tuple[float, float]]] = {}
    for line in found:
        if line["column"] == "FLOPs here":
            kept = re.search(r"retention=([\d.]+)%", line["setting"] or "")
            costs.setdefault(line["method"], []).append((float(kept[1]) if kept else 0, float(line["computed"])))
    assert {cost for _, cost in costs.pop("none")} == {100.0}
    assert set(costs) == {row["method"] for row in told["rows"]} - {"none"}
    for method, each in costs.items():
        assert [cost for _, cost in sorted(each)] == sorted({cost for _, cost in each}), method
        assert all(0 < cost <= 100 for _, cost in each)
        assert method == "look_m" or max(cost for _, cost in each) < 90, "Look-M shrinks the cache alone"
    again = ran(shell, f"experiment={name}", f"paths.data={tmp_path}")
    assert "costs are told from shapes now" in said
    assert "costs are told from shapes now" not in again
    assert lines(folder / f"{table}.csv") == found


@pytest.mark.parametrize(
    "name", ["llm_vtp_table4", *(pytest.param(one, marks=pytest.mark.slow) for one in ("kvtp_table4", "vista_table5"))]
)
def test_costs_of_a_table_without_its_unpruned_row(project_root: Path, tmp_path: Path, name: str) -> None:
    """All its rows prune; what they cost is told against the same model unpruned nevertheless."""
    assert all(row["method"] != "none" for row in read(name)["rows"])
    ran(Shell(project_root, tmp_path, "report.py"), f"experiment={name}", f"paths.data={tmp_path}")
    told = [line for line in lines(tmp_path / "compare" / name / f"{name}.csv") if line["column"] == "FLOPs here"]
    assert len(told) == len({(line["backbone"], line["method"], line["setting"]) for line in told}) > 1
    assert all(5 < float(line["computed"]) < 70 for line in told), told


THERE = "{method: random, benchmark: videomme, benchmark.root: miniature}"
NO_SET = "{method: none, benchmark: mlvu, benchmark.root: nowhere}"
NO_MODEL = "{method: tome, benchmark: videomme, benchmark.root: miniature, backbone.checkpoint: not/here}"


def test_what_is_not_there_is_left_out(project_root: Path, tmp_path: Path, world: Path) -> None:
    """Of a table whose sets or checkpoints are not all there the rest is made, and the end tells; not so where nothing
    is left of it."""
    few = (f"paths.data={world / 'data'}", "frames.count=2", "benchmark.limit=2")
    started = {}
    for rows in ((THERE, NO_SET, NO_MODEL), (NO_SET, NO_MODEL), (NO_SET,)):
        shell = Shell(project_root, tmp_path / str(len(rows)))
        shell.outputs.mkdir()
        started[rows] = shell, shell.start(f"rows=[{','.join(rows)}]", *few)
    for rows, (shell, process) in started.items():
        said, _ = process.communicate(timeout=LONGEST)
        assert process.returncode == 1, said
        assert "Traceback" not in said
        assert ("none: " if len(rows) > 1 else "") + "benchmark.root=nowhere has no" in said
        assert ("tome: backbone.checkpoint 'not/here'" in said) == (NO_MODEL in rows)
        made = [folder.name for folder in shell.folders().values()]
        if THERE in rows:
            assert [name.partition("_")[0] for name in made] == ["random"]
            assert len(next(iter(shell.predictions().values()))) == 2
            assert "left out: none: benchmark.root=nowhere" in said
            assert "2 of 3 runs were left out, the first is none: benchmark.root=nowhere" in said.splitlines()[-1]
        else:
            assert not made
            assert "left out" not in said


OWN = """# @package _global_
paper: null
rows:
  - {method: none, benchmark: videomme, benchmark.root: miniature}
  - {method: random, benchmark: videomme, benchmark.root: miniature, retention_ratio: 0.2}
"""
DOCUMENT = "# Mine\n\n<!-- own -->\nstale | 99.9\n<!-- /own -->\n\nThe end.\n"


def test_a_document_holds_the_table(project_root: Path, tmp_path: Path, world: Path) -> None:
    """Of an experiment that somebody has in a folder of their own: accuracies as the answers have them."""
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(OWN)
    words = (
        *(f"--config-dir={tmp_path / 'conf'}", "experiment=own", f"paths.data={world / 'data'}"),
        *("frames.count=2", "benchmark.limit=5"),
    )
    runs, report = Shell(project_root, tmp_path), Shell(project_root, tmp_path, "report.py")
    ran(runs, *words)
    document = tmp_path / "mine.md"
    document.write_text(DOCUMENT)
    ran(report, *words, f"into=[{document}]")
    before, stands, after = re.split(r"<!-- /?own -->\n", document.read_text())
    assert (before, after) == ("# Mine\n\n", "\nThe end.\n")
    assert "stale" not in stands
    assert stands.strip() == (tmp_path / "compare" / "own" / "own.md").read_text().strip()
    for name, rows in runs.predictions().items():
        right = 100 * sum(row["outcome"] == "correct" for row in rows) / 5
        (line,) = (line for line in stands.splitlines() if re.match(rf"[|-] *{name.partition('_')[0]}\b", line))
        assert re.search(rf"[ :]{right:.1f}\b", line), (line, right)


def sparse(home: Path, *words: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3", job_name="eval"):
        words = ("benchmark=sparsekv_qa_videomme", "benchmark.root=miniature", f"paths.data={home}", *words)
        return make("benchmark", OmegaConf.to_container(compose("eval", list(words)).benchmark, resolve=True))


def test_beta_leaves_even_questions_out(world: Path) -> None:
    """KVTP's filter as its skip rule has it (specs: α = 0.1, T = 2): frames are kept at the rates N · α · softmax(s/T),
    and a question stays where the largest reaches βα."""

    def largest(question: Any) -> float:
        odds = np.exp(np.array(question.relevance) / 2)
        return float((len(odds) * 0.1 * odds / odds.sum()).max())

    everything = sparse(world / "data")
    rates = {everything[place].id: largest(everything[place]) for place in range(len(everything))}
    steps = sorted(set(rates.values()))
    assert len(steps) >= 2, "questions that differ"
    for low, high in pairwise(steps):
        beta = (low + high) / 2 / 0.1
        left = sparse(world / "data", f"benchmark.beta={beta}")
        kept = [left[place].id for place in range(len(left))]
        assert kept == [name for name, rate in rates.items() if rate >= 0.1 * beta]
        assert (
            left[0].relevance == next(everything[p] for p in range(len(rates)) if everything[p].id == kept[0]).relevance
        )
    most = steps[-1] / 0.1
    with pytest.raises(CommandError, match=rf"benchmark\.beta must be at most .* {most:.4g}, got {most + 0.5:.4f}"):
        sparse(world / "data", f"benchmark.beta={most + 0.5:.4f}")
