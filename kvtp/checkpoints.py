"""What a stopped training goes on from."""

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kvtp.command import CommandError
from kvtp.errors import check_choice, check_whole


class Checkpoints(Callback):
    """`folder`/last.ckpt every `every` steps, at validations and at the end, and the one before it as before.ckpt.

    `best`: a validation metric; the weights that had its best value, the largest with `mode` max, the smallest with
    min, are what a training ends with, from best.ckpt; None = the last ones.

    Lightning's own callback saves before the validation of the same step, which a resumed training then leaves out; and
    it writes to the temporary folder first, from where a move to another file system may be torn.
    """

    def __init__(self, folder: str, every: int, best: str | None, mode: str) -> None:
        check_whole("callbacks.checkpoints.every", every, 1)
        self.folder, self.every = Path(folder), every
        check_choice("callbacks.checkpoints.mode", mode, ("max", "min"))
        self.best, self.sign, self.highest = best, 1 if mode == "max" else -1, float("-inf")
        self.saved = 0

    def state_dict(self) -> dict[str, Any]:
        return {"highest": self.highest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.highest = state["highest"]

    def last(self) -> Path | None:
        """What to go on from, if there is anything."""
        found = [path for name in ("last.ckpt", "before.ckpt") if (path := self.folder / name).exists()]
        return found[0] if found else None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        validates = (batch_idx + 1) % int(trainer.val_check_batch) == 0
        if trainer.global_step % self.every == 0 and not validates:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.best is not None and self.best not in trainer.callback_metrics:
            told = ", ".join(sorted(name for name in trainer.callback_metrics if name.startswith("val/")))
            raise CommandError(f"callbacks.checkpoints.best={self.best} is no validation metric; there are: {told}")
        if trainer.state.fn == "fit":
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._save(trainer)

    def chosen(self) -> Path:
        """The checkpoint whose weights a training ends with."""
        path = self.folder / ("last.ckpt" if self.best is None else "best.ckpt")
        if not path.exists():
            raise CommandError(f"there is no {path}: {self.best} was never a number; look at metrics.jsonl beside it")
        return path

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step == self.saved:  # batches are accumulated
            return
        self.saved = trainer.global_step
        last, new = self.folder / "last.ckpt", self.folder / "new.ckpt"
        value = self.sign * float(trainer.callback_metrics.get(self.best, float("nan")))
        better = value > self.highest
        self.highest = value if better else self.highest
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            if better:
                shutil.copy(new, self.folder / "best.new")
                (self.folder / "best.new").replace(self.folder / "best.ckpt")
            if last.exists():
                last.replace(self.folder / "before.ckpt")
            new.replace(last)
