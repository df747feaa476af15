"""Decoding processes that hang, die or are not wanted any more."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import clips
import picking_rules
import pytest

from kvtp.errors import LoadError
from kvtp.frames._isolation import Isolation
from kvtp.frames._worker import Request


@pytest.fixture
def clip(tmp_path):
    clips.make_clip(tmp_path / "clip.mp4")
    return str(tmp_path / "clip.mp4")


@pytest.fixture
def isolation():
    return Isolation(workers=1, timeout=60)


def ask(path, rule=picking_rules.first):
    return Request(path, None, None, rule, "pyav")


def works(isolation, path):
    return clips.read_index(isolation.finish(ask(path))[1][0]) == 0


@pytest.mark.parametrize(("rule", "code"), [(picking_rules.leave, 7), (picking_rules.crash, -9)])
def test_process_that_dies_costs_its_file_only(rule, code, isolation, clip):
    with pytest.raises(LoadError, match=rf"clip\.mp4: its decoding process died \(exit code {code}\)"):
        isolation.finish(ask(clip, rule))
    assert works(isolation, clip)


def test_file_that_hangs_costs_its_time_only(clip, tmp_path):
    """Opening a pipe that nobody writes to never returns."""
    isolation = Isolation(workers=1, timeout=1)
    os.mkfifo(tmp_path / "pipe.mp4")
    before = time.monotonic()
    with pytest.raises(LoadError, match=r"pipe\.mp4: not decoded within 1 s; frames.timeout allows more"):
        isolation.finish(ask(str(tmp_path / "pipe.mp4")))
    assert time.monotonic() - before < 20
    assert works(isolation, clip)


def test_idle_process_killed_from_outside_is_replaced(isolation, clip):
    others = {child.pid for child in multiprocessing.active_children()}
    assert works(isolation, clip)
    (idle,) = [child for child in multiprocessing.active_children() if child.pid not in others]
    os.kill(idle.pid, signal.SIGKILL)
    idle.join(10)
    assert works(isolation, clip)


def test_processes_do_not_import_torch(isolation, clip):
    with pytest.raises(LoadError) as told:
        isolation.finish(ask(clip, picking_rules.tell_modules))
    modules = str(told.value).split()
    assert "av" in modules
    assert "torch" not in modules


SCRIPT = """
import multiprocessing, os, sys, time
from kvtp.frames.uniform import Uniform

if __name__ == "__main__":
    sampler = Uniform(count=3, reader="pyav", timeout=600, workers=2)
    sampler(sys.argv[1])
    for path in sys.argv[1:]:
        sampler.prefetch(path)
    time.sleep(0.3)
    print(*(child.pid for child in multiprocessing.active_children()))
"""


def run(script, folder, *arguments):
    (folder / "script.py").write_text(script)
    (folder / "temporary").mkdir()
    return subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "temporary"), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_interpreter_ends_with_a_hanging_decoder_and_leaves_nothing(clip, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    done = run(SCRIPT, tmp_path, clip, "pipe.mp4")
    assert (done.returncode, done.stderr) == (0, "")
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_script_without_guard_is_told_so(clip, tmp_path):
    done = run(SCRIPT.replace('if __name__ == "__main__":', "if True:"), tmp_path, clip)
    assert done.returncode == 1
    assert 'does the script guard its work with `if __name__ == "__main__":`?' in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
