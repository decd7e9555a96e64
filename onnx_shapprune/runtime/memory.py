"""Give freed memory back to the system."""

import ctypes
import sys


def give_back() -> None:
    """Return what was freed: glibc keeps blocks below 32 MiB for later, hundreds of MiB after a run of a large graph."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every C library
    if trim is not None:
        trim(0)
