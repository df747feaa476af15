"""Reads what W&B wrote offline: a file of records in LevelDB's log format, each a protocol buffer."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from time import sleep
from typing import Any

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK, PREFIX = 7, 32_768, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    data, place, parts = path.read_bytes(), HEADER, b""
    while place + PREFIX.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < PREFIX.size:
            place += left
            continue
        _, length, kind = PREFIX.unpack_from(data, place)
        place += PREFIX.size
        parts += data[place : place + length]
        place += length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def ended(path: Path) -> list[Any]:
    """All records. The last, `exit`, may be written a moment after W&B has said that the run is finished."""
    for _ in range(100):
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        sleep(0.1)
    raise AssertionError(f"{path} does not end: {[record.WhichOneof('record_type') for record in found]}")


def read(folder: Path) -> dict[str, Any]:
    """Of the one run in `folder`: name, group, tags, config, history (one mapping per step), summary, tables."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    told: dict[str, Any] = {"config": {}, "history": [], "summary": {}}
    for record in ended(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            told |= {"name": run.display_name, "group": run.run_group, "tags": list(run.tags), "project": run.project}
            told["config"] |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "config":
            told["config"] |= {item.key: json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            told["history"].append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            told["summary"] |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
    told["tables"] = [
        json.loads(file.read_text()) for file in sorted(path.parent.glob("files/media/table/**/*.table.json"))
    ]
    return told


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)
