"""Weights & Biases."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from glob import escape
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4
from zipfile import ZIP_DEFLATED, ZipFile

import wandb
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from wandb.errors import CommError, UsageError

from kvtp.errors import check_choice, check_range
from kvtp.logger.base import AbstractLogger, Sample

log = logging.getLogger(__name__)
MODES = ("auto", "online", "offline")
ARCHIVE = "run.zip"
WHOLE = re.compile(  # files in it, named from a run's folder, that make the run whole elsewhere (`kvtp.logger.pull`)
    r"predictions\.jsonl|summary\.json|samples/\w+\.(json|png)"
    r"|\.hydra/(config\.yaml|overrides\.yaml|questions|weights|parser|videos|accounting|sessions\.\d+\.jsonl)"
)


def harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Whatever goes wrong here, the run goes on without: its own files hold all."""

    @wraps(method)
    def tried(self: "Wandb", *args: Any, **kwargs: Any) -> None:
        if self.broken:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.broken = True
            log.warning(
                "W&B fails and is left out from here on (%s: %s); the files in %s hold all, `kvtp` goes on",
                *(type(error).__name__, error, self.folder),
            )

    return tried


class Wandb(AbstractLogger):
    """`mode`: `online`, `offline` (send later with `wandb sync`), or `auto`: as WANDB_MODE says, else online where an
    API key is known. Where the server does not answer within `timeout` [s] it is offline. A run that is resumed is one
    W&B run.

    It also keeps the files of an evaluation that is over (`WHOLE`): in one archive, a file of the W&B run.

    All that W&B keeps lies in `folder`/wandb, unless its own environment variables say otherwise.
    """

    unreachable: ClassVar[bool] = False

    def __init__(
        self,
        project: str,
        entity: str | None,
        mode: str,
        timeout: float,
        folder: Path,
        name: str,
        group: str,
        tags: Sequence[str],
        config: Mapping[str, Any],
    ) -> None:
        super().__init__(name)
        check_choice("logger.mode", mode, MODES)
        check_range("logger.timeout", timeout, 0)
        self.project, self.entity, self.mode, self.timeout = project, entity, mode, timeout
        self.folder, self.group, self.config = Path(folder), group, config
        self.tags = [tag[:64] for tag in tags]  # longer ones are refused
        self.broken = False
        self._run: Any = None

    @property
    def run(self) -> Any:
        """Begun at the first use."""
        if self._run is None:
            own = self.folder / "wandb"
            own.mkdir(parents=True, exist_ok=True)
            for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):  # else it writes to the home directory
                os.environ.setdefault(f"WANDB_{kind}_DIR", str(own / kind.lower()))
            try:
                self._run = self._begin("offline" if Wandb.unreachable else self._mode())
            except (CommError, UsageError) as error:
                log.warning("W&B cannot be reached (%s): offline, to be sent later with `wandb sync`", error)
                Wandb.unreachable = True  # the next run need not try
                (own / "id").unlink()  # it is taken by what failed
                self._run = self._begin("offline")
            self._run.define_metric("running/*", step_metric="running/answered")
        return self._run

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        return os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")

    def _begin(self, mode: Any) -> Any:
        kept = self.folder / "wandb" / "id"  # a run that is resumed goes on; one in another folder is another
        if not kept.exists():
            kept.write_text(uuid4().hex[:12])
        return wandb.init(
            project=self.project,
            entity=self.entity,
            dir=str(self.folder),
            id=kept.read_text(),
            name=self.title,
            group=self.group,
            tags=self.tags,
            config=dict(self.config),
            mode=mode,
            resume="allow",
            reinit="create_new",  # several runs in one process
            settings=wandb.Settings(
                init_timeout=self.timeout,
                finish_timeout=self.timeout,
                finish_timeout_raises=True,
                silent=True,
                console="off",
                x_disable_stats=True,
            ),
        )

    @rank_zero_only
    @harmless
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Of an evaluation without `step`: it goes by what is answered, which a resumed run may tell again."""
        self.run.log(dict(metrics), step=step)

    @rank_zero_only
    @harmless
    def conclude(self, summary: Mapping[str, Any], samples: Sequence[tuple[Sample, Path]]) -> None:
        if samples:
            columns: list[str | int] = [
                "question_id",
                "question",
                "options",
                "answer",
                "reply",
                "outcome",
                "tokens",
                "kept",
            ]
            table = wandb.Table(columns=columns)
            for one, picture in samples:
                options = "\n".join(one.options or ())
                told = (one.question_id, one.question, options, one.answer, one.reply, one.outcome, one.tokens)
                table.add_data(*told, wandb.Image(str(picture)))
            self.run.log({"samples": table})
        self.run.summary.update(dict(summary))
        self._keep()

    def _keep(self) -> None:
        """As it is now: it is sent later, when the folder may have been moved or written on. Packed, as it lies below
        the run's own folder, where whoever looks for summary.json shall find one."""
        kept = Path(self.run.dir) / ARCHIVE
        with ZipFile(kept, "w", ZIP_DEFLATED) as archive:
            for path in sorted(self.folder.glob("*.json*")) + sorted(self.folder.glob("*/*")):
                name = path.relative_to(self.folder).as_posix()
                if WHOLE.fullmatch(name) and path.is_file():
                    archive.write(path, name)
        self.run.save(escape(str(kept)), base_path=escape(str(kept.parent)), policy="now")

    @rank_zero_only
    @harmless
    def picture(self, name: str, path: Path) -> None:
        self.run.log({name: wandb.Image(str(path))}, commit=False)  # with the metrics of the same validation

    @rank_zero_only
    @harmless
    def close(self) -> None:
        if self._run is None:
            return
        kept = Path(self._run.dir).parent
        try:
            self._run.finish()
        except TimeoutError:
            log.warning(
                "W&B has not taken all of %s within %g s; `wandb sync --no-skip-online %s` sends the rest",
                *(self.folder, self.timeout, kept),
            )
