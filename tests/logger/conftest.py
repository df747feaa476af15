import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from logger.wandb_server import Server
from wandb.sdk.lib.wbauth import unauthenticate_session

from kvtp.logger.wandb import Wandb


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """No key, no network that answers, a home that cannot be written."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(stat.S_IREAD | stat.S_IEXEC)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):  # set and taken back, so that what the logger sets goes, too
        monkeypatch.setenv(f"WANDB_{name}_DIR", "x")
        monkeypatch.delenv(f"WANDB_{name}_DIR")
    monkeypatch.setattr(Wandb, "unreachable", False)
    yield tmp_path / "run"
    unauthenticate_session()  # a key that was known once is known to the end of the process


@pytest.fixture
def server(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A project that is known and reached by all that follows."""
    wandb.teardown()  # it reads the environment once
    with Server("me/toys").serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_DIR", str(bare.parent / "client"))  # the client makes folders of what it lists
        yield server
        wandb.teardown()
