"""A released checkpoint, written anew in the layout that `transformers` writes: tensor by tensor, on the CPU."""

import json
import logging
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Shaped
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from kvtp.backbone._host import Host
from kvtp.backbone._new import write_processors
from kvtp.backbone._weights import stream, targets
from kvtp.backbone.llava_video import SYSTEM, LlavaVideo
from kvtp.check import compared
from kvtp.command import CommandError
from kvtp.errors import check_range

log = logging.getLogger(__name__)
WHOLE, SHARD, INDEX = "model.safetensors", "model-{:05d}-of-{:05d}.safetensors", "model.safetensors.index.json"
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
AS_RELEASED = ("generation_config.json", "*preprocessor_config.json", "processor_config.json", "chat_template.json")
PICTURE, FILM = "<image>", "<video>"  # what stands for them in a text
CHAT = (  # LLaVA-Video's, which has none in a file
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ '<video>\n' if part['type'] == 'video' else part['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Entry:
    """A tensor to be written. `name`: in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def convert(host: Host, target: Path, shard_gib: float) -> list[Path]:
    """Write `host`'s checkpoint to the folder `target`, in shards of at most `shard_gib`; the files of weights.

    CommandError for a folder that is not empty, weights that do not fit, a family that `transformers` has no class for.
    """
    try:
        check_range("shard_gib", shard_gib, 1e-6)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if target.exists() and any(target.iterdir()):
        raise CommandError(f"target must be a new or an empty folder, {target} is not")
    model, weights, found = compared(host)
    if not isinstance(model, PreTrainedModel) or not type(model).__module__.startswith("transformers."):
        raise CommandError(
            f"transformers has no class for {type(host).__name__}, so there is no layout to convert to; "
            f"backbone.checkpoint={host.checkpoint} is read as it is"
        )
    if found:
        raise CommandError(f"{host.checkpoint} does not fit {type(host).__name__}, {found}")
    new = target.with_name(target.name + ".new")  # until it is whole
    if new.exists() and not (new / "config.json").is_file():
        raise CommandError(f"{new} is in the way: it would be written until {target} is whole; move it away")
    shutil.rmtree(new, ignore_errors=True)  # what a stopped conversion left
    new.mkdir(parents=True)
    _furnish(host, model, new)
    entries = _entries(model.to(host.precision), targets(model, weights, host.names), new)
    shards = _shards(list(entries.values()), int(shard_gib * 2**30))
    names = [WHOLE] if len(shards) == 1 else [SHARD.format(n + 1, len(shards)) for n in range(len(shards))]
    values = ((entries[name], value) for name, value in stream(model, weights, host.names))
    for name, shard in zip(names, shards, strict=True):
        log.info("%s: %d tensors, %.2f GiB", name, len(shard), sum(entry.bytes for entry in shard) / 2**30)
        with (new / name).open("wb") as file:
            _write(file, shard, values)
    if len(shards) > 1:
        where = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        total = sum(entry.bytes for entry in entries.values())
        told = {"metadata": {"total_size": total}, "weight_map": where}
        (new / INDEX).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    new.replace(target)
    return [target / name for name in names]


def _furnish(host: Host, model: PreTrainedModel, folder: Path) -> None:
    """All but the weights and what is written with them."""
    for pattern in AS_RELEASED:
        for path in host.folder.glob(pattern):
            shutil.copy(path, folder)
    words = deepcopy(host.tokenizer)
    if isinstance(host, LlavaVideo):
        _name_films(model, words)
        write_processors(folder, model)
    words.save_pretrained(folder)


def _name_films(model: PreTrainedModel, words: PreTrainedTokenizerBase) -> None:
    """Words for pictures and films, whose embeddings are there and unused, and a chat template with them."""
    words.add_tokens([PICTURE, FILM], special_tokens=True)
    model.config.image_token_index = words.convert_tokens_to_ids(PICTURE)
    model.config.video_token_index = words.convert_tokens_to_ids(FILM)
    words.chat_template = CHAT


def _entries(model: PreTrainedModel, held: Sequence[str], folder: Path) -> dict[str, Entry]:
    """What becomes of each target, under the name that this version of `transformers` saves it by: it is let save a
    number in the place of each tensor. Its configuration and generation settings stay in `folder`."""
    disable_progress_bar()
    released = {path.name: path.read_bytes() for path in folder.glob("generation_config.json")}
    model.save_pretrained(folder, state_dict={name: torch.tensor([place]) for place, name in enumerate(held)})
    for name, content in released.items():
        (folder / name).write_bytes(content)
    with safe_open(folder / WHOLE, framework="pt") as file:
        saved = {held[int(file.get_tensor(name))]: name for name in file.keys()}  # noqa: SIM118 — it is no mapping
    (folder / WHOLE).unlink()
    if saved.keys() != set(held):
        raise CommandError(f"{type(model).__name__} does not save every weight under one name: it cannot be converted")
    wanted = model.state_dict()
    return {name: Entry(saved[name], tuple(wanted[name].shape), wanted[name].dtype) for name in held}


def _shards(entries: Sequence[Entry], limit: int) -> list[list[Entry]]:
    """In order; a tensor larger than `limit` bytes is a shard of its own."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if shards[-1] and size + entry.bytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.bytes
    return shards


def _write(file: BinaryIO, entries: Sequence[Entry], values: Iterator[tuple[Entry, Shaped[Tensor, "..."]]]) -> None:
    """A safetensors file of `entries`, the next of `values`: one tensor in memory at a time, where the format's own
    library wants all of them (https://huggingface.co/docs/safetensors: length of the header, header, bytes)."""
    header: dict[str, Mapping[str, object]] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in entries:
        places = [start, start := start + entry.bytes]
        header[entry.name] = {"dtype": DTYPES[entry.dtype], "shape": entry.shape, "data_offsets": places}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for expected in entries:
        entry, value = next(values)
        assert entry is expected
        file.write(value.to(entry.dtype).contiguous().reshape(-1).view(torch.uint8).numpy().data)
