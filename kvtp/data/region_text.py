"""Pictures and phrases about regions of them, in Visual Genome's files: for `module=qformer`."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from kvtp.command import CommandError
from kvtp.data.base import AbstractData
from kvtp.data.scenes import FIRST_HELD_OUT
from kvtp.errors import check_whole

log = logging.getLogger(__name__)
DESCRIPTIONS = "region_descriptions.json"
FOLDERS = ("VG_100K", "VG_100K_2")
WHENCE = "Visual Genome's region descriptions and its two archives of images, unpacked side by side"


class Regions(NamedTuple):
    """Pairs: phrase b is about box b of picture b: left, top, right, bottom, as shares of its width and height.

    `true[b, n]`: phrase n is known to be true of picture b. `seed`: for what is drawn while learning from the pairs.
    """

    pixels: tuple[UInt8[Tensor, "_ _ 3"], ...]
    phrases: tuple[str, ...]
    boxes: Float[Tensor, "B 4"]
    true: Bool[Tensor, "B B"]
    seed: int


class Pair(NamedTuple):
    pixels: UInt8[Tensor, "_ _ 3"]
    phrase: str
    box: tuple[float, float, float, float]


class RegionText(AbstractData):
    """`root`/region_descriptions.json, a list of {id, regions: [{x, y, width, height, phrase, …}]} in pixels, and
    `root`/VG_100K/<id>.jpg or `root`/VG_100K_2/<id>.jpg.

    Phrases of fewer than `min_words` words are left out (Vista-LLM, appendix A.1: three). A batch = `size` pictures,
    each with a random phrase; every picture comes once in each pass over the data, each pass in another order. (The
    released code goes over all phrases, and several of a batch may be about one picture.) `crop`: the phrase's region
    in place of the whole picture, which the released code takes, and probably the paper; nothing is left to point at.
    `held_out_images`, drawn by `seed`, are for validation alone. A picture that cannot be read is told once, and
    another one takes its place. `workers` threads read.
    """

    gives = Regions

    def __init__(
        self, root: str, min_words: int, size: int, crop: bool, held_out_images: int, workers: int, seed: int
    ) -> None:
        super().__init__(seed)
        check_whole("data.min_words", min_words, 1)
        check_whole("data.size", size, 2)
        check_whole("data.held_out_images", held_out_images, 1)
        check_whole("data.workers", workers, 1)
        self.size, self.crop, self.workers = size, crop, workers
        folder = Path(root)
        for path in (folder / DESCRIPTIONS, *(folder / name for name in FOLDERS)):
            if not path.exists():
                raise CommandError(f"there is no {path}; data.root must hold {WHENCE}")
        known = (folder / DESCRIPTIONS).read_bytes()
        self._digest = hashlib.sha256(known)
        self._paths = {
            int(path.stem): path for name in FOLDERS for path in (folder / name).glob("*.jpg") if path.stem.isdigit()
        }
        self._read(json.loads(known), min_words)
        count = len(self._ids)
        if count < held_out_images + size:
            raise CommandError(
                f"data.root={root} has {count} pictures with phrases of {min_words} words or more, and there must be "
                f"data.held_out_images + data.size ({held_out_images + size}); hold fewer out, or unpack more images"
            )
        order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
        self.val, self.train = np.sort(order[:held_out_images]), np.sort(order[held_out_images:])
        self._unreadable: set[int] = set()
        self._pass: tuple[int, np.ndarray] | None = None

    def _read(self, pictures: Iterable[dict], min_words: int) -> None:
        """Millions of regions: phrases in one list, boxes in one array, and where each picture's begin."""
        self._ids: list[int] = []
        self._phrases: list[str] = []
        boxes: list[tuple[int, int, int, int]] = []
        starts, missing = [0], 0
        for picture in pictures:
            told = [
                region
                for region in picture["regions"]
                if len(region["phrase"].split()) >= min_words and region["width"] > 0 and region["height"] > 0
            ]
            missing += bool(told) and picture["id"] not in self._paths
            if told and picture["id"] in self._paths:
                self._ids.append(picture["id"])
                self._phrases += [region["phrase"].strip() for region in told]
                boxes += [(region["x"], region["y"], region["width"], region["height"]) for region in told]
                starts.append(len(self._phrases))
        self._starts = np.array(starts)
        self._boxes = np.array(boxes, dtype=np.int32).reshape(-1, 4)
        self._digest.update(np.array(self._ids).tobytes())
        if missing:
            log.warning("%d pictures of %s are in neither %s: left out", missing, DESCRIPTIONS, " nor ".join(FOLDERS))

    @property
    def identity(self) -> str:
        return self._digest.hexdigest()[:16]

    def make(self, number: int) -> Regions:
        rng = self.random(number)
        chosen = self._turn(number)
        others = rng.permutation(np.setdiff1d(self.train, chosen))  # in place of what cannot be read
        found = self._pairs(np.concatenate([chosen, others]), rng)
        if len(found) < self.size:
            first = self._paths[min(self._unreadable)]
            raise CommandError(
                f"{len(self._unreadable)} pictures cannot be read, {first} first; unpack them again, or delete them"
            )
        return self._regions(found, int(rng.integers(2**31)))

    @property
    def held_out(self) -> int:
        return -(-len(self.val) // self.size)

    def make_held_out(self, number: int) -> Regions:
        """The next `size` pictures, without those that cannot be read."""
        rng = self.random(FIRST_HELD_OUT + number)
        found = self._pairs(self.val[number * self.size :][: self.size], rng)
        return self._regions(found, int(rng.integers(2**31)))

    def _turn(self, number: int) -> Int64[np.ndarray, " size"]:
        """The pictures whose turn it is. A pass leaves out what fills no batch, each pass something else."""
        batches = len(self.train) // self.size
        nth, place = divmod(number, batches)
        if self._pass is None or self._pass[0] != nth:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, nth, batches])))
            self._pass = nth, rng.permutation(self.train)
        return self._pass[1][place * self.size :][: self.size]

    def _pairs(self, places: Int64[np.ndarray, " candidates"], rng: np.random.Generator) -> list[Pair]:
        """The first `size` that can be read, each with a random one of its phrases."""
        regions = self._starts[places] + (rng.random(len(places)) * np.diff(self._starts)[places]).astype(np.int64)
        found: list[Pair] = []
        with ThreadPoolExecutor(self.workers) as readers:
            first = 0
            while len(found) < self.size and first < len(places):
                turn = places[first : first + self.size - len(found)].tolist()
                about = regions[first : first + len(turn)].tolist()
                first += len(turn)
                for place, pair in zip(turn, readers.map(self._pair, turn, about), strict=True):
                    if isinstance(pair, Pair):
                        found.append(pair)
                    elif self._ids[place] not in self._unreadable:
                        self._unreadable.add(self._ids[place])
                        log.warning("%s is left out of the training: %s", self._paths[self._ids[place]], pair)
        return found

    def _pair(self, place: int, region: int) -> Pair | Exception:
        try:
            with Image.open(self._paths[self._ids[place]]) as file:
                pixels = np.array(file.convert("RGB"))
        except (OSError, Image.DecompressionBombError) as error:  # no pictures, half of one, or far too large
            return error
        height, width = pixels.shape[:2]
        left, top, across, down = self._boxes[region].tolist()  # some reach beyond the picture, or lie outside
        left, right = _within(left, left + across, width)
        top, bottom = _within(top, top + down, height)
        if self.crop:
            pixels = np.ascontiguousarray(pixels[top:bottom, left:right])
            left, top, right, bottom = 0, 0, width, height
        box = (left / width, top / height, right / width, bottom / height)
        return Pair(torch.from_numpy(pixels), self._phrases[region], box)

    def _regions(self, pairs: Sequence[Pair], seed: int) -> Regions:
        alike = np.array([" ".join(pair.phrase.lower().split()) for pair in pairs])
        return Regions(
            pixels=tuple(pair.pixels for pair in pairs),
            phrases=tuple(pair.phrase for pair in pairs),
            boxes=torch.tensor([pair.box for pair in pairs]).reshape(-1, 4),
            true=torch.from_numpy(alike[:, None] == alike),
            seed=seed,
        )


def _within(first: int, last: int, length: int) -> tuple[int, int]:
    """What of it lies in [0, length], a pixel at least."""
    first = min(max(first, 0), length - 1)
    return first, min(max(last, first + 1), length)
