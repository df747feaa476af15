"""The processes of one run. Alone there is nothing to set up; under torchrun Lightning Fabric connects them."""

import atexit
import logging
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch

Decision = TypeVar("Decision")
PATIENCE = timedelta(days=7)  # ranks meet at the ends only: the fastest may wait for hours


class Ranks:
    """This process among all. `accelerator`: auto | cpu | cuda, only asked for where there are several."""

    def __init__(self, accelerator: str) -> None:
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.fabric: Any = self._connect(accelerator) if self.world > 1 else None

    def share(self, decide: Callable[[], Decision]) -> Decision:
        """Rank 0 decides, all get the decision, or its exception."""
        if self.fabric is None:
            return decide()
        decision, failure = None, None
        if self.rank == 0:
            try:
                decision = decide()
            except Exception as error:
                failure = error
        decision, failure = self.fabric.broadcast((decision, failure))
        if failure is not None:
            raise failure
        return decision

    def wait(self) -> None:
        """Until all are here."""
        if self.fabric is not None:
            self.fabric.barrier()

    def _connect(self, accelerator: str) -> Any:
        from lightning.fabric import Fabric  # slow to import, and only wanted here
        from lightning.fabric.strategies import DDPStrategy

        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # else every process greets
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=self.world // local,
            strategy=DDPStrategy(timeout=PATIENCE),
        )
        if not torch.distributed.is_initialized():
            atexit.register(torch.distributed.destroy_process_group)
        fabric.launch()
        return fabric
