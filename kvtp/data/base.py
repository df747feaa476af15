"""Lightning data: a batch is a function of its number, so that a resumed training sees what it would have seen."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, IterableDataset

from kvtp.benchmark.shapes import Shapes
from kvtp.errors import check_choice, check_whole


class Stream(IterableDataset):
    """Batches `first`, `first + step`, … without end; the next one is made while the model works on one."""

    def __init__(self, batch: Callable[[int], Any], first: int, step: int) -> None:
        self.batch, self.first, self.step = batch, first, step

    def __iter__(self) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as maker:
            number = self.first
            coming = maker.submit(self.batch, number)
            while True:
                batch = coming.result()
                number += self.step
                coming = maker.submit(self.batch, number)
                yield batch


class HeldOut(Dataset):
    """Validation batches, made when they are asked for."""

    def __init__(self, batch: Callable[[int], Any], numbers: range) -> None:
        self.batch, self.numbers = batch, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.batch(self.numbers[index])


class AbstractData(LightningDataModule):
    """No epochs: `trainer.max_steps` ends a training. Processes take turns at one stream of batches.

    `gives`: the type of its batches.
    """

    gives: ClassVar[type]
    for_tests = False  # what is held out is what methods are compared on: nothing may be chosen by it
    allow_zero_length_dataloader_with_multiple_devices = True  # more processes than validation batches

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self._one_at_a_time = Lock()  # the thread of the stream, and validation

    @property
    def identity(self) -> str:
        """Changes when the data do though their settings stay: a training must not go on with other data."""
        return ""

    @abstractmethod
    def make(self, number: int) -> Any:
        """Training batch `number`, a function of it and the seed alone."""

    @abstractmethod
    def make_held_out(self, number: int) -> Any:
        """Validation batch `number`, always the same."""

    @property
    @abstractmethod
    def held_out(self) -> int:
        """How many validation batches there are."""

    def random(self, number: int) -> np.random.Generator:
        """For batch `number`."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))

    def batch(self, number: int) -> Any:
        with self._one_at_a_time:
            return self.make(number)

    def held_out_batch(self, number: int) -> Any:
        with self._one_at_a_time:
            return self.make_held_out(number)

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        done = trainer.global_step * trainer.accumulate_grad_batches * trainer.world_size
        return DataLoader(Stream(self.batch, done + trainer.global_rank, trainer.world_size), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        mine = range(self.trainer.global_rank, self.held_out, self.trainer.world_size)
        return DataLoader(HeldOut(self.held_out_batch, mine), batch_size=None, shuffle=False)


class ShapesData(AbstractData):
    """Learns from films of the `train` split; `held_out_videos` of the `val` split are for validation, or of the `test`
    split, for scripts/train.py with validate=true alone."""

    def __init__(self, benchmark: Shapes, held_out_videos: int, seed: int, held_out_split: str = "val") -> None:
        super().__init__(seed)
        check_whole("data.held_out_videos", held_out_videos, 1)
        if benchmark.split != "train":
            raise ValueError(f"data.benchmark.split must be train, got {benchmark.split!r}; the others are for tests")
        check_choice("data.held_out_split", held_out_split, ("val", "test"))
        self.for_tests = held_out_split == "test"
        self.train, self.val = benchmark, benchmark.other(held_out_split, held_out_videos)
