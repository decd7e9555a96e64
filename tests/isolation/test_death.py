"""When the parent is killed: the child goes with it, whatever it is stuck in, and what it left is removed by the next."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from onnx_shapprune.isolation.private import LOCK, private_folder

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux kills with the parent")

# Holds the interpreter's lock in native code: no signal handler and no thread of Python ever runs again.
STUCK = """
import ctypes, os, sys
from onnx_shapprune.isolation.limits import die_with_the_parent
die_with_the_parent({parent})
print("stuck", os.getpid(), file=open({told!r}, "w"), flush=True)
ctypes.PyDLL(None).sleep(600)
"""
PARENT = """
import os, sys, tempfile
from onnx_shapprune.isolation.limits import ProcessLimits
from onnx_shapprune.isolation.private import private_folder
from onnx_shapprune.isolation.supervisor import supervise
tempfile.tempdir = {place!r}
code = {stuck!r}.format(parent=os.getpid(), told={told!r})
with private_folder() as private:
    supervise([sys.executable, "-c", code], b"", ProcessLimits(), environment=dict(os.environ))
"""


def ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody reaps."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(condition, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_a_child_stuck_in_native_code_goes_with_its_parent(tmp_path, monkeypatch):
    told, place = tmp_path / "told", tmp_path / "temporary"
    place.mkdir()
    code = PARENT.format(place=str(place), stuck=STUCK, told=str(told))
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
        pid = int(told.read_text().split()[1])
        time.sleep(0.3)
        assert not ended(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert wait_for(lambda: ended(pid), 5)
    assert len(list(place.iterdir())) == 1, "nobody could remove it"
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with private_folder() as mine:
        assert [str(p) for p in place.iterdir()] == [mine]
    assert not list(place.iterdir())


def test_a_child_whose_parent_is_dead_already_ends_at_once():
    code = (
        "from onnx_shapprune.isolation.limits import die_with_the_parent; die_with_the_parent(1 << 30); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout) == (2, b"")


def test_only_folders_that_nobody_holds_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = tmp_path / "shapprune-demo-abcdefgh"
    young = tmp_path / "shapprune-abcdefgh"  # its lock is not there yet
    left = tmp_path / "shapprune-ijklmnop"
    for folder in (other, young, left):
        folder.mkdir()
    (left / LOCK).touch()
    (tmp_path / "shapprune-linklink").symlink_to(left)
    with private_folder() as first, private_folder() as second:
        assert Path(first).is_dir()
        assert Path(second).is_dir()
        assert not left.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "shapprune-abcdefgh",
        "shapprune-demo-abcdefgh",
        "shapprune-linklink",
    ]
