"""Which weights these are."""

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from kvtp.backbone._hub import WEIGHTS, beside, brief, commit_of, file_of

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
SAMPLE = 2**20  # bytes read at the beginning, the middle and the end of a file: shards are too large to read whole


def read_config(checkpoint: str, revision: str | None, key: str) -> Any:
    """Of a folder or hub id, without its weights; ValueError that names `key` where there is none."""
    path = file_of(checkpoint, revision, "config.json", key)
    try:
        return AutoConfig.from_pretrained(path.parent)
    except OSError as error:
        raise ValueError(f"{key} {checkpoint!r}: {brief(error)}") from error


def read_json(checkpoint: str, revision: str | None, key: str) -> dict[str, Any]:
    """Likewise, where the configuration is of a class that `transformers` has not."""
    return json.loads(file_of(checkpoint, revision, "config.json", key).read_text())


def read_tokenizer(checkpoint: str, revision: str | None, key: str, **told: Any) -> PreTrainedTokenizerBase:
    """ValueError that names `key` where there is none: `transformers` would make up an empty one."""
    folder = beside(checkpoint, revision, key)
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ValueError(f"{key} {checkpoint!r} must hold a tokenizer ({' or '.join(VOCABULARIES)}); fetch it again")
    try:
        return AutoTokenizer.from_pretrained(folder, **told)
    except (OSError, ValueError) as error:
        raise ValueError(f"{key} {checkpoint!r} must hold a tokenizer: {brief(error)}") from error


def fingerprint(checkpoint: str, revision: str | None, key: str) -> str:
    """Of a folder: a digest of its configuration and of samples of its weights. Of a hub id: its commit. ValueError
    that names `key` where there is neither."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return f"{checkpoint}@{commit_of(beside(checkpoint, revision, key, ['config.json']))}"
    digest = hashlib.sha256()
    for path in (path for pattern in ("*.json", *WEIGHTS) for path in sorted(folder.glob(pattern))):
        size = path.stat().st_size
        digest.update(f"{path.name}/{size}".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
                file.seek(start)
                digest.update(file.read(SAMPLE))
    return f"{folder.name}@{digest.hexdigest()[:16]}"
