"""What a child process may use, and how it gives up the rest before it touches a file."""

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
CPU_SLACK = 60  # seconds; the wall clock is to win, processor time is for a child whose parent has died


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """Limits of one child process."""

    seconds: float | None = 3600.0
    """By the wall clock, kept by the parent; None: no limit."""
    memory_mib: int | None = 8192
    """Address space, not where CUDA runs, which reserves far more than it uses; None: no limit."""
    file_mib: int = 4096
    """Of any file that it writes."""
    open_files: int = 1024
    """At a time."""
    answer_mib: int = 32
    """Of the record that it sends back."""


def give_up(limits: ProcessLimits, *, cuda: bool) -> tuple[str, ...]:
    """Apply the limits to this process for good; gives the names of those that the platform does not have."""
    try:
        import resource
    except ImportError:  # Windows
        return ("memory", "processor time", "file size", "open files")
    processor = None if limits.seconds is None else int(limits.seconds) * (os.cpu_count() or 1) + CPU_SLACK
    memory = None if cuda or limits.memory_mib is None else limits.memory_mib << 20
    wanted = (
        ("memory", resource.RLIMIT_AS, memory),
        ("processor time", resource.RLIMIT_CPU, processor),
        ("file size", resource.RLIMIT_FSIZE, limits.file_mib << 20),
        ("open files", resource.RLIMIT_NOFILE, limits.open_files),
        ("core dumps", resource.RLIMIT_CORE, 0),
    )
    missing = []
    for name, kind, value in wanted:
        if value is None:
            continue
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            missing.append(name)
    if sys.platform == "darwin" and memory is not None and "memory" not in missing:
        missing.append("memory")  # macOS takes the number and ignores it
    return tuple(missing)


def die_with_the_parent(parent: int) -> None:
    """Let the kernel kill this process a second after the one that started it has died, whatever native code it is stuck in.

    Until then it may see itself that its stdin was closed, tidy up and leave. parent: its process id; where it is dead
    already, this process ends at once. Only Linux can do this. The kernel counts the thread that started the child as its
    parent.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        # No handler in Python runs while native code holds the interpreter. C's own alarm() can be one: it is called with
        # the number of the signal, which for SIGHUP is one second, and SIGALRM ends the process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(2)


def may_use_cuda(device: str) -> bool:
    """Whether a device as the user names it may turn out to be a GPU, without loading what would find out."""
    return device.startswith("cuda") or (device == "auto" and Path("/proc/driver/nvidia").exists())
