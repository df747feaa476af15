"""A model over several GPUs: where the parts of a real one go; and states that go from one GPU to the next."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone import hosts
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError, FakeTensorMode
from transformers import LlavaOnevisionForConditionalGeneration

from kvtp.backbone._spread import SPARE, own_gpus, spread
from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.types import Frames, Prompt, Selection

GIB = 2**30
DTYPE = torch.bfloat16


@pytest.fixture(scope="module")
def large(tiny: Any, project_root: Path) -> Any:
    """72 billion parameters that take no memory."""
    return tiny(checkpoint=str(project_root / "shapes" / "llava_onevision_72b"), head=None).bare_model()


def test_two_gpus_are_too_few(large: Any) -> None:
    need = sum(weight.numel() for weight in large.parameters()) * 2 / GIB
    assert 2 * 80 * (1 - SPARE) < need < 160, "two GPUs would hold it, without caches"
    told = (
        rf"the model needs {need:.0f} GiB beside its caches, the 2 GPUs of this process have 160 GiB free; give it more"
    )
    with pytest.raises(ValueError, match=told):
        spread(large, DTYPE, {0: 80 * GIB, 1: 80 * GIB})


@pytest.mark.parametrize("first", [0, 4])
def test_four_gpus_hold_it(large: Any, first: int) -> None:
    """Decoder layers stay whole and in order, what comes before them is on the first GPU, what comes after on the last;
    and room is left on each."""
    place = spread(large, DTYPE, {first + number: 80 * GIB for number in range(4)})
    where = {name: place(name) for name, _ in large.named_parameters()}
    assert {device.type for device in where.values()} == {"cuda"}
    layers: dict[int, set[int | None]] = {}
    for name, device in where.items():
        if name.startswith("model.language_model.layers."):
            layers.setdefault(int(name.split(".")[3]), set()).add(device.index)
    assert sorted(layers) == list(range(80))
    assert all(len(devices) == 1 for devices in layers.values())
    order = [next(iter(layers[number])) for number in range(80)]
    assert order == sorted(order)
    assert set(order) == set(range(first, first + 4))
    before = (
        "model.vision_tower.",
        "model.multi_modal_projector.",
        "model.image_newline",
        "model.language_model.embed",
    )
    assert {where[name].index for name in where if name.startswith(before)} == {first}
    assert {where[name].index for name in ("model.language_model.norm.weight", "lm_head.weight")} == {first + 3}
    held = [
        sum(large.get_parameter(name).numel() * 2 for name, device in where.items() if device.index == first + number)
        for number in range(4)
    ]
    assert max(held) <= (1 - SPARE) * 80 * GIB
    assert max(held) < 1.25 * min(held)


@pytest.mark.parametrize("count", [2, 3, 6, 8])
@pytest.mark.parametrize("name", ["llava_onevision_7b", "llava_video_7b", "qwen2_5_vl_7b", "pllava_7b", "tarsier_7b"])
def test_what_sees_is_on_the_first(name: str, count: int, project_root: Path) -> None:
    """However small the shares are: pictures are taken there, and states of the tower go straight to the projector.
    (Word embeddings may come later; what they give is brought back.)"""
    model = hosts.host(name, checkpoint=str(project_root / "shapes" / name)).bare_model()
    place = spread(model, DTYPE, {number: 80 * GIB for number in range(count)})
    seeing = ("model.vision_tower.", "model.visual.", "model.multi_modal_projector.")
    found = {place(name).index for name, _ in model.named_parameters() if name.startswith(seeing)}
    assert found == {0}


def test_buffers_have_a_place_too(large: Any) -> None:
    place = spread(large, DTYPE, {number: 80 * GIB for number in range(4)})
    for name, _ in large.named_buffers():
        assert place(name).type == "cuda"


@pytest.mark.parametrize(
    ("count", "processes", "rank", "mine"),
    [
        (8, None, None, range(8)),
        (8, 2, 0, range(4)),
        (8, 2, 1, range(4, 8)),
        (8, 3, 2, range(4, 6)),
        (1, 1, 0, range(1)),
    ],
)
def test_processes_share_a_machine(
    monkeypatch: pytest.MonkeyPatch, count: int, processes: int | None, rank: int | None, mine: range
) -> None:
    for name, value in (("LOCAL_WORLD_SIZE", processes), ("LOCAL_RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))
    assert own_gpus(count) == mine


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch, tiny: Any) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not own_gpus(1)
    with pytest.raises(ValueError, match="needs a GPU for each process, there is none; use device_map=null"):
        spread(tiny().bare_model(), DTYPE, {number: GIB for number in own_gpus(1)})


@torch.no_grad()
def test_a_state_goes_through_both_devices_and_comes_back(tiny: Any, frames: Frames, prompt: Prompt) -> None:
    """Tensors without contents on two devices: torch itself refuses whatever mixes them. The last two layers, norm and
    LM head are on the second; prefill, a cut inside, the rest, and a reply. Sizes are those on one device."""
    whole, split = tiny(), tiny()
    model = split.model.model.language_model
    for part in (*model.layers[2:], model.norm, split.model.lm_head):
        part.to("meta")
    runs = []
    for backbone in (whole, split):
        tokens = backbone.encode(frames, frozenset())
        decoder, state = backbone.decoder, backbone.embed(tokens, prompt)
        with FakeTensorMode(allow_non_fake_inputs=True):
            state = decoder.prefill(state, 2, "attention")
            assert state.hidden.device.type == "cpu", "what cuts it finds it where it was"
            state = state.keep(Selection(torch.arange(0, len(tokens), 3)), renumber=True, compress_cache=True)
            state = decoder.prefill(state, 4)
            assert state.hidden.device.type == "cpu"
            devices = [layer.keys.device.type for layer in state.cache.layers]
            reply = decoder.write(state, lambda logits: logits.shape[0] - 1, frozenset(), 3)
            runs.append((state.counts, [tuple(layer.keys.shape) for layer in state.cache.layers], reply))
    assert devices == ["cpu", "cpu", "meta", "meta"]
    assert runs[0] == runs[1]
    rows = sum(runs[1][0][-1])
    assert [shape[2] for shape in runs[1][1]] == [rows + 2] * 4, "two tokens of the reply were fed"
    assert rows < sum(runs[1][0][0])


@torch.no_grad()
def test_the_detector_would_see_it(tiny: Any) -> None:
    """A layer on the second device does not take what is on the first."""
    model = tiny().model.model.language_model
    model.layers[3].to("meta")
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        pytest.raises((FakeTensorDeviceMismatchError, RuntimeError), match="device"),
    ):
        model.layers[3].mlp(torch.zeros(1, 2, 64))


class Stubborn(LlavaOnevision):
    """Does not do as it is told."""

    def empty(self) -> LlavaOnevisionForConditionalGeneration:
        return LlavaOnevisionForConditionalGeneration._from_config(self.config, attn_implementation="eager")


class Half(LlavaOnevision):
    """Its tower does."""

    def empty(self) -> LlavaOnevisionForConditionalGeneration:
        implementations = {"text_config": "eager", "vision_config": self.attn, "": self.attn}
        return LlavaOnevisionForConditionalGeneration._from_config(self.config, attn_implementation=implementations)


@pytest.mark.parametrize(("family", "used"), [(Stubborn, "eager"), (Half, "eager, sdpa")])
def test_attention_that_is_not_the_one_asked_for(tiny: Any, family: type[LlavaOnevision], used: str) -> None:
    host = tiny(attn="sdpa")
    other = family(**{field.name: getattr(host, field.name) for field in fields(host)})
    with pytest.raises(ValueError, match=rf"^backbone\.attn=sdpa was asked for, but the model uses {used}$"):
        other.bare_model()
    assert host.bare_model()
