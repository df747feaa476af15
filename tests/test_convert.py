"""Checkpoints written anew: what `transformers` makes of them, and our own hosts."""

import json
import weakref
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone import hosts
from released import tiny_tensors
from safetensors import safe_open
from safetensors.torch import load_file
from shell import Shell
from torch import Tensor, nn
from transformers import (
    LlavaForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
)

from kvtp.backbone._weights import Weights
from kvtp.backbone.llava_onevision import LlavaOnevision
from kvtp.command import CommandError
from kvtp.convert import convert
from kvtp.types import Frames, Prompt

SMALL = 1e-4  # GiB: several shards


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = hosts.llava_video(tmp_path_factory.mktemp("released"))
    return lambda **changed: hosts.host("llava_video_7b", **{"checkpoint": str(folder), "head": None} | changed)


@pytest.fixture(scope="module")
def converted(video: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("converted") / "llava_video"
    convert(video(), target, SMALL)
    return target


def named(folder: Path) -> dict[str, Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def test_transformers_loads_what_the_release_holds(video: Any, converted: Path) -> None:
    """Nothing missing, nothing left over, every tensor the same; and it would write the same files itself."""
    model, told = LlavaOnevisionForConditionalGeneration.from_pretrained(converted, output_loading_info=True)
    assert not any(told.values()), told
    host = video()
    for name, value in host.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    again = converted.parent / "again"
    model.save_pretrained(again)
    ours, theirs = named(converted), named(again)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("config.json", "generation_config.json"):
        assert untyped(json.loads((converted / name).read_text())) == untyped(json.loads((again / name).read_text()))


def untyped(told: dict[str, Any]) -> dict[str, Any]:
    """Without the dtype, which a loaded model also tells of its parts."""
    return {key: untyped(value) if isinstance(value, dict) else value for key, value in told.items() if key != "dtype"}


def test_shards(converted: Path) -> None:
    """Of at most the size asked for, each with what the index says."""
    files = sorted(converted.glob("*.safetensors"))
    assert len(files) > 3
    assert [path.name for path in files] == [
        f"model-{place + 1:05d}-of-{len(files):05d}.safetensors" for place in range(len(files))
    ]
    told = json.loads((converted / "model.safetensors.index.json").read_text())
    held = {path.name: load_file(path) for path in files}
    assert told["weight_map"] == {name: file for file, tensors in held.items() for name in tensors}
    sizes = [sum(value.nbytes for value in tensors.values()) for tensors in held.values()]
    assert told["metadata"]["total_size"] == sum(sizes)
    for size, following in zip(sizes, held.values(), strict=True):
        assert size <= SMALL * 2**30 or len(following) == 1
    with safe_open(files[0], framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@torch.inference_mode()
def test_it_is_the_same_model_as_llava_onevision(video: Any, converted: Path) -> None:
    """Read by the other family, with its tokenizer and chat template: same sequence, same hidden states."""
    pixels = torch.randint(0, 256, (3, 60, 80, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    frames = Frames(pixels, torch.arange(3, dtype=torch.float64), torch.arange(3), duration=3.0, reader="none")
    one = video(time_instruction=False)
    other = hosts.host(
        "llava_onevision_7b", checkpoint=str(converted), head=None, newline=one.newlines, pool=one.pooling
    )
    assert other.config.video_token_index == other.tokenizer.convert_tokens_to_ids("<video>")
    prompt = Prompt("What is red?", "What is red?", (0, 12), "none")
    states = [host.prefill(host.embed(host.encode(frames, frozenset()), prompt), 3) for host in (one, other)]
    assert states[0].count == states[1].count
    assert torch.equal(states[0].hidden, states[1].hidden)
    assert one.tokenizer.chat_template != other.tokenizer.chat_template, "the host's own is left alone"


def test_adapters_are_added(tmp_path: Path) -> None:
    """W + lora_alpha / r · B A, by hand from the release's tensors; in the type asked for."""
    host = hosts.host("pllava_7b", checkpoint=str(hosts.pllava(tmp_path / "released")), lora_alpha=5.0)
    (file,) = convert(host, tmp_path / "target", 1)
    assert file.name == "model.safetensors"
    model, told = LlavaForConditionalGeneration.from_pretrained(file.parent, output_loading_info=True)
    assert not any(told.values()), told
    released = tiny_tensors("pllava", hosts.LLAVA_SIZES | {4096: 64}, hosts.LLAVA_DEPTHS)
    prefix = "language_model.base_model.model.model.layers.1.self_attn.q_proj."
    parts = {name.removeprefix(prefix): value for name, value in released.items() if name.startswith(prefix)}
    base, down, up = (
        next(value for name, value in parts.items() if part in name) for part in ("base_layer", "lora_A", "lora_B")
    )
    expected = base + 5.0 / len(down) * up @ down
    assert not torch.allclose(base, expected)
    found = model.model.language_model.layers[1].self_attn.q_proj.weight
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    half = replace(host, dtype="bfloat16")
    convert(half, tmp_path / "half", 1)
    assert {value.dtype for value in named(tmp_path / "half").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    again = hosts.host("pllava_7b", checkpoint=str(tmp_path / "target"))
    weight = "model.language_model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(again.model.state_dict()[weight], found)


@pytest.mark.parametrize(
    ("option", "release", "family"),
    [
        ("tarsier_7b", hosts.tarsier, LlavaForConditionalGeneration),
        ("qwen2_5_vl_7b", hosts.qwen2_5_vl, Qwen2_5_VLForConditionalGeneration),
    ],
)
def test_other_families(tmp_path: Path, option: str, release: Any, family: Any) -> None:
    host = hosts.host(option, checkpoint=str(release(tmp_path / "released")))
    convert(host, tmp_path / "target", 1)
    model, told = family.from_pretrained(tmp_path / "target", output_loading_info=True)
    assert not any(told.values()), told
    held = model.state_dict()
    assert all(torch.equal(held[name], value) for name, value in host.model.state_dict().items())
    again = hosts.host(option, checkpoint=str(tmp_path / "target"))
    assert again.tokenizer.get_vocab() == host.tokenizer.get_vocab()
    assert torch.equal(again.language[1].weight, host.language[1].weight)


class Counting(Weights):
    """Knows how many of the tensors that it gave are still held."""

    most = 0

    def __getitem__(self, name: str) -> Tensor:
        value = super().__getitem__(name).clone()
        self.held = [one for one in getattr(self, "held", []) if one() is not None] + [weakref.ref(value)]
        self.most = max(self.most, len(self.held))
        return value


def test_one_tensor_is_in_memory_at_a_time(video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next, while it is being read; and one that the type checks of these tests hold."""
    host = video()
    counting = Counting(host.weights().files)
    monkeypatch.setattr(host, "weights", lambda: counting)
    convert(host, tmp_path / "target", 1)
    assert len(counting) > 50
    assert counting.most <= 3


class Composed(LlavaOnevision):
    """Of a family that `transformers` has no class for."""

    def empty(self) -> Any:
        model = nn.Module()
        model.model = super().empty()
        return model


def test_refusals(tiny: Any, random_checkpoints: Path, tmp_path: Path) -> None:
    host = tiny()
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(CommandError, match="target must be a new or an empty folder"):
        convert(host, full, 5)
    with pytest.raises(CommandError, match=r"shard_gib must be in \[1e-06, inf\], got 0"):
        convert(host, tmp_path / "new", 0)
    arguments = {field.name: getattr(host, field.name) for field in fields(host)}
    with pytest.raises(CommandError, match="transformers has no class for Composed"):
        convert(Composed(**arguments), tmp_path / "new", 5)
    with pytest.raises(CommandError, match=r"must be a llava_onevision model, .*tiny_siglip' is siglip"):
        convert(tiny(checkpoint=str(random_checkpoints / "tiny_siglip")), tmp_path / "new", 5)
    assert list(tmp_path.iterdir()) == [full]


def test_a_folder_is_there_only_when_it_is_whole(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tiny()
    whole = host.weights()

    class Torn(Weights):
        def __getitem__(self, name: str) -> Tensor:
            if name == list(self)[40]:
                raise KeyboardInterrupt
            return super().__getitem__(name)

    with monkeypatch.context() as patch:
        patch.setattr(host, "weights", lambda: Torn(whole.files))
        with pytest.raises(KeyboardInterrupt):
            convert(host, tmp_path / "target", SMALL)
    assert not (tmp_path / "target").exists()
    convert(host, tmp_path / "target", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.fixture
def shell(project_root: Path, tmp_path: Path) -> Shell:
    (tmp_path / "outputs").mkdir()
    return Shell(project_root, tmp_path / "outputs", "convert.py")


def test_convert_command(shell: Shell, random_checkpoints: Path, tmp_path: Path) -> None:
    """What is in the standard layout stays as it is."""
    refused = shell.start("backbone=tiny")
    target = tmp_path / "target"
    status, said = shell.run("backbone=tiny", f"paths.checkpoints={random_checkpoints}", f"target={target}")
    assert status == 0, said
    assert f"{target} is written, with 1 files of weights" in said
    released, written = named(random_checkpoints / "tiny"), named(target)
    assert released.keys() == written.keys()
    assert all(torch.equal(released[name], written[name]) for name in released)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (target / name).read_text() == (random_checkpoints / "tiny" / name).read_text()
    assert refused.communicate()[0].strip() == "target must be set, it has no default: give target=…"
