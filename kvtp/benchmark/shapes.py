"""SparseKV-Shapes: a small world of real videos in which few clips matter, with the truth about which."""

import hashlib
import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from kvtp.benchmark._letters import letters
from kvtp.benchmark._paint import write_film
from kvtp.benchmark._world import SPLITS, Film, Settings, film, questions
from kvtp.benchmark.folder import Folder
from kvtp.errors import check_choice, check_whole
from kvtp.frames._worker import end_with_parent
from kvtp.types import Question

log = logging.getLogger(__name__)


class Shapes(Folder):
    """Multiple-choice questions (colour, shape, place, what comes after, what comes last) about videos of `clips`
    seconds; in each of `events` a coloured shape is seen for `stay` seconds; the rest is moving background with `grey`
    objects. `options` false: the same questions without options, to be answered in words.

    Made once under `root` and kept; a run that was stopped is gone on with. `seed` and the settings decide every
    picture and every word. `videos` of the split, five questions each; no video is in two splits. `workers` processes
    paint. Relevance labels per clip: 5 where the answer is seen, 3 where the question's other
    objects are, else 0.
    """

    def __init__(
        self,
        root: str,
        split: str,
        limit: int | None,
        seed: int,
        clips: int,
        events: int,
        stay: int,
        grey: int,
        fps: int,
        side: int,
        videos: int,
        options: bool,
        workers: int,
    ) -> None:
        check_choice("benchmark.split", split, SPLITS)
        check_whole("benchmark.workers", workers, 1)
        check_whole("benchmark.videos", videos, 1)
        check_whole("benchmark.seed", seed, 0)
        settings = Settings(clips=clips, events=events, stay=stay, grey=grey, fps=fps, side=side)
        world = Path(root) / _name(settings, seed)
        self.videos_identity = world.name
        asked = make(world, settings, seed, split, videos, workers)
        super().__init__(str(world), asked, split, split, limit)
        self.clips, self.options, self.settings = clips, options, settings
        self.films = tuple(film(settings, seed, split, number) for number in range(videos))
        self._by_name = {film.name: film for film in self.films}
        self._made_by = partial(
            Shapes, root=root, limit=None, seed=seed, **asdict(settings), options=options, workers=workers
        )  # of another split

    def __getitem__(self, index: int) -> Question:
        lettered = super().__getitem__(index)
        return lettered if self.options else in_words(lettered)

    def other(self, split: str, videos: int) -> "Shapes":
        """Another split of the same world."""
        return self._made_by(split=split, videos=videos)

    def film(self, question: Question) -> Film:
        """The one that is asked about."""
        return self._by_name[question.cluster]

    def path(self, film: Film) -> str:
        """The file of one of the `films`."""
        return str(self.videos / f"{film.name}.mp4")


def in_words(question: Question) -> Question:
    """The same question without options."""
    options = question.options or ()
    answer = dict(zip(letters(options), options, strict=True))[str(question.answer)]
    return replace(question, options=None, answer=answer)


def make(world: Path, settings: Settings, seed: int, split: str, videos: int, workers: int) -> str:
    """Write what is missing of a split's videos and its question file; the name of that file.

    Processes that want the same split wait for the one that makes it.
    """
    folder = world / split
    folder.mkdir(parents=True, exist_ok=True)
    asked = f"{split}_{videos}.jsonl"
    with FileLock(world / f".{split}.lock"):
        missing = [number for number in range(videos) if not _path(folder, settings, seed, split, number).exists()]
        for torn in folder.glob("*.new"):
            torn.unlink()
        if missing:
            _write(folder, settings, seed, split, missing, workers)
        rows = [row for number in range(videos) for row in questions(settings, seed, split, number)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if not (world / asked).exists() or (world / asked).read_text() != text:
            new = world / f"{asked}.new"
            new.write_text(text)
            new.replace(world / asked)
    return asked


def _write(folder: Path, settings: Settings, seed: int, split: str, missing: list[int], workers: int) -> None:
    log.info("painting %d films of the %s split, once; kept in %s", len(missing), split, folder)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        jobs = [pool.submit(_write_one, folder, settings, seed, split, number) for number in missing]
        try:
            for job in tqdm(jobs, desc=f"painting {split} videos", unit="video", disable=None):
                job.result()
        finally:  # after an error or an interrupt the rest is not painted first
            pool.shutdown(cancel_futures=True)


def _write_one(folder: Path, settings: Settings, seed: int, split: str, number: int) -> None:
    path = _path(folder, settings, seed, split, number)
    new = path.with_suffix(f".{os.getpid()}.new")  # whole, or not there: a kill leaves no half film
    write_film(new, film(settings, seed, split, number), settings)
    new.replace(path)


def _path(folder: Path, settings: Settings, seed: int, split: str, number: int) -> Path:
    return folder / f"{film(settings, seed, split, number).name}.mp4"


def _name(settings: Settings, seed: int) -> str:
    told = "_".join(f"{key}{value}" for key, value in asdict(settings).items())
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("_world.py", "_paint.py"))
    return f"{told}_seed{seed}_{hashlib.sha256(code).hexdigest()[:8]}"  # other code may show something else
