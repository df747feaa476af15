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
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from accelerate.utils import set_module_tensor_to_device
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kvtp.backbone._hub import WEIGHTS, lacking

LORA = re.compile(r"(?P<module>.*)\.(?P<part>base_layer|lora_A|lora_B)(\.default)?\.(?P<kind>weight|bias)")
NAMED = 4  # names in a message


@dataclass(frozen=True)
class Layout:
    """How a release names its weights.

    `renames`: (pattern, replacement), each tried on every name, in order. `unwanted`: patterns of what is left out.
    `tied`: target → the target whose tensor it shares when the release holds no own. `lora`: lora_alpha of adapters
    that the release holds beside the weights they change: W + lora_alpha / r · B A. W is called `….weight` (PEFT up to
    0.5, or a base model's own file) or `….base_layer.weight`.
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

    def depth(self, before: str) -> int:
        """How many layers there are whose names go on with a number after `before`."""
        numbers = (name.removeprefix(before).partition(".")[0] for name in self if name.startswith(before))
        return len({number for number in numbers if number.isdecimal()})


class Joined(Weights):
    """Those of several places, each under a prefix of its own; of two with one name the later."""

    def __init__(self, parts: Mapping[str, Weights]) -> None:
        super().__init__(file for part in parts.values() for file in part.files)
        self._whence = {prefix + name: (part, name) for prefix, part in parts.items() for name in part}

    def __iter__(self) -> Iterator[str]:
        return iter(self._whence)

    def __len__(self) -> int:
        return len(self._whence)

    def __getitem__(self, name: str) -> Tensor:
        part, own = self._whence[name]
        return part[own]

    def shape(self, name: str) -> tuple[int, ...]:
        part, own = self._whence[name]
        return part.shape(own)


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


def weights_in(folder: Path) -> Weights:
    """Of the first kind of file that the folder has. FileNotFoundError where files are missing."""
    if absent := lacking(folder):
        raise FileNotFoundError(f"{folder} holds no weights, or not all: there must be {', '.join(absent)}")
    return Weights(next(files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))))


def compare(model: nn.Module, weights: Weights, layout: Layout) -> Differences:
    """By names and shapes alone; `model` may be on the meta device."""
    wanted = model.state_dict()
    recipes = _recipes(weights, layout, wanted)
    shared = {target for target, source in layout.tied if source in recipes}
    misshapen = [
        (target, _shape(parts, weights), tuple(wanted[target].shape))
        for target, parts in recipes.items()
        if target in wanted and _complete(parts) and _shape(parts, weights) != tuple(wanted[target].shape)
    ]
    return Differences(
        missing=tuple(name for name in wanted if not _complete(recipes.get(name, {})) and name not in shared),
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
    filled = set()
    for target, value in stream(model, weights, layout):
        kind = dtype if value.is_floating_point() else value.dtype
        own = value.to(place(target), kind, copy=True)  # a file that is mapped may be written anew
        set_module_tensor_to_device(model, target, place(target), value=own, dtype=own.dtype)
        filled.add(target)
    for target, source in layout.tied:
        if target not in filled:
            owner, _, name = target.rpartition(".")
            setattr(model.get_submodule(owner), name, model.get_parameter(source))
    for name, buffer in model.named_buffers():  # rotary frequencies and the like, which no release holds
        if name not in filled:
            set_module_tensor_to_device(model, name, place(name), value=buffer)


def targets(model: nn.Module, weights: Weights, layout: Layout) -> list[str]:
    """What of `model` is in the files, in their order."""
    return list(_recipes(weights, layout, model.state_dict()))


def stream(model: nn.Module, weights: Weights, layout: Layout) -> Iterator[tuple[str, Tensor]]:
    """`targets` and their tensors, one read after the other."""
    for target, parts in _recipes(weights, layout, model.state_dict()).items():
        yield target, _make(parts, weights, layout)


def _recipes(weights: Weights, layout: Layout, wanted: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of each target the names that it is made of: `base`, and `lora_A`, `lora_B` where an adapter changes it."""
    recipes: dict[str, dict[str, str]] = defaultdict(dict)
    for name in weights:
        target, part = layout(name), "base"
        if target is None:
            continue
        if layout.lora is not None and (found := LORA.fullmatch(target)):
            target, part = f"{found['module']}.{found['kind']}", found["part"].removesuffix("_layer")
        recipes[_nested(target, wanted)][part] = name
    return dict(recipes)


def _nested(target: str, wanted: Mapping[str, Any]) -> str:
    """transformers up to 5.17 has one more level in vision towers."""
    if target not in wanted:
        deeper = target.replace("vision_tower.", "vision_tower.vision_model.", 1)
        return deeper if deeper in wanted else target
    return target


def _complete(parts: Mapping[str, str]) -> bool:
    """Adapters come in pairs, beside what they change."""
    return parts.keys() in ({"base"}, {"base", "lora_A", "lora_B"})


def _shape(parts: Mapping[str, str], weights: Weights) -> tuple[int, ...]:
    """Of the base; or what its adapter would change, where that is something else."""
    shape = weights.shape(parts["base"])
    if "lora_A" not in parts:
        return shape
    changed = weights.shape(parts["lora_B"])[0], weights.shape(parts["lora_A"])[1]
    return shape if shape == changed else changed


def _make(parts: Mapping[str, str], weights: Weights, layout: Layout) -> Tensor:
    base = weights[parts["base"]]
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
    try:
        return _mapped(path)
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, or is no file of weights ({error}); fetch it again, or save its tensors "
            "anew"
        ) from error
    except (SafetensorError, RuntimeError, EOFError) as error:  # half a file, a pointer to one
        raise ValueError(f"{path} cannot be read ({error}); fetch it again") from error


def _mapped(path: Path) -> _File:
    if path.suffix == ".safetensors":
        file = safe_open(path, framework="pt")
        return _File(frozenset(file.keys()), file.get_tensor, lambda name: tuple(file.get_slice(name).get_shape()))
    mapped = is_zipfile(path)  # files of torch before 1.6 are not, and are read whole
    held = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    tensors = held.get("model", held.get("state_dict", held))
    return _File(frozenset(tensors), tensors.__getitem__, lambda name: tuple(tensors[name].shape))


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a number"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
