"""scripts/train.py as a person starts it: killed and started again, twice with one seed, on two processes."""

import json
import shutil
import time
from pathlib import Path

import pytest
from logger.offline import read
from safetensors.torch import load_file, save_file
from shell import Shell

from kvtp.backbone._identity import fingerprint

SMALL = (
    "data.benchmark.clips=6",
    "data.benchmark.events=2",
    "data.benchmark.fps=4",
    "data.benchmark.videos=12",
    "data.held_out_videos=4",
    "data.frames.count=6",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=4",
    "trainer.accelerator=cpu",
    "callbacks.checkpoints.every=2",
    "threads=1",
)
TOWER = "hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2"
SIGLIP = (
    *SMALL,
    "module=siglip",
    f"module.vision={{image_size: 32, patch_size: 4, {TOWER}}}",
    f"module.text={{max_position_embeddings: 16, {TOWER}}}",
    "module.warmup=2",
    "data.videos=2",
    "data.held_out_batches=2",
)
CAPTIONER = (
    *SMALL,
    "module=captioner",
    f"module.decoder={{{TOWER}, max_position_embeddings: 4096}}",
    "module.warmup=2",
    "data.size=3",
    "module.backbone.device=cpu",
)

PREDICTOR = (
    *SMALL,
    "module=relevance",
    "module.warmup=2",
    "module.temperature_lr=0.01",
    "data.videos=2",
    "data.questions=2",
)
NAMES = ("predictor", "again")  # trained twice


