"""Tiny random checkpoints in the layout of a release: its names (tests/keys/), each of its sizes made smaller."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from kvtp.backbone._weights import Weights

KEYS = Path(__file__).resolve().parent / "keys"
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def released(family: str) -> dict[str, tuple[int, ...]]:
    """Every name of tests/keys/<family>.txt with its shape in full size."""
    found: dict[str, tuple[int, ...]] = {}
    for line in (KEYS / f"{family}.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, shape = line.split()
            sizes = tuple(int(size) for size in shape.split("x")) if shape != "scalar" else ()
            first, last = map(int, found_range.groups()) if (found_range := RANGE.search(name)) else (0, 0)
            found |= {RANGE.sub(str(number), name): sizes for number in range(first, last + 1)}
    return found


def tiny_tensors(
    family: str, sizes: Mapping[int, int], depths: Mapping[str, int], seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random tensors under the released names. `sizes`: size in the release → size here, all others stay; `depths`:
    what stands before a layer's number → layers kept. Matrices spread as 1/√columns, so that signals keep their size;
    norms near one, biases small."""
    random, made = torch.Generator().manual_seed(seed), {}
    for name, shape in released(family).items():
        if any((layer := re.search(re.escape(before) + r"(\d+)\.", name)) and int(layer[1]) >= kept
               for before, kept in depths.items()):  # fmt: skip
            continue
        small = tuple(sizes.get(size, size) for size in shape)
        noise = torch.randn(small, generator=random)
        if len(small) > 1:
            made[name] = noise * (noise[0].numel() ** -0.5)
        else:
            made[name] = 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
    return made


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor], shards: int = 2) -> None:
    """As the hub has them: several safetensors files. Names are dealt in turn: what belongs together is apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        part = {name: tensors[name] for name in list(tensors)[number::shards]}
        save_file(part, folder / f"model-{number + 1:05d}-of-{shards:05d}.safetensors")


class Listing(Weights):
    """Names and shapes of a release in full size, without tensors."""

    def __init__(self, family: str) -> None:
        super().__init__(())
        self.shapes = released(family)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.empty(self.shapes[name], device="meta")
