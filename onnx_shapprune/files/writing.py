"""Write results so that a reader, a crash or Ctrl-C never meets half a file."""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from onnx_shapprune.errors import OutputError

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def write_atomically(path: Path, payload: bytes) -> None:
    """Write a file in one step: readers see the old one or the whole new one. Raises OutputError.

    A file that is replaced hands on its permissions. Never follows a link at `path`: the link itself is replaced.
    """
    with replacing(path) as stream:
        stream.write(payload)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream for what `write_atomically` writes: the file is there once the block ends, and not at all where it fails."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        before = os.lstat(path)
        mode = stat.S_IMODE(before.st_mode) & 0o777 if stat.S_ISREG(before.st_mode) else None
    except OSError:
        mode = None
    try:
        descriptor = os.open(temporary, NEW_FILE, 0o666)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if mode is not None:
                os.chmod(temporary, mode)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        raise


def no_link(path: str, flags: int) -> int:
    """An opener that takes the file itself and nothing that a link at its place leads to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be put at `path`; leaves nothing behind.

    A device or a folder at `path` is refused: writing would replace it. So is "-": results are files.
    """
    if path == Path("-"):
        raise OutputError("cannot write '-': results go into files; give the name of one")
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a NUL byte
        raise OutputError(
            f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or 'it is no path'}"
        ) from None
    else:
        if stat.S_ISDIR(mode):
            raise OutputError(f"cannot write {path}: it is a folder")
        if not stat.S_ISREG(mode):
            raise OutputError(f"cannot write {path}: it is not a regular file")
    check_folder(path.parent, what=path)


def check_folder(folder: Path, *, what: Path) -> None:
    """Raise OutputError unless files can be made in `folder`; `what` is named in the message."""
    if not folder.is_dir():
        raise OutputError(f"cannot write {what}: the folder {folder} does not exist")
    try:
        # Permission bits say nothing on read-only file systems and for root, a real try does.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {what}: {error.strerror}") from None


def same_file(a: Path, b: Path) -> bool:
    """Whether two paths lead to one existing file, through links of either kind too, or are the same new path."""
    try:
        return a.samefile(b)
    except OSError:
        return _resolved(a) == _resolved(b)


def _resolved(path: Path) -> str:
    return os.path.realpath(path)
