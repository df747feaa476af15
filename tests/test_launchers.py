"""Runs that a scheduler starts: what Slurm is asked for, and that its processes find each other."""

import json
import re
from pathlib import Path

import pytest
import slurm
from clips import make_clip
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from shell import Shell, ask

from kvtp.command import CONF, CommandError
from kvtp.ranks import PORTS, adopt, alone

LAUNCHERS = sorted(path.stem for path in (CONF / "hydra" / "launcher").glob("*.yaml"))
STEP = {  # of `srun` in an allocation of two nodes, four tasks on each: the last but one
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
}


def launcher(name: str, *words: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        cfg = compose("eval", [f"hydra/launcher={name}", "benchmark=shapes", *words], return_hydra_config=True)
    return cfg.hydra.launcher


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_compose_and_say_how_they_are_run(name: str) -> None:
    told = launcher(name)
    assert told._target_.endswith("SlurmLauncher")
    assert told.gpus_per_node >= 1
    assert told.nodes == 1
    assert told.max_num_timeout > 0
    head = [line for line in (CONF / "hydra" / "launcher" / f"{name}.yaml").read_text().splitlines() if "#" in line]
    assert any(f"python scripts/eval.py -m hydra/launcher={name}" in line for line in head)


def test_processes_per_node() -> None:
    assert LAUNCHERS == ["slurm_72b", "slurm_node", "slurm_sweep"]
    assert launcher("slurm_node", "hydra.launcher.gpus_per_node=4").tasks_per_node == 4
    assert (launcher("slurm_sweep").gpus_per_node, launcher("slurm_sweep").tasks_per_node) == (1, 1)
    assert (launcher("slurm_72b").gpus_per_node, launcher("slurm_72b").tasks_per_node) == (4, 1)


def test_what_slurm_tells_becomes_what_torchrun_tells() -> None:
    """Slurm's manual, `srun`, "output environment variables"; torchrun's, "environment variables"."""
    told = dict(STEP)
    adopt(told)
    new = {name: told[name] for name in told.keys() - STEP.keys()}
    port = int(new.pop("MASTER_PORT"))
    assert new == {
        "RANK": "6",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "2",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "1",
        "MASTER_ADDR": "gpu07",
    }
    assert port in PORTS
    other = STEP | {"SLURM_STEP_ID": "3"}
    adopt(other)
    assert int(other["MASTER_PORT"]) != port, "two steps of a job may share a node"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("a1", "a1"),
        ("node-3,x", "node-3"),
        ("a[3,5-9],b", "a3"),
        ("a[010-012]-ib,b[1-2]", "a010-ib"),
        ("n.org", "n.org"),
        ("rack[0-1]node[0-3,7]", "rack0node0"),
    ],
)
def test_the_first_of_a_list_of_nodes(nodes: str, first: str) -> None:
    """As `scontrol show hostnames` writes them out."""
    told = STEP | {"SLURM_STEP_NODELIST": nodes}
    adopt(told)
    assert told["MASTER_ADDR"] == first


@pytest.mark.parametrize(
    "told",
    [
        STEP | {"RANK": "0", "WORLD_SIZE": "2"},  # torchrun in a task
        {name: value for name, value in STEP.items() if "STEP" not in name},  # the script of sbatch itself
        STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # a shell on a node, or a run of its own
        {},
    ],
)
def test_there_is_nothing_to_adopt(told: dict[str, str]) -> None:
    before = dict(told)
    adopt(told)
    assert told == before


def test_what_submitit_tells_without_slurm() -> None:
    names = {"GLOBALID": "1", "NTASKS": "2", "LOCALID": "1", "NODEID": "0", "JOB_NUM_NODES": "1", "JOB_ID": "99"}
    told = {f"SUBMITIT_LOCAL_{name}": value for name, value in names.items()}
    adopt(told)
    found = {name: told[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")}
    assert found == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }


# -- real processes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, random_checkpoints: Path) -> list[str]:
    root = tmp_path_factory.mktemp("asked")
    (root / "videos").mkdir()
    names = [f"film{place}.mp4" for place in range(3)]
    for name in names:
        make_clip(root / "videos" / name, seconds=1)
    folders = [f"benchmark.root={ask(root, names, 2)}", f"paths.checkpoints={random_checkpoints}"]
    return [*folders, "backbone.head=null", "frames.count=3", "runner.accelerator=cpu"]


def started(project_root: Path, outputs: Path) -> Shell:
    outputs.mkdir()
    return Shell(project_root, outputs)


def test_a_job_for_every_run(project_root: Path, tmp_path: Path, words: list[str]) -> None:
    """submitit without Slurm: the predictions of one process that makes both runs."""
    plain, launched = started(project_root, tmp_path / "plain"), started(project_root, tmp_path / "launched")
    status, said = plain.run("methods=[none,random]", *words)
    assert status == 0, said
    local = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5")
    status, said = launched.run("-m", *local, "method=none,random", *words)
    assert status == 0, said
    assert launched.predictions() == plain.predictions()
    assert len(launched.predictions()) == 2
    results = list((launched.outputs / ".submitit").glob("*/*_result.pkl"))
    assert len({path.name.partition("_")[0] for path in results}) == 2


def test_a_node_for_every_run(project_root: Path, tmp_path: Path, words: list[str]) -> None:
    """conf/hydra/launcher/slurm_node.yaml as it is, on a node with two GPUs: what sbatch is asked for, and that the two
    tasks share the run."""
    shell = started(project_root, tmp_path / "outputs")
    shell.environment |= slurm.install(tmp_path / "bin")
    node = ("hydra/launcher=slurm_node", "hydra.launcher.gpus_per_node=2")
    status, said = shell.run("-m", *node, "method=none", *words)
    assert status == 0, said
    (script,) = (shell.outputs / ".submitit").rglob("*submission.sh")
    flags = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script.read_text(), re.MULTILINE))
    expected = {"nodes": "1", "gpus-per-node": "2", "ntasks-per-node": "2", "mem": "0GB", "time": "1440"}
    assert {name: flags[name] for name in expected} == expected
    (folder,) = shell.folders().values()
    lines = [path.read_bytes().count(b"\n") for path in sorted(folder.glob("predictions.?.jsonl"))]
    assert sorted(lines) == [2, 4]
    told = json.loads((folder / "summary.json").read_text())
    assert (told["questions"], told["errors"]) == (6, 0)


def test_the_command_line_shows_a_launcher(project_root: Path, tmp_path: Path) -> None:
    shell = started(project_root, tmp_path / "outputs")
    status, said = shell.run("hydra/launcher=slurm_sweep", "benchmark=shapes", "--cfg", "hydra")
    assert status == 0, said
    shown = OmegaConf.create(said).hydra.launcher
    assert shown.array_parallelism == 32


def test_one_process_is_enough(monkeypatch) -> None:
    """For what several would do at once, into one file."""
    alone("scripts/meter.py")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CommandError, match=r"scripts/meter\.py is one process's work, here are 2; start it once"):
        alone("scripts/meter.py")
