"""The doctor: all examinations of a data set, before a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_class

from kvtp.benchmark._published import Release, VideoSet
from kvtp.benchmark._record import Films, Record
from kvtp.benchmark._tables import Unfit, complaints
from kvtp.benchmark.folder import Folder
from kvtp.benchmark.sparsekv_qa import read_index
from kvtp.cell import make
from kvtp.command import CommandError
from kvtp.config import Row
from kvtp.doctor.archives import archives_of
from kvtp.doctor.films import broken, collisions, empty, look, missing, segments
from kvtp.doctor.finding import Finding
from kvtp.doctor.lenient import Reading, lenient
from kvtp.doctor.manifest import checksums
from kvtp.doctor.own import own_rows
from kvtp.doctor.questions import counts, questions
from kvtp.doctor.subtitles import subtitles
from kvtp.doctor.unpacked import unpacked
from kvtp.judge.none import NoJudge
from kvtp.types import VideoRef


@dataclass(frozen=True)
class Looking:
    """`probe`: every film and archive is read, not only its size asked for; in `workers` processes, each film for at
    most `timeout` [s]."""

    probe: bool
    workers: int
    timeout: float


@dataclass(frozen=True)
class Examined:
    """`name`: the option of the group benchmark. `release`: None for questions of one's own. `rows`: canonical ones."""

    name: str
    root: Path
    split: str | None
    release: Release | None
    findings: tuple[Finding, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def errors(self) -> int:
        return sum(one.level == "error" for one in self.findings)

    @property
    def missing(self) -> list[str]:
        """Files that are not there."""
        return [one.file for one in self.findings if one.kind in ("film missing", "fetched file missing")]


def published(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The section of the published set that a section `benchmark` is about: its own, or that of the set whose questions
    it takes. None where there is none."""
    if hasattr(get_class(config["_target_"]), "release"):
        return config
    source = config.get("source")
    if not isinstance(source, Mapping) or "_target_" not in source:
        return None
    small = {key: config[key] for key in ("root",) if config[key] == "miniature"}
    return published({**source, **small})


class Bystander(NoJudge):
    """For sets that insist on a judge: here nobody is asked."""

    asks = True


def settings(config: Mapping[str, Any]) -> tuple[type[VideoSet], dict[str, Any]]:
    """Class and constructor's arguments of the published set that a section `benchmark` is about; ValueError where it
    is about none."""
    section = published(config)
    if section is None:
        raise ValueError(f"{config['_target_']} is no published set; examine_own looks at questions of one's own")
    judge = {"judge": None} if "judge" in section else {}
    called = make("benchmark", {**section, **judge, "_partial_": True})
    return called.func, called.keywords | {name: Bystander() for name in judge}


def examine(row: Row, probe: bool) -> Examined | None:
    """None where there is nothing to examine: generated questions. CommandError for what the command line got wrong."""
    config, name, frames = row.config["benchmark"], row.choices["benchmark"], row.config["frames"]
    looking = Looking(probe, frames["workers"], frames["timeout"])
    if get_class(config["_target_"]) is Folder:
        return examine_own(name, config, looking)
    section = published(config)
    if section is None:
        return None
    examined = examine_set(name, *settings(section), looking)
    return examined if section is config else _with_index(examined, config)


def examine_set(name: str, kind: type[VideoSet], arguments: Mapping[str, Any], looking: Looking) -> Examined:
    """A published set: annotations, archives, films, subtitles."""
    try:
        data, told = lenient(kind, arguments)
    except ValueError as error:
        raise CommandError(str(error)) from error
    release, root, part = data.release, data.root, data.part
    records = told.records
    origin = {record.id: _where(told, record) for record in records}
    videos = {record.id: _ref(data[place].video) for place, record in enumerate(records)}
    found = [
        *told.findings,
        *counts(told.rows, (told.all, len(records)), None if data.small else part.rows, _files(told) or str(root)),
        *questions(records, part.labelled, lambda record: origin[record.id]),
        *checksums(root, looking.probe),
        *unpacked(root, archives_of(root, release)),
        *_films(records, data.films, root, videos, origin, looking),
        *subtitles(records, root),
    ]
    return Examined(name, root, data.split, release, tuple(dict.fromkeys(found)), tuple(data.canonical()))


def examine_own(name: str, config: Mapping[str, Any], looking: Looking) -> Examined:
    """Questions of one's own: lines and films."""
    root = Path(config["root"])
    path, films = root / config["questions"], Films(root / config["videos"], ("",))
    records, faults = own_rows(path, config["split"])
    videos = {record.id: VideoRef(str(films.path(record.video)), record.start, record.end) for record in records}
    found = [
        *faults,
        *counts(len(records) + len(faults), (), None, str(path)),
        *questions(records, False, lambda record: str(path)),
        *_films(records, films, root, videos, dict.fromkeys(videos, str(path)), looking),
    ]
    return Examined(name, root, config["split"], None, tuple(dict.fromkeys(found)), ())


def _films(
    records: Sequence[Record],
    films: Films,
    root: Path,
    videos: Mapping[str, VideoRef],
    origin: Mapping[str, str],
    looking: Looking,
) -> list[Finding]:
    several = list(videos.values())
    lengths = look(several, looking.workers, looking.timeout) if looking.probe else {}
    hollow = list(empty(several))
    known = {one.file for one in hollow}
    return [
        *missing(records, films, root),
        *collisions(records, films),
        *hollow,
        *broken({path: told for path, told in lengths.items() if path not in known}),
        *segments(videos, lengths, origin),
    ]


def _with_index(examined: Examined, config: Mapping[str, Any]) -> Examined:
    """The labels too; and how they fit the questions, where these are in order."""
    remedy = "mend the index, or make it again"
    try:
        read_index(config["root"], config["miniatures"])
        if not examined.errors:
            make("benchmark", config)
    except Unfit as error:
        told = [Finding("index", error.table.where, one, remedy) for one in complaints(error.error)]
    except (ValueError, CommandError) as error:
        told = [Finding("index", str(config["root"]), str(error), remedy)]
    else:
        return examined
    return Examined(**{**vars(examined), "findings": (*examined.findings, *told)})


def _ref(video: str | VideoRef) -> VideoRef:
    return video if isinstance(video, VideoRef) else VideoRef(video)


def _where(told: Reading, record: Record) -> str:
    return told.origin.get(record.id) or _files(told)


def _files(told: Reading) -> str:
    return ", ".join(told.files)