@pytest.fixture(scope="module")
def shell(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """All trainings share one world of films."""
    shell = Shell(project_root, tmp_path_factory.mktemp("outputs"), "train.py", lines="metrics.jsonl")
    shell.data = f"paths.data={tmp_path_factory.mktemp('data')}"
    return shell


def run(shell: Shell, *words: str) -> str:
    status, said = shell.run(*words, shell.data)
    assert status == 0, said
    return said


def curve(shell: Shell, name: str) -> list[dict[str, float]]:
    path = shell.outputs / "train" / name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(shell: Shell, name: str) -> dict:
    return load_file(shell.outputs / "train" / name / "model" / "model.safetensors")


def test_parts_must_go_together(shell: Shell) -> None:
    for words, told in (
        (
            ("module=answerer", "data=scenes"),
            "module Answerer learns from Conversations, data ShapesScenes gives Scenes",
        ),
        (("module=siglip", "trainer.max_steps=50"), "trainer.max_steps must be more than module.warmup (100), got 50"),
    ):
        status, said = shell.run(*SMALL, "name=none", *words, "data.videos=2", shell.data)
        assert status == 1
        assert told in said
        assert "Traceback" not in said


@pytest.fixture(scope="module")
def whole(shell: Shell) -> str:
    run(shell, *SIGLIP, "name=whole", "trainer.max_steps=12")
    return "whole"


def test_a_training_leaves_model_curves_and_settings(shell: Shell, whole: str) -> None:
    folder = shell.outputs / "train" / whole
    assert {"model", "metrics.jsonl", "curves.png", "checkpoints", ".hydra"} <= {path.name for path in folder.iterdir()}
    rows = curve(shell, whole)
    assert [row["step"] for row in rows if "train/pictures" in row] == list(range(12))
    assert [row["step"] for row in rows if "val/pictures_place" in row] == [3, 7, 11]
    record = folder / "model" / "training" / "1_siglip"
    (told,) = map(json.loads, (record / "sessions.jsonl").read_text().splitlines())
    assert told["command"][0] == "train.py"
    assert "name=whole" in told["command"]
    assert json.loads((record / "cost.json").read_text())["steps"] == 12
    assert (record / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


def test_killed_and_started_again_it_gives_the_same_curve_and_weights(shell: Shell, whole: str) -> None:
    """kill -9 soon after the validation at step 4, where a checkpoint is due, too; one thread: equal to the bit."""
    words = (*SIGLIP, "name=killed", "trainer.max_steps=12", shell.data)
    before = shell.written()
    assert before < shell.killed(before + 8, 0, *words)
    assert not (shell.outputs / "train" / "killed" / "model").exists()
    assert "going on from" in run(shell, *words[:-1])
    assert curve(shell, "killed") == curve(shell, whole)
    mine, theirs = weights(shell, "killed"), weights(shell, whole)
    assert all(mine[key].equal(theirs[key]) for key in theirs)


def test_told_to_stop_it_says_how_to_go_on(shell: Shell, whole: str) -> None:
    """SIGTERM, as a scheduler sends: status 1, or `make` and Slurm would take it for done."""
    process = shell.start(*SIGLIP, "name=stopped", "trainer.max_steps=500", shell.data)
    path = shell.outputs / "train" / "stopped" / "metrics.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_other_beginnings_are_refused(shell: Shell, whole: str) -> None:
    """The same command, but what was trained before is another now."""
    train = shell.outputs / "train"
    shutil.copytree(train / whole / "model", shell.outputs / "siglip")
    words = (*CAPTIONER, "name=begun", "trainer.max_steps=3", f"module.siglip={shell.outputs / 'siglip'}")
    run(shell, *words)
    changed = load_file(shell.outputs / "siglip" / "model.safetensors")
    changed["logit_scale"] += 1
    save_file(changed, shell.outputs / "siglip" / "model.safetensors", {"format": "pt"})
    status, said = shell.run(*words, shell.data)
    assert status == 1
    assert "origin: siglip@" in said


def test_a_finished_training_is_not_trained_again(shell: Shell, whole: str) -> None:
    before = curve(shell, whole)
    assert "nothing left to train" in run(shell, *SIGLIP, "name=whole", "trainer.max_steps=12")
    assert curve(shell, whole) == before


def test_a_folder_holds_one_training(shell: Shell, whole: str) -> None:
    status, said = shell.run(*SIGLIP, "name=whole", "trainer.max_steps=12", "module.lr=0.5", shell.data)
    assert status == 1
    assert "module.lr: 0.001 → 0.5" in said
    assert "Traceback" not in said


def test_wandb_mirrors_the_journal(shell: Shell, whole: str) -> None:
    """Offline, as without an account: what W&B's file holds is what the journal says."""
    shell.environment |= {"WANDB_MODE": "offline", "WANDB_CACHE_DIR": str(shell.outputs), "WANDB_SILENT": "true"}
    run(shell, *SIGLIP, "name=mirrored", "trainer.max_steps=4", "logger=wandb", "logger.project=toys")
    (file,) = (shell.outputs / "train" / "mirrored" / "wandb").glob("offline-run-*/*.wandb")
    written = file.read_bytes()
    assert b"toys" in written
    assert b"train/pictures" in written
    assert curve(shell, "mirrored")[:3] == curve(shell, whole)[:3]


def test_two_processes_are_one_that_accumulates(shell: Shell, whole: str) -> None:
    """Processes take turns at the stream, so two of them see in a step what one sees in two batches."""
    common = (*SIGLIP, "trainer.max_steps=4", "trainer.val_check_interval=8")
    run(shell, *common, "name=one", "trainer.accumulate_grad_batches=2")
    run(shell, *common, "name=two", "trainer=ddp", "trainer.devices=2", "trainer.val_check_interval=4")
    mine, theirs = weights(shell, "two"), weights(shell, "one")
    assert all(mine[key].allclose(theirs[key], atol=1e-5) for key in theirs)
    start = weights(shell, whole)
    assert not all(mine[key].allclose(start[key], atol=1e-3) for key in theirs), "it learnt"


def test_from_a_siglip_to_captions_to_answers(shell: Shell, whole: str) -> None:
    """The three trainings of the tiny model, one after the other, each from what the one before left."""
    train = shell.outputs / "train"
    states = shell.data.removeprefix("paths.data=") + "/states"
    words = (*CAPTIONER, "name=captions", "trainer.max_steps=6", f"module.siglip={train / whole / 'model'}")
    said = run(shell, *words)
    assert "step 6 of 6: val/caption_at_0.2" in said, "the last weights are measured"
    kept = len(list(Path(states).rglob("*.npy")))
    assert kept == 16, "twelve films to learn from, four held out"
    answers = [word for word in CAPTIONER if not word.startswith(("module.decoder", "module=captioner"))]
    said = run(
        shell,
        *answers,
        "module=answerer",
        "name=answers",
        "trainer.max_steps=4",
        f"module.backbone.checkpoint={train / 'captions' / 'model'}",
    )
    assert len(list(Path(states).rglob("*.npy"))) == kept, "the tower is the same: its states are not made again"
    assert "val/colour_at_0.2" in said
    captions, final = weights(shell, "captions"), weights(shell, "answers")
    changed = {key for key in final if not final[key].equal(captions[key])}
    assert changed == {key for key in final if "vision_tower" not in key}
    records = train / "answers" / "model" / "training"
    assert sorted(path.name for path in records.iterdir()) == ["1_siglip", "2_captioner", "3_answerer"]


@pytest.fixture(scope="module")
def predictor(shell: Shell, whole: str) -> tuple[str, ...]:
    """Words of a predictor's training that begins with the SigLIP of above; one of eight steps is there."""
    words = (*PREDICTOR, f"module.checkpoint={shell.outputs / 'train' / whole / 'model'}")
    run(shell, *words, "name=predictor", "trainer.max_steps=8")
    return words


def fusion(shell: Shell, name: str) -> dict[str, float]:
    """The temperatures of its fusion head."""
    told = json.loads((shell.outputs / "train" / name / "model" / "fusion.json").read_text())
    return {name: told[name] for name in ("local_temperature", "global_temperature")}


def killed_and_gone_on_with(shell: Shell, words: tuple[str, ...], name: str, whole: str) -> None:
    """Asserts that the training, killed on its way and started again, comes to what the `whole` one came to."""
    words = (*words, f"name={name}", "trainer.max_steps=8")
    before = shell.written()
    assert before < shell.killed(before + 6, 0, *words, shell.data)
    assert "going on from" in run(shell, *words)
    assert curve(shell, name) == curve(shell, whole)
    mine, theirs = weights(shell, name), weights(shell, whole)
    assert all(mine[key].equal(theirs[key]) for key in theirs)


def test_a_predictor_killed_and_started_again_is_the_same(shell: Shell, predictor: tuple[str, ...]) -> None:
    killed_and_gone_on_with(shell, predictor, "again", "predictor")
    assert fusion(shell, "again") == fusion(shell, "predictor")
    assert fusion(shell, "again")["local_temperature"] != 1, "it learnt"
    assert (shell.outputs / "train" / "again" / "relevance.png").exists()


def test_wandb_has_a_predictors_metrics_beside_its_picture(shell: Shell, predictor: tuple[str, ...]) -> None:
    shell.environment |= {"WANDB_MODE": "offline", "WANDB_CACHE_DIR": str(shell.outputs), "WANDB_SILENT": "true"}
    run(shell, *predictor, "name=drawn", "trainer.max_steps=8", "logger=wandb")
    told = read(shell.outputs / "train" / "drawn")["history"]
    measured = [row for row in told if "val/recall" in row]
    drawn = [row["val/relevance/path"] for row in told if "val/relevance/path" in row]
    mine = [row for row in curve(shell, "drawn") if "val/recall" in row]
    assert [row["val/recall"] for row in measured] == pytest.approx([row["val/recall"] for row in mine])
    assert [row["_step"] for row in measured] == [row["step"] for row in mine]
    assert all("val/relevance/path" in row for row in measured)
    assert len(set(drawn)) == len(mine) == 2


def test_a_predictor_learns_the_same_on_two_processes(shell: Shell, predictor: tuple[str, ...]) -> None:
    """With whole weights in each (DDP), and with weights dealt out, whose layers compute in bf16 (FSDP)."""
    words = (*predictor, "trainer.max_steps=4")
    run(shell, *words, "name=summed", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=8")
    run(shell, *words, "name=whole_each", "trainer=ddp", "trainer.devices=2")
    run(shell, *words, "name=dealt_out", "trainer=fsdp", "trainer.devices=2")
    summed, each, dealt = (weights(shell, name) for name in ("summed", "whole_each", "dealt_out"))
    assert all(summed[key].allclose(each[key], atol=1e-5) for key in summed)
    start = weights(shell, "whole")
    far, apart = (sum(float((one[key] - summed[key]).square().sum()) for key in summed) for one in (start, dealt))
    assert far > 1e-6, "it learnt"
    assert apart < far / 10
    assert fusion(shell, "dealt_out") == pytest.approx(fusion(shell, "summed"), rel=1e-2)
    assert fusion(shell, "summed") == pytest.approx(fusion(shell, "whole_each"), rel=1e-5)
    odd = ("trainer=fsdp", "trainer.devices=2", "data.held_out_videos=3")
    status, said = shell.run(*words, "name=odd", *odd, shell.data)
    assert status == 1
    assert "must be a multiple of the 2 processes" in said


def test_a_training_that_gets_no_better_ends_with_its_best_weights(shell: Shell, predictor: tuple[str, ...]) -> None:
    """With a learning rate of 0 nothing ever gets better than at the first validation."""
    watched = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.val_check_interval=2")
    said = run(
        shell, *predictor, "name=early", "trainer.max_steps=50", *watched, "module.lr=0", "module.temperature_lr=0"
    )
    assert "weights of step 2" in said
    record = shell.outputs / "train" / "early" / "model" / "training" / "2_relevance"
    assert json.loads((record / "cost.json").read_text())["weights_step"] == 2
    downwards = ("callbacks.early_stopping.mode=min", "callbacks.early_stopping.monitor=val/loss")
    said = run(shell, *predictor, "name=down", "trainer.max_steps=4", *watched, *downwards, "module.lr=1e-3")
    losses = {row["step"] + 1: row["val/loss"] for row in curve(shell, "down") if "val/loss" in row}
    assert f"weights of step {min(losses, key=losses.__getitem__)}" in said
    assert [row["step"] for row in curve(shell, "early") if "val/recall" in row] == [1, 3]
    status, said = shell.run(
        *predictor, "name=no", "trainer.max_steps=4", "callbacks.checkpoints.best=val/recal", shell.data
    )
    assert status == 1
    assert "is no validation metric; there are: val/kl, val/loss, val/ndcg, val/recall" in said


@pytest.fixture(scope="module")
def scout(shell: Shell, whole: str) -> tuple[str, ...]:
    """How a small one is trained, from the tower of the first test's SigLIP."""
    siglip = shell.outputs / "train" / whole / "model"
    small = "{hidden_size: 16, intermediate_size: 16, num_hidden_layers: 2, num_attention_heads: 2}"
    words = (
        *(*SMALL, "module=qformer", f"module.new.siglip={siglip}", f"module.new.qformer={small}"),
        *("module.new.queries=4", "module.new.joint=8", "module.warmup=2", "data.videos=2"),
    )
    run(shell, *words, "name=scout", "trainer.max_steps=8")
    return words


def test_a_scout_killed_and_started_again_is_the_same(shell: Shell, scout: tuple[str, ...]) -> None:
    killed_and_gone_on_with(shell, scout, "scout_again", "scout")


def test_validation_alone_tells_what_a_training_told_last(shell: Shell, scout: tuple[str, ...]) -> None:
    """Of the trained part as it lies on the disk. (The projector, which `val/alignment` goes through, does not.)"""
    known = (*scout, f"module.checkpoint={shell.outputs}/train/scout/model", "validate=true")
    said = run(shell, *known, "name=validated")
    folder = shell.outputs / "train" / "validated"
    told = json.loads((folder / "validation.json").read_text())
    last = curve(shell, "scout")[-1]
    for name in ("val/itm", "val/pointing", "val/pointing_mean"):
        assert told[name] == pytest.approx(last[name])
        assert name in said
    assert not (folder / "model").exists()
    assert "untrained" not in said
    looked_at = fingerprint(str(shell.outputs / "train" / "scout" / "model"), None, "the checkpoint")
    assert json.loads((folder / ".hydra" / "settings.json").read_text())["origin"] == looked_at
    other = (*known, "name=tested", "data.held_out_split=test")
    run(shell, *other)
    assert "a new, untrained network" in run(shell, *scout, "validate=true", "name=new")
    assert json.loads((shell.outputs / "train" / "tested" / "validation.json").read_text()) != told
    status, said = shell.run(*other[:-2], "validate=false", "name=cheating", "data.held_out_split=test", shell.data)
    assert status == 1
    assert "data.held_out_split=test is for validate=true alone" in said
