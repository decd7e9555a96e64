"""Read files that may be anything: one open, a limit of bytes, and a clear line for every way this can fail."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from onnx_shapprune.errors import ModelError, ShapPruneError


def read_regular_file(path: Path, *, limit: int, what: str, error: type[ShapPruneError] = ModelError) -> bytes:
    """All bytes of a regular file; raises `error` when it is missing, no file, unreadable or larger than `limit`."""
    with open_regular_file(path, limit=limit, what=what, error=error) as stream:
        try:
            payload = stream.read(limit + 1)
        except OSError as cause:
            raise error(f"{what} cannot be read: {path}: {cause.strerror}") from None
    if len(payload) > limit:
        raise error(f"{what} grew beyond the limit of {limit} bytes while it was read: {path}")
    return payload


def hash_regular_file(path: Path, *, limit: int, what: str, error: type[ShapPruneError] = ModelError) -> str:
    """sha256 of a regular file, which need not fit into memory; raises as `read_regular_file`."""
    with open_regular_file(path, limit=limit, what=what, error=error) as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as cause:
            raise error(f"{what} cannot be read: {path}: {cause.strerror}") from None


def open_regular_file(path: Path, *, limit: int, what: str, error: type[ShapPruneError] = ModelError) -> IO[bytes]:
    """A regular file of at most `limit` bytes, opened for reading; raises `error` as `read_regular_file`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise error(f"{what} not found: {path}{' (a link that leads nowhere)' if path.is_symlink() else ''}") from None
    except OSError as cause:
        raise error(f"{what} cannot be opened: {path}: {cause.strerror}") from None
    except ValueError:  # a NUL byte
        raise error(f"{what} cannot be opened: {str(path)!r} is no path") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise error(f"{what} is not a regular file: {path}")
    if status.st_size > limit:
        os.close(descriptor)
        raise error(f"{what} has {status.st_size} bytes, more than the limit of {limit}: {path}")
    return os.fdopen(descriptor, "rb")


def unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """The object of a JSON text, for `object_pairs_hook`. Raises ValueError where a key stands twice: readers differ."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice")
    return content
