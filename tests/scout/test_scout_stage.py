"""A scout among the stages of a run: shared, identified, fetched; and what every scout promises."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from toys import component, options, toy_frames, toy_question, toy_tokens

from kvtp.cell import assemble
from kvtp.command import CONF, CommandError
from kvtp.config import NEUTRAL, OF_METHOD, STAGES, Row
from kvtp.download import Source, sources
from kvtp.pruner.vista import Vista
from kvtp.scout.qformer import QFormer
from kvtp.types import CUES, Cues


def row(*overrides: str) -> Row:
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="eval"):
        cfg = compose("eval", ["paths.data=.", "benchmark.root=.", *overrides])
        config = {stage: OmegaConf.to_container(cfg[stage], resolve=True) for stage in STAGES}
    return Row("vista", "vista", Path(), {}, (), config)


@pytest.fixture
def vista(random_checkpoints, tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"id": "q", "video": "v.mp4", "question": "What?"}\n')
    chosen = row("method=vista", "backbone=tiny", f"paths.checkpoints={random_checkpoints}")
    benchmark = {**chosen.config["benchmark"], "root": str(tmp_path)}
    return replace(chosen, config={**chosen.config, "benchmark": benchmark})


def with_stage(row: Row, stage: str, **changed) -> Row:
    return replace(row, config={**row.config, stage: {**row.config[stage], **changed}})


def test_vista_has_its_scout(vista) -> None:
    (cell,) = assemble([vista])
    assert isinstance(cell.pipeline.scout, QFormer)
    assert isinstance(cell.pipeline.pruner, Vista)
    assert cell.pipeline.scout.backbone is cell.pipeline.backbone
    assert cell.pipeline.scout.patches == 256


def test_one_scout_per_backbone(vista) -> None:
    """Methods share it; of another backbone, whose tokens have another grid, it is another."""
    other = with_stage(vista, "backbone", newline="none")
    cells = assemble([vista, with_stage(vista, "pruner", alpha=0.25), other])
    first, same, another = (cell.pipeline.scout for cell in cells)
    assert first is same
    assert first is not another
    assert "model" not in first.__dict__, "no weights load"


def test_a_scout_that_is_not_there_is_one_line(vista, tmp_path) -> None:
    with pytest.raises(CommandError, match=r"^vista: scout\.checkpoint .*nowhere"):
        assemble([with_stage(vista, "scout", checkpoint=str(tmp_path / "nowhere"))])


@pytest.mark.parametrize("backbone", ["tiny", "llava_video_7b"])
def test_the_small_worlds_scout_is_told_of_elsewhere(vista, random_checkpoints, caplog, backbone) -> None:
    paths = {"checkpoints": str(random_checkpoints)}
    known = replace(vista, choices={"backbone": backbone, "scout": "qformer"}, config={**vista.config, "paths": paths})
    assemble([known])
    told = f"scout.checkpoint={random_checkpoints}/tiny_qformer was trained on SparseKV-Shapes alone"
    assert (told in caplog.text) == (backbone != "tiny")


def test_where_it_works_is_no_part_of_a_run() -> None:
    assert ("scout", "device") in NEUTRAL
    assert "scout" in OF_METHOD


def test_its_checkpoint_is_fetched(vista) -> None:
    released = with_stage(vista, "scout", checkpoint="Salesforce/blip2-itm-vit-g", revision="main")
    assert Source("scout.checkpoint", "Salesforce/blip2-itm-vit-g", "main") in sources([released, vista])


@pytest.fixture(params=options("scout"))
def scout(request, random_checkpoints):
    told = {"checkpoint": str(random_checkpoints / "tiny_qformer"), "device": "cpu"}
    return component("scout", request.param, **(told if request.param.startswith("qformer") else {}))


def test_every_scout_adds_what_it_supplies_and_nothing_else(scout) -> None:
    tokens = replace(toy_tokens([3, 4, 0, 2, 4], (2, 2)), cues=Cues())
    frames = toy_frames([0, 1, 2, 3, 4], 5)
    scout.look(frames)
    found = scout(frames, toy_question(), tokens)
    assert {name for name in CUES if getattr(found.cues, name) is not None} == scout.supplies
    assert found.features is tokens.features
    for name in scout.supplies:
        cue = getattr(found.cues, name)
        assert cue.dtype == torch.float32
        assert cue.isfinite().all()
        assert len(cue) == (tokens.frames if name == "scout_patches" else len(tokens))
    assert (scout.flops(frames, toy_question()) > 0) == bool(scout.supplies)
    assert bool(scout.identity) == bool(scout.supplies)
