"""Names, run ids and rows, from the real configuration."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composing import composed_rows
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from kvtp.command import CONF, CommandError, check, check_command_line, groups, top_level
from kvtp.config import STAGES, Row, method_choices

# said once more, by hand: what may differ between two machines that run the same experiment
NEUTRAL = {"backbone.device", "backbone.device_map", "frames.reader", "frames.timeout", "frames.workers"}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        return compose("eval", ["benchmark.root=questions", *overrides], return_hydra_config=True)


def rows(*overrides: str) -> list[Row]:
    return composed_rows("benchmark.root=questions", *overrides)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "none"),
        (("method=tome",), "tome"),
        (("method=tome", "retention_ratio=0.1", "frames.count=8"), "tome"),
        (("method=prumerge", "relevance=oracle", "budget=softmax"), "prumerge+relevance=oracle+budget=softmax"),
        (("pruner=tome",), "tome"),
        (("pruner=tome", "relevance=oracle"), "tome+relevance=oracle"),
        (("method=none", "pruner=tome"), "none+pruner=tome"),
        (("method=tome", "pruner=none"), "none"),
        (("method=tome", "pruner=tome", "relevance=uniform"), "tome"),
        (("methods=[none,tome]",), "compare"),
        (("experiment=baselines",), "compare"),
    ],
)
def test_names(overrides: tuple[str, ...], name: str) -> None:
    assert composed(*overrides).name == name


def test_run_ids_read_well() -> None:
    cfg = composed("method=tome", "retention_ratio=0.1")
    assert re.fullmatch(r"tome_tiny_folder_0\.1_[0-9a-f]{8}", cfg.run_id)
    assert cfg.hydra.run.dir == f"{cfg.paths.outputs}/tome/{cfg.run_id}"
    assert f"{cfg.hydra.sweep.dir}/{cfg.hydra.sweep.subdir}" == cfg.hydra.run.dir
    assert Path(cfg.paths.outputs) == CONF.parent / "outputs"  # whatever the working directory
    assert re.fullmatch(r"none_tiny_folder_1_[0-9a-f]{8}", composed("method=none", "retention_ratio=0.1").run_id)
    same = composed("pruner=tome", "retention_ratio=0.1").run_id
    assert same == cfg.run_id, "a method is what it chooses"
    assert composed("experiment=baselines").run_id == "baselines"
    assert re.fullmatch(r"[\w.+=-]+", composed("name='a/b: c'").run_id)


def test_run_ids_change_with_what_is_predicted_and_with_nothing_else() -> None:
    cfg = composed("method=random", "budget=softmax")
    OmegaConf.set_struct(cfg, False)
    own = cfg.run_id
    plain = OmegaConf.to_container(cfg)
    plain.pop("hydra")
    seen = set()
    for key, value in leaves(plain):
        if key in ("name", "run_id", "methods", "retention_ratios", "rows"):
            continue
        resolved = OmegaConf.select(cfg, key)
        OmegaConf.update(cfg, key, changed(resolved))
        root = key.partition(".")[0]
        # retention_ratio acts through the budget; another name is another folder, not another prediction
        matters = root in (*STAGES, "seed", "retention_ratio") and key not in NEUTRAL
        assert (cfg.run_id != own) == matters, key
        seen.add(root)
        OmegaConf.update(cfg, key, value)
        assert cfg.run_id == own, key
    assert seen >= {*STAGES, "seed", "paths", "runner"} - {"scout", "relevance"}


def test_without_a_pruner_all_is_one_run() -> None:
    (known,) = rows("method=none")
    assert known.retention_ratio is None
    for words in (
        ("pruner=none",),
        ("method=tome", "pruner=none", "retention_ratio=0.1"),
        ("budget=softmax", "budget.temperature=0.5", "relevance=oracle"),
        ("method=none", "budget=topk"),
    ):
        (row,) = rows(*words)
        assert row.folder == known.folder
        assert {stage: row.config[stage] for stage in STAGES} == {stage: known.config[stage] for stage in STAGES}


def test_the_retention_ratio_is_the_one_that_acts() -> None:
    assert rows("method=tome", "budget.retention_ratio=0.4")[0].retention_ratio == 0.4
    assert rows("method=text_only")[0].retention_ratio == 0
    for key in ("fastv pruner.retention_ratio", "llm_vtp pruner.alpha", "framefusion pruner.cost"):
        method, own = key.split()
        (row,) = rows(f"method={method}", f"{own}=0.4")
        assert row.retention_ratio == 0.4, "the method's own is what acts"
        assert re.fullmatch(rf"{method}_tiny_folder_0\.4_[0-9a-f]{{8}}", row.run_id)
    (row,) = rows("method=vista", "retention_ratio=0.1", "pruner.alpha=0.4")
    assert row.retention_ratio == 0.1, "its alpha is a weight"
    assert [row.retention_ratio for row in rows("method=vista", "retention_ratios=[0.1]", "pruner.alpha=0.4")] == [0.1]
    assert rows("method=prumerge_plus", "retention_ratio=0.1")[0].retention_ratio == 0
    (row,) = rows("method=fastv", "retention_ratio=1", "pruner.retention_ratio=0.4")
    assert row.retention_ratio == 1, "where all is granted no pruner is called"
    for told in (
        *("prumerge_plus pruner.ratio=0.1", "dycoke pruner.merge_ratio=0.7", "look_m pruner.recent_ratio=0.05"),
        "visionzip pruner.tokens=50",
    ):
        method, own = told.split()
        assert rows(f"method={method}", own)[0].retention_ratio == 0, "what is kept is told by tokens alone"
    assert [row.retention_ratio for row in rows("method=tome", "retention_ratios=[0.1,0.3]")] == [0.1, 0.3]


def test_every_cell_of_a_comparison_is_the_run_it_would_be_alone() -> None:
    several = rows("methods=[none,tome]", "retention_ratios=[0.1,0.2]", "frames.count=4")
    alone = [
        rows(f"method={method}", f"retention_ratio={ratio}", "frames.count=4")[0]
        for method, ratio in (("none", 0.1), ("tome", 0.1), ("tome", 0.2))  # `none` is one run at every ratio
    ]
    assert [row.folder for row in several] == [row.folder for row in alone]
    for one, other in zip(several, alone, strict=True):
        assert one.config == other.config
        assert (one.name, one.run_id, one.choices) == (other.name, other.run_id, other.choices)
        assert other.config["run_id"] == other.run_id


def test_rows_of_an_experiment() -> None:
    several = rows("experiment=baselines", "frames.count=4")
    listed = OmegaConf.load(CONF / "experiment" / "baselines.yaml").rows
    assert [row.choices["method"] for row in several] == [row.method for row in listed]
    assert {row.config["frames"]["count"] for row in several} == {4}
    assert all(row.config["rows"] is None for row in several)
    quoted = rows("rows=[{method: tome, name: 'a b\\'c', seed: 3},{method: random}]")
    assert [(row.choices["method"], row.config["name"], row.config["seed"]) for row in quoted] == [
        ("tome", "a b'c", 3),
        ("random", "random", 0),
    ]
    (won,) = rows("rows=[{retention_ratio: 0.1},{retention_ratio: 0.2}]", "method=tome", "retention_ratio=0.3")
    assert won.config["budget"]["retention_ratio"] == 0.3  # the command line wins, and the two are one


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("methods=[none,tome]", "method=tome"), "method and methods are both given"),
        (("methods=[none]", "experiment=baselines"), "cannot be combined"),
        (("methods=tome",), r"methods must be a list with at least one entry, got 'tome'"),
        (("methods=[]",), "at least one entry"),
        (("rows=[{method: toem}]",), "there is no method 'toem'; nearest: tome"),
        (("rows=[{frames.cuont: 4}]",), r"frames \(Uniform\) has no key 'cuont'; nearest: count"),
        (("rows=[{mehtod: tome}]",), "there is no group or key 'mehtod'; nearest: method"),
        (("benchmark.root=???",), "benchmark.root must be set"),
        (("retention_ratio=5",), r"retention_ratio must be in \(0, 1\], got 5"),
        (("method=tome", "budget=full", "retention_ratio=5"), r"retention_ratio must be in"),
        (("budget.retention_ratio=0.3", "retention_ratios=[0.1]"), "=0.3 would hold for all retention_ratios"),
        (("method=llm_vtp", "pruner.alpha=0.3", "retention_ratios=[0.1]"), "=0.3 would hold for all retention_ratios"),
        (("rows=[5]",), "rows must be a list of mappings .* got the entry 5"),
        (("methods=[none,tome]", "hydra.run.dir=x"), r"hydra.run.dir=x cannot .* paths.outputs=…"),
        (("experiment=baselines", "hydra.sweep.dir=x"), r"paths.outputs=…"),
    ],
)
def test_what_cannot_be_meant(overrides: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        rows(*overrides)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("pruenr=tome", "no group or key 'pruenr'; nearest: pruner"),
        ("pruner=toem", "no pruner 'toem'; nearest: tome"),
        ("+pruner=toem", "no pruner 'toem'"),
        ("pruner=tome pruner.vriant=paper", r"pruner \(ToMe\) has no key 'vriant'; nearest: variant"),
        ("pruner=tome +pruner.vriant=paper", "has no key 'vriant'"),
        ("retention_ration=0.1", "nearest: retention_ratio"),
        ("+retention_ration=0.1", "nearest: retention_ratio"),
        ("budget=softmax budget.temperatur=1", "nearest: temperature"),
        ("seed.x=1", "seed is a value and has no keys"),
        ("logger.name=x", "logger has no key 'name'"),
        ("method=[none,tome]", r"use methods=\[none,tome\] \(one process\) or -m method=none,tome"),
        ("pruner=[none,tome]", "use -m pruner=none,tome"),
        ("method=none,tome", "is a sweep: add -m"),
        ("methods=[none,toem]", "no method 'toem'; nearest: tome"),
        ("method=null", "no method None"),
        ("experiment=baseline", "nearest: baselines"),
        ("-m method=none,toem", "no method 'toem'; nearest: tome"),
        ("-m pruner=tome,random pruner.variant=paper", r"pruner \(Random\) has no key 'variant'"),
        ("-m pruner.vriant=a,b method=tome", "nearest: variant"),
    ],
)
def test_misspelt_commands(command: str, complaint: str) -> None:
    """With the nearest names; the last ones within a sweep."""
    words = command.split()
    with pytest.raises(CommandError, match=complaint):
        check(["benchmark.root=x", *(word for word in words if word != "-m")], sweep="-m" in words)


def test_right_commands_pass() -> None:
    check(["benchmark.root=x", "method=tome", "pruner.variant=paper", "hydra.verbose=true"])
    check(["benchmark.root=x", "method=glob(*)", "retention_ratio=0.1,0.2", "frames.count=range(1,4)"], sweep=True)
    check(["benchmark.root=x", "~logger", "++seed=3"])
    check(["method=tome"], runs=False)
    with pytest.raises(CommandError, match=r"benchmark.root must be set, it has no default: give benchmark.root=…"):
        check(["method=tome"])


def test_flags_among_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the only order that argparse takes: overrides in one piece."""
    monkeypatch.setattr("sys.argv", ["eval.py", "seed=1", "-m", "+method=none,tome", "--cfg", "job", "~logger"])
    check_command_line()
    assert sys.argv == ["eval.py", "-m", "seed=1", "method=none,tome", "~logger", "--cfg", "job"]


