"""Released weights, read tensor by tensor into a model that was built without any.

One tensor is in memory at a time besides the model, whose parameters go straight to where they will work. The same
names and shapes are compared without reading any tensor (`compare`): what is missing, left over or misshapen.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_module_tensor_to_device
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import safe_open
from torch import Tensor, nn

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pth")  # the first of these that a folder has
BESIDE = ("*.json", "*.jinja", "*.txt", "*.model")  # configuration and tokenizer
LORA = re.compile(r"(?P<module>.*)\.(?P<part>base_layer|lora_A|lora_B)(\.default)?\.(?P<kind>weight|bias)")
NAMED = 4  # names in a message


@dataclass(frozen=True)
class Layout:
    """How a release names its weights.

    `renames`: (pattern, replacement), each tried on every name, in order. `unwanted`: patterns of what is left out.
    `tied`: target → the target whose tensor it shares when the release holds no own. `lora`: lora_alpha of adapters
    that the release holds beside the weights they change: W + lora_alpha / r · B A.
    """

    renames: tuple[tuple[str, str], ...] = ()
    unwanted: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    lora: float | None = None

    def __call__(self, name: str) -> str | None:
        """What the model calls it; None = it is not wanted."""
        if any(re.search(pattern, name) for pattern in self.unwanted):
            return None
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


class Weights(Mapping[str, Tensor]):
    """The tensors of several files by name. A file is mapped, not read."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)

    @cached_property
    def _where(self) -> dict[str, "_File"]:
        return {name: file for file in map(_open, self.files) for name in file.names}

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, name: str) -> Tensor:
        return self._where[name].read(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._where[name].shape(name)


@dataclass(frozen=True)
class Differences:
    """Between what a model needs and what files hold. `misshapen`: name, shape in the files, shape in the model."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        shapes = [f"{name} is {_times(have)}, must be {_times(want)}" for name, have, want in self.misshapen]
        told = [("missing", self.missing), ("unexpected", self.unexpected), ("of the wrong shape", shapes)]
        return "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in told if names) or "none"


def folder_of(checkpoint: str, revision: str | None, key: str) -> Path:
    """A folder as it is; of a hub id the folder of its files, fetched if need be. ValueError that names `key`."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=[*WEIGHTS, *BESIDE]))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"{key} {checkpoint!r} is neither a folder nor a hub id that is cached or can be fetched; where there is a "
            f"network, python scripts/download.py backbone=… fetches it, and tells which files those are ({error})"
        ) from error


def weights_in(folder: Path) -> Weights:
    """Of the first kind of file that the folder has. FileNotFoundError where it has none."""
    for pattern in WEIGHTS:
        if files := sorted(folder.glob(pattern)):
            return Weights(files)
    raise FileNotFoundError(f"{folder} holds no weights: there must be one of {', '.join(WEIGHTS)}")


def compare(model: nn.Module, weights: Weights, layout: Layout) -> Differences:
    """By names and shapes alone; `model` may be on the meta device."""
    wanted = model.state_dict()
    recipes = _recipes(weights, layout, wanted)
    shared = {target for target, source in layout.tied if source in recipes}
    misshapen = [
        (target, _shape(parts, weights), tuple(wanted[target].shape))
        for target, parts in recipes.items()
        if target in wanted and _shape(parts, weights) != tuple(wanted[target].shape)
    ]
    return Differences(
        missing=tuple(name for name in wanted if name not in recipes and name not in shared),
        unexpected=tuple(name for target, parts in recipes.items() if target not in wanted for name in parts.values()),
        misshapen=tuple(misshapen),
    )


def fill(
    model: nn.Module, weights: Weights, layout: Layout, dtype: torch.dtype, place: Callable[[str], torch.device]
) -> None:
    """Give `model` (parameters on the meta device, other buffers as built) its weights, each at `place(name)`.

    ValueError for weights that are not exactly those of the model.
    """
    if found := compare(model, weights, layout):
        raise ValueError(f"the weights do not fit the model, {found}; scripts/download.py … check=true tells all")
    recipes = _recipes(weights, layout, model.state_dict())
    for target, parts in recipes.items():
        value = _make(parts, weights, layout)
        kind = dtype if value.is_floating_point() else value.dtype
        set_module_tensor_to_device(model, target, place(target), value=value, dtype=kind)
    for target, source in layout.tied:
        if target not in recipes:
            owner, _, name = target.rpartition(".")
            setattr(model.get_submodule(owner), name, model.get_parameter(source))
    for name, buffer in model.named_buffers():  # rotary frequencies and the like, which no release holds
        if name not in recipes:
            set_module_tensor_to_device(model, name, place(name), value=buffer)


def _recipes(weights: Weights, layout: Layout, wanted: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of each target the names that it is made of: `whole`, or `base_layer`, `lora_A`, `lora_B`."""
    recipes: dict[str, dict[str, str]] = defaultdict(dict)
    for name in weights:
        target, part = layout(name), "whole"
        if target is None:
            continue
        if layout.lora is not None and (found := LORA.fullmatch(target)):
            target, part = f"{found['module']}.{found['kind']}", found["part"]
        recipes[_nested(target, wanted)][part] = name
    return dict(recipes)


def _nested(target: str, wanted: Mapping[str, Any]) -> str:
    """transformers up to 5.17 has one more level in vision towers."""
    if target not in wanted:
        deeper = target.replace("vision_tower.", "vision_tower.vision_model.", 1)
        return deeper if deeper in wanted else target
    return target


def _shape(parts: Mapping[str, str], weights: Weights) -> tuple[int, ...]:
    return weights.shape(parts.get("whole") or parts.get("base_layer") or next(iter(parts.values())))


def _make(parts: Mapping[str, str], weights: Weights, layout: Layout) -> Tensor:
    if "whole" in parts:
        return weights[parts["whole"]]
    base = weights[parts["base_layer"]]
    if "lora_A" not in parts:
        return base
    down, up = weights[parts["lora_A"]].float(), weights[parts["lora_B"]].float()
    assert layout.lora is not None
    return base.float() + layout.lora / len(down) * (up @ down)


@dataclass(frozen=True)
class _File:
    names: frozenset[str]
    read: Callable[[str], Tensor]
    shape: Callable[[str], tuple[int, ...]]


def _open(path: Path) -> _File:
    if path.suffix == ".safetensors":
        file = safe_open(path, framework="pt")
        return _File(frozenset(file.keys()), file.get_tensor, lambda name: tuple(file.get_slice(name).get_shape()))
    held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    tensors = held.get("model", held.get("state_dict", held))
    return _File(frozenset(tensors), tensors.__getitem__, lambda name: tuple(tensors[name].shape))


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a number"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
