"""Where a checkpoint's files lie: in a folder, or in the hub's cache, fetched if need be.

A hub id is `owner/name`, or `owner/name/folder` for what lies in a folder of the repository.
"""

import fnmatch
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from tqdm import tqdm

from kvtp.errors import Absent

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pth")  # the first of these that there is
BESIDE = ("*.json", "*.jinja", "*.txt", "*.model")  # configuration and tokenizer
ANY = " or ".join(WEIGHTS)
EVERYTHING = [*BESIDE, ANY]
PATIENCE = 10  # [s] for the hub's first answer
UNREACHABLE = (OSError, HTTPError)  # no network, no answer, an answer that is none, HF_HUB_OFFLINE


class Quiet(tqdm):
    """For what takes no time. (A bar of the hub's own, switched off, would be so for all.)"""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named | {"disable": True})


def folder_of(checkpoint: str, revision: str | None, key: str) -> Path:
    """A folder as it is; of a hub id the folder of its files, fetched if need be. ValueError that names `key`."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    inside = parts(checkpoint)[1]
    try:
        about = _ask(checkpoint, revision, key)
    except UNREACHABLE as error:
        return _cached(checkpoint, revision, key, error)
    names = [file.rfilename for file in about.siblings or ()]
    there = wanted(name.removeprefix(inside) for name in names if name.startswith(inside))
    try:
        return _snapshot(checkpoint, revision, there, key, None) / inside
    except UNREACHABLE as error:
        raise Absent(
            f"{key} {checkpoint!r} broke off ({brief(error)}); files that are whole stay, the same command fetches the "
            "others"
        ) from error


def file_of(checkpoint: str, revision: str | None, name: str, key: str) -> Path:
    """One small file, likewise."""
    path = beside(checkpoint, revision, key, [name]) / name
    if not path.is_file():
        raise Absent(f"{key} {checkpoint!r} is neither a folder with a {name} nor a hub id that has one")
    return path


def beside(checkpoint: str, revision: str | None, key: str, names: Iterable[str] = BESIDE) -> Path:
    """The folder, with the files of `names` that there are: what is small."""
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    try:
        return _snapshot(checkpoint, revision, names, key, Quiet) / parts(checkpoint)[1]
    except UNREACHABLE as error:
        return _cached(checkpoint, revision, key, error, whole=False)


def parts(checkpoint: str) -> tuple[str, str]:
    """The repository, and what the names of the files in its folder begin with."""
    owner, *words = checkpoint.split("/")
    if not owner or len(words) < 2 or not all(words):
        return checkpoint, ""
    return f"{owner}/{words[0]}", "/".join([*words[1:], ""])


def commit_of(folder: Path) -> str:
    """Of a folder in the hub's cache, or one inside it."""
    above = folder.parts[::-1]
    return above[above.index("snapshots") - 1]


def wanted(names: Iterable[str]) -> list[str]:
    """Of a repository's files: the first kind of weights that there is, and what is beside them; nothing in folders."""
    top = sorted(name for name in names if "/" not in name)
    weights = next((found for pattern in WEIGHTS if (found := fnmatch.filter(top, pattern))), [])
    return [*weights, *(name for name in top if any(fnmatch.fnmatch(name, pattern) for pattern in BESIDE))]


def lacking(folder: Path) -> list[str]:
    """Weight files that must be there and are not: the shards that an index names; without one, any at all."""
    for index in ("*.safetensors.index.json", "*.bin.index.json"):
        if found := sorted(folder.glob(index)):
            shards = {shard for path in found for shard in json.loads(path.read_text())["weight_map"].values()}
            return sorted(shard for shard in shards if not (folder / shard).is_file())
    return [] if any(any(folder.glob(pattern)) for pattern in WEIGHTS) else [ANY]


def brief(error: BaseException) -> str:
    """In one line."""
    return " ".join(str(error).split())


def _snapshot(checkpoint: str, revision: str | None, names: Iterable[str], key: str, bar: type[tqdm] | None) -> Path:
    """What is here where the hub gives no answer. It is asked whether it is there first, once: fetching asks for half a
    minute, and tells of every time."""
    repository, inside = parts(checkpoint)
    patterns = [inside + name for name in names]
    _ask(checkpoint, revision, key)
    return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, tqdm_class=bar))


def _ask(checkpoint: str, revision: str | None, key: str) -> ModelInfo:
    """About a repository. One of UNREACHABLE where there is no answer."""
    if Path(checkpoint).is_absolute() or (len(Path(checkpoint).parts) > 1 and Path(checkpoint).parent.is_dir()):
        raise _no_id(checkpoint, key)  # a folder's name with a slip
    try:
        return HfApi().model_info(parts(checkpoint)[0], revision=revision, timeout=PATIENCE)
    except HFValidationError as error:
        raise _no_id(checkpoint, key) from error


def _cached(checkpoint: str, revision: str | None, key: str, reason: Exception, whole: bool = True) -> Path:
    """What is here of a hub id when the hub gives no answer; ValueError where it is nothing, or not the `whole`."""
    repository, inside = parts(checkpoint)
    small = [f"{inside}config.json"]
    try:
        where = snapshot_download(repository, revision=revision, allow_patterns=small, local_files_only=True)
    except LocalEntryNotFoundError:
        raise _missing(checkpoint, revision, key, EVERYTHING, reason) from reason
    if whole and (absent := lacking(Path(where) / inside)):
        raise _missing(checkpoint, revision, key, absent, reason) from reason
    return Path(where) / inside


def _no_id(checkpoint: str, key: str) -> ValueError:
    return ValueError(f"{key} {checkpoint!r} is neither a folder nor a hub id (owner/name)")


def _missing(checkpoint: str, revision: str | None, key: str, files: list[str], reason: Exception) -> Absent:
    repository, inside = parts(checkpoint)
    told = (f" --revision {revision}" if revision else "") + (f" --include '{inside}*'" if inside else "")
    said = reason if isinstance(reason, RepositoryNotFoundError) else reason.__cause__ or reason  # gated, or not there
    why = "HF_HUB_OFFLINE: nothing is fetched" if constants.HF_HUB_OFFLINE else brief(said)
    return Absent(
        f"{key} {checkpoint!r} is neither a folder with a config.json nor a hub id that is all in the cache "
        f"({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} does not give it ({why}). Needed of "
        f"{constants.ENDPOINT}/{repository}: {', '.join(inside + file for file in files)}. Where there is a network, "
        "scripts/download.py with the words of scripts/eval.py fetches them, or "
        f"hf download {repository}{told} --local-dir FOLDER; a FOLDER brought here is taken with {key}=FOLDER"
        + (f"/{inside.rstrip('/')}" if inside else "")
    )
