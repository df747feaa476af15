"""Finished runs brought back from Weights & Biases, as folders that `kvtp.store` reads."""

import logging
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from zipfile import BadZipFile, ZipFile

import wandb
from wandb.apis.public import File, Run
from wandb.errors import UsageError

from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.logger.wandb import ARCHIVE, WHOLE
from kvtp.progress import Steps
from kvtp.store import Store

log = logging.getLogger(__name__)
PATIENCE = 30  # [s] for each answer of the server
EVERY = 30  # [s] between lines of progress where there is no terminal
UNFINISHED = (
    "not finished there: still running, or `wandb sync --no-skip-online <folder>/wandb/run-*`, where it ran, sends the "
    "rest"
)
ANEW = "move the run's own folder away, and scripts/eval.py with logger=wandb makes it anew"
BARE = f"finished there without {ARCHIVE}: logged by an earlier version, or it was deleted; {ANEW}"
Item = TypeVar("Item")


class Torn(Exception):
    """What is there is not what a run wrote."""


def pull(rows: Sequence[Row], path: str, into: Path) -> dict[str, Path]:
    """Folders `into`/<run_id> of the rows that W&B has, by run_id.

    Of a row that is the newest finished run of the project `path` (`entity/project`) that bears the row's run_id as
    its name and has its archive. A folder comes whole or not at all, and one that is there is not fetched again; with
    all there, W&B is not asked. Warnings name what is in W&B but not finished, or without an archive, or does not come
    whole.

    CommandError where `path` is none, where W&B cannot be asked (in a terminal its client first asks for a key that it
    does not know), and where nothing came whole of what should have.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", path):
        raise CommandError(
            f"pull={path!r} must be <entity>/<project>, as in the address of the project's page, wandb.ai/me/kvtp"
        )
    folders = {row.run_id: into / row.run_id for row in rows}
    absent = [run_id for run_id, folder in folders.items() if not folder.exists()]
    found = _runs(path, absent) if absent else {}
    whole: dict[str, Path] = {}
    harmed: list[str] = []
    without: dict[str, list[str]] = defaultdict(list)
    for run_id in [run_id for run_id in folders if run_id not in absent]:
        try:
            _check(folders[run_id], run_id)
            whole[run_id] = folders[run_id]
        except Torn as error:
            harmed.append(f"{folders[run_id]} is no whole run ({error}); remove it, and it is fetched again")
    with closing(Steps(len(found), "run", EVERY)) as progress:
        for run_id, runs in found.items():
            ended = [run for run in runs if run.state == "finished"]
            try:
                if archive := next(filter(None, (_archive(path, run) for run in ended)), None):
                    _fetch(archive, folders[run_id])
                    whole[run_id] = folders[run_id]
                else:
                    without[BARE if ended else UNFINISHED].append(run_id)
            except Torn as error:
                harmed.append(
                    f"{run_id} does not come whole from W&B's {path} ({error}); the same command tries again; if the "
                    f"harm lies there, {ANEW}"
                )
            progress.step(run_id)
    if harmed and not whole:
        raise CommandError(harmed[0])
    for line in harmed + [f"{', '.join(names)} in W&B's {path}: {why}" for why, names in without.items()]:
        log.warning("%s", line)
    return whole


def _runs(path: str, names: Sequence[str]) -> dict[str, list[Run]]:
    """Of each name that W&B knows those that bear it, newest first."""
    named = {"display_name": {"$in": list(names)}}
    found: dict[str, list[Run]] = {name: [] for name in names}
    for run in _asked(path, lambda: wandb.Api(timeout=PATIENCE).runs(path, filters=named, order="-created_at")):
        if run.name in found:
            found[run.name].append(run)
    return {name: runs for name, runs in found.items() if runs}


def _archive(path: str, run: Run) -> File | None:
    return next(iter(_asked(path, lambda: run.files(names=[ARCHIVE]))), None)


def _asked(path: str, question: Callable[[], Iterable[Item]]) -> list[Item]:
    """All pages. W&B's client raises errors of many kinds."""
    try:
        return [item for item in question()]  # list() would take what goes wrong in a page's length for its end
    except UsageError as error:
        raise CommandError(
            f"pull={path!r} needs an API key of W&B, and none is known here; `wandb login`, or set WANDB_API_KEY"
        ) from error
    except ValueError as error:  # so it says that the server knows no project
        raise CommandError(
            f"pull={path!r}: W&B shows no such project to the key known here ({_line(error)}); give another "
            "entity/project, or `wandb login` with a key that may read it"
        ) from error
    except Exception as error:
        raise CommandError(
            f"pull={path!r}: W&B does not answer as it should ({_line(error)}); what has come stays, and the same "
            "command goes on when network and key (`wandb login`) are right"
        ) from error


def _fetch(file: File, folder: Path) -> None:
    """Torn if it does not come whole. Any name in the archive that is not of a run's files, and with it one that leads
    out of the folder, is let alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".pull-") as place:
        new = Path(place) / folder.name
        try:
            with file.download(root=place) as text, ZipFile(text.name) as archive:
                archive.extractall(new, [name for name in archive.namelist() if WHOLE.fullmatch(name)])
        except (wandb.Error, BadZipFile, EOFError, zlib.error) as error:
            raise Torn(_line(error)) from error
        _check(new, folder.name)
        new.rename(folder)


def _check(folder: Path, run_id: str) -> None:
    """Torn unless it can be read and is complete."""
    store = Store(folder)
    try:
        predictions, told, samples = store.finished(), store.told(), store.samples()
        if predictions is None or len(predictions) != told["questions"]:
            raise Torn(f"{len(predictions or ())} of {told['questions']} predictions")
        if told["run_id"] != run_id:
            raise Torn(f"it is {told['run_id']} by its summary.json")
    except (CommandError, OSError, ValueError, LookupError, TypeError) as error:
        raise Torn(_line(error)) from error
    if lost := [picture.name for _, picture in samples if not picture.is_file()]:
        raise Torn(f"samples/{lost[0]} is not there")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
