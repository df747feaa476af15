"""Which weights these are."""

import hashlib
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

SAMPLE = 2**20  # bytes read at the beginning, the middle and the end of a file: shards are too large to read whole


def fingerprint(checkpoint: str, revision: str | None) -> str:
    """Of a folder: a digest of its configuration and of samples of its weights. Of a hub id: the cached commit."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        cached = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
        commit = Path(cached).parent.name if isinstance(cached, str) else revision
        return f"{checkpoint}@{commit}"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
                file.seek(start)
                digest.update(file.read(SAMPLE))
    return f"{folder.name}@{digest.hexdigest()[:16]}"
