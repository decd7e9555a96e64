"""A folder for what one child writes on its way, which is gone afterwards, however the two processes end."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "shapprune-"
LOCK = "in-use"


@contextmanager
def private_folder() -> Iterator[str]:
    """A folder that only this user can look into, removed at the end; those of killed processes are removed on the way.

    A lock says that a folder is in use: the kernel takes it back when the process that holds it ends, be it by SIGKILL.
    """
    _remove_left_over(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as private:
        lock = _lock(Path(private))
        try:
            yield private
        finally:
            if lock is not None:
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Take the folder's lock; it is there only when it is held. No child inherits it."""
    if fcntl is None:
        return None
    new = folder / f".{LOCK}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(new, folder / LOCK)
    return descriptor


def _remove_left_over(place: Path) -> None:
    """Remove this user's private folders that nobody holds any more."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if re.fullmatch(rf"{PREFIX}[a-z0-9_]{{8}}", entry.name) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.geteuid() and _unused(Path(entry.path)):
                        shutil.rmtree(entry.path, ignore_errors=True)


def _unused(folder: Path) -> bool:
    descriptor = os.open(folder / LOCK, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
