"""How many cores this process may really use: threads beyond them only spin and take the time of those that work."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """CPU cores that are left by the affinity of this process and the quota of its container, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def usable_threads(asked: int) -> int:
    """Threads to run graphs with: never more than the usable cores. 0, all cores, stays what it is where nothing holds
    this process back, since onnxruntime then counts physical cores, and becomes a number where something does.
    """
    cores = usable_cores()
    if asked:
        return min(asked, cores)
    return 0 if cores == os.cpu_count() else cores


def cpu_quota(root: Path = CGROUPS) -> float | None:
    """Cores that the container's quota is worth (cgroup v2, then v1), None without a quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((root / "cpu" / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        except OSError:
            return None
    try:
        cores = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return cores if cores > 0 else None
