"""Which weights these are."""

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.utils import cached_file

SAMPLE = 2**20  # bytes read at the beginning, the middle and the end of a file: shards are too large to read whole


def read_config(checkpoint: str, revision: str | None, key: str) -> Any:
    """Of a folder or hub id, without its weights; ValueError that names `key` where there is none."""
    try:
        return AutoConfig.from_pretrained(checkpoint, revision=revision)
    except OSError as error:
        raise _nowhere(checkpoint, key, error) from error


def read_json(checkpoint: str, revision: str | None, key: str) -> dict[str, Any]:
    """Likewise, where the configuration is of a class that `transformers` has not."""
    try:
        return json.loads(Path(cached_file(checkpoint, "config.json", revision=revision)).read_text())
    except OSError as error:
        raise _nowhere(checkpoint, key, error) from error


def _nowhere(checkpoint: str, key: str, error: OSError) -> ValueError:
    return ValueError(
        f"{key} {checkpoint!r} is neither a folder with a config.json nor a hub id that is cached or can be "
        f"fetched; name a folder, or fetch it where there is a network ({error})"
    )


def fingerprint(checkpoint: str, revision: str | None) -> str:
    """Of a folder: a digest of its configuration and of samples of its weights. Of a hub id: its commit."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return f"{checkpoint}@{Path(cached_file(checkpoint, 'config.json', revision=revision)).parent.name}"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
                file.seek(start)
                digest.update(file.read(SAMPLE))
    return f"{folder.name}@{digest.hexdigest()[:16]}"
