"""The processes of one run. Alone there is nothing to set up; those of torchrun or Slurm Lightning Fabric connects."""

import atexit
import logging
import os
import re
from collections.abc import Callable, MutableMapping
from datetime import timedelta
from typing import Any, TypeVar

from kvtp.command import CommandError

Decision = TypeVar("Decision")
PATIENCE = timedelta(days=7)  # ranks meet at the ends only: the fastest may wait for hours
PORTS = range(20_000, 32_000)  # below those that Linux gives away by itself
LAUNCHERS = (  # what srun tells the tasks of a step, and submitit those that it starts by itself
    {
        "RANK": "SLURM_PROCID",
        "WORLD_SIZE": "SLURM_STEP_NUM_TASKS",
        "LOCAL_RANK": "SLURM_LOCALID",
        "GROUP_RANK": "SLURM_NODEID",
        "nodes": "SLURM_STEP_NUM_NODES",
        "names": "SLURM_STEP_NODELIST",
        "job": "SLURM_JOB_ID",
        "step": "SLURM_STEP_ID",
    },
    {
        "RANK": "SUBMITIT_LOCAL_GLOBALID",
        "WORLD_SIZE": "SUBMITIT_LOCAL_NTASKS",
        "LOCAL_RANK": "SUBMITIT_LOCAL_LOCALID",
        "GROUP_RANK": "SUBMITIT_LOCAL_NODEID",
        "nodes": "SUBMITIT_LOCAL_JOB_NUM_NODES",
        "job": "SUBMITIT_LOCAL_JOB_ID",
    },
)


def adopt(environment: MutableMapping[str, str] = os.environ) -> None:
    """Where another launcher has started several processes: tell what torchrun would have told.

    All nodes have equally many.
    """
    for told in LAUNCHERS:
        known = {name: environment[key] for name, key in told.items() if key in environment}
        if "RANK" in environment or int(known.get("WORLD_SIZE", 1)) == 1 or "RANK" not in known:
            continue
        place = 8 * int(known["job"]) + int(known.get("step", 0))  # jobs that share a node need ports of their own
        environment["MASTER_ADDR"] = _first(known.get("names", "127.0.0.1"))
        environment["MASTER_PORT"] = str(PORTS[place % len(PORTS)])
        environment["LOCAL_WORLD_SIZE"] = str(int(known["WORLD_SIZE"]) // int(known.get("nodes", 1)))
        environment.update({name: value for name, value in known.items() if name.isupper()})


def _first(nodes: str) -> str:
    """Of a list as Slurm writes it: `a[03-05,9]-x[0-1],b7` begins with a03-x0."""
    found = re.match(r"([^,[]|\[\d+[^]]*\])+", nodes)
    if found is None:
        raise ValueError(f"SLURM_STEP_NODELIST must be a list of nodes, got {nodes!r}")
    return re.sub(r"\[(\d+)[^]]*\]", r"\1", found[0])


def alone(script: str) -> None:
    """CommandError in one of several processes, which would do the same at once."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CommandError(f"{script} is one process's work, here are {os.environ['WORLD_SIZE']}; start it once")


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
        import torch  # slow to import, and only wanted here
        from lightning.fabric import Fabric
        from lightning.fabric.plugins.environments import TorchElasticEnvironment
        from lightning.fabric.strategies import DDPStrategy

        for name in ("lightning.fabric", "lightning.pytorch"):  # whichever was imported last greets
            logging.getLogger(name).setLevel(logging.WARNING)
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=self.world // local,
            strategy=DDPStrategy(timeout=PATIENCE),
            plugins=[TorchElasticEnvironment()],  # the variables of torchrun, whoever has set them
        )
        if not torch.distributed.is_initialized():
            atexit.register(torch.distributed.destroy_process_group)
        fabric.launch()
        return fabric
