"""Threads: as many as there are cores for this process, by affinity and by the quota of a container."""

import os

import pytest

from onnx_shapprune.runtime import cores
from onnx_shapprune.runtime.session import resolve_device


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretend to be on a machine with so many cores, of which this process may use some."""

    def pretend(total: int, allowed: int, quota: float | None = None) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: total)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
        monkeypatch.setattr(cores, "cpu_quota", lambda: quota)

    return pretend


@pytest.mark.parametrize(
    ("total", "allowed", "quota", "asked", "used"),
    [
        (8, 8, None, 0, 0),
        (8, 8, None, 3, 3),
        (8, 8, None, 99, 8),
        (8, 2, None, 0, 2),
        (8, 2, None, 99, 2),
        (64, 64, 1.5, 0, 2),
        (64, 64, 0.2, 99, 1),
        (2, 2, 16.0, 99, 2),
    ],
)
def test_never_more_threads_than_cores(machine, total, allowed, quota, asked, used):
    machine(total, allowed, quota)
    assert cores.usable_threads(asked) == used
    assert resolve_device("cpu", threads=asked).threads == used


@pytest.mark.parametrize(
    ("name", "text", "quota"),
    [
        ("cpu.max", "150000 100000\n", 1.5),
        ("cpu.max", "max 100000\n", None),
        ("cpu.max", "nonsense\n", None),
        ("cpu/cpu.cfs_quota_us", "-1\n", None),
        ("cpu/cpu.cfs_quota_us", "50000\n", 0.5),
    ],
)
def test_the_quota_of_a_container(tmp_path, name, text, quota):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / name).write_text(text)
    assert cores.cpu_quota(tmp_path) == quota
    assert cores.cpu_quota(tmp_path / "none") is None
