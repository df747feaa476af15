"""What a stopped training goes on from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kvtp.errors import check_whole


class Checkpoints(Callback):
    """`folder`/last.ckpt every `every` steps, at validations, and the one before it as before.ckpt.

    Lightning's own callback saves before the validation of the same step, which a resumed training then leaves out; and
    it writes to the temporary folder first, from where a move to another file system may be torn.
    """

    def __init__(self, folder: str, every: int) -> None:
        check_whole("callbacks.checkpoints.every", every, 1)
        self.folder, self.every = Path(folder), every
        self.saved = 0

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
        if trainer.state.fn == "fit":
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step == self.saved:  # batches are accumulated
            return
        self.saved = trainer.global_step
        last, new = self.folder / "last.ckpt", self.folder / "new.ckpt"
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            if last.exists():
                last.replace(self.folder / "before.ckpt")
            new.replace(last)
