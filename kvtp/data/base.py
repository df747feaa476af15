"""Lightning data: a batch is a function of its number, so that a resumed training sees what it would have seen."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    """Batches `first`, `first + step`, … without end."""

    def __init__(self, batch: Callable[[int], Any], first: int, step: int) -> None:
        self.batch, self.first, self.step = batch, first, step

    def __iter__(self) -> Iterator[Any]:
        number = self.first
        while True:
            yield self.batch(number)
            number += self.step


class AbstractData(LightningDataModule):
    """No epochs: `trainer.max_steps` ends a training. Processes take turns at one stream of batches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    @abstractmethod
    def batch(self, number: int) -> Any:
        """Training batch `number`, a function of it and the seed alone."""

    @abstractmethod
    def held_out(self) -> Sequence[Any]:
        """The validation batches, always the same."""

    def random(self, number: int) -> np.random.Generator:
        """For batch `number`."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, number])))

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        done = trainer.global_step * trainer.accumulate_grad_batches
        first = done * trainer.world_size + trainer.global_rank
        return DataLoader(Stream(self.batch, first, trainer.world_size), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        mine = self.held_out()[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine, batch_size=None, shuffle=False)