def test_other_configurations_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "conf"
    (folder / "frames").mkdir(parents=True)
    (folder / "relevance").mkdir()
    (folder / "frames" / "few.yaml").write_text("count: 2\n")
    (folder / "relevance" / "any.yaml").write_text("{}\n")
    (folder / "draw.yaml").write_text("defaults: [{frames: few}, _self_]\nink: ???\n")
    monkeypatch.setattr("kvtp.command.CONF", folder)
    for cached in (groups, top_level):
        cached.cache_clear()
    try:
        check(["ink=red", "frames.count=3"], "draw")
        for command, complaint in (
            ("ikn=red", "nearest: ink"),
            ("frames.count=3", "ink must be set"),
            ("relevance=any", "there is no group or key 'relevance'"),
            ("ink=red frames=fwe", "nearest: few"),
        ):
            with pytest.raises(CommandError, match=complaint):
                check(command.split(), "draw")
    finally:
        for cached in (groups, top_level):
            cached.cache_clear()


def test_what_methods_choose() -> None:
    assert method_choices("tome") == {"pruner": "tome", "relevance": "uniform", "budget": "uniform", "scout": "none"}
    assert {"tome", "none"} <= set(groups()["method"])


def test_ranks_have_logs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert composed().hydra.job_logging.handlers.console.level == "INFO"
    cfg = composed()
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = "there"
    assert cfg.hydra.job_logging.handlers.file.filename == "there/eval.log"
    monkeypatch.setenv("RANK", "3")
    assert cfg.hydra.job_logging.handlers.file.filename == "there/eval.3.log"
    assert composed().hydra.job_logging.handlers.console.level == "ERROR"


def test_how_many_paint_is_no_part_of_the_run() -> None:
    world = ("benchmark=shapes", "method=tome")
    assert composed(*world, "benchmark.workers=7").run_id == composed(*world).run_id
    assert composed(*world, "benchmark.events=3").run_id != composed(*world).run_id


def test_trainings_and_rankings_of_other_questions_have_other_names() -> None:
    """Where the small world lies is no part of the name; a folder of questions is known by where it is."""

    def named(config: str, group: str, root: str, *more: str) -> str:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name=config):
            return compose(config, [*more, f"{group}.root={root}"], return_hydra_config=True).name

    own = ("train", "data.benchmark", ("module=relevance", "benchmark@data.benchmark=folder"))
    asked = ("rank", "benchmark", ("benchmark=folder",))
    for config, group, more in (own, asked):
        assert named(config, group, "/a", *more) == named(config, group, "/a", *more)
        assert named(config, group, "/a", *more) != named(config, group, "/b", *more)
    assert named("train", "data.benchmark", "/a", "module=relevance") == named(
        "train", "data.benchmark", "/b", "module=relevance"
    )
    assert named("rank", "benchmark", "/a") == named("rank", "benchmark", "/b")
