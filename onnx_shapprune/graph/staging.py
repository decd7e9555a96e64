"""Take the files of a model, each opened once: what is hashed is what is read, whatever becomes of the path meanwhile.

A path is walked part by part from an open folder, without following links; a link is read and followed by hand, and only
within the allowed root. The model file is read into memory, where it is parsed. Data files may be larger than memory:
they are copied into a private folder while they are hashed, and each tensor is read from there. The price is one
sequential write of their size under TMPDIR; a hard link would be free, but who can write to the original could then still
change the copy.
"""

import hashlib
import os
import stat
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType

from onnx_shapprune.errors import ModelError

CHUNK = 1 << 20
MAX_LINKS = 40
OUTSIDE = "leads out of the model's folder (--allow-root names a wider one that links may stay in)"
# O_NONBLOCK: opening a pipe must not wait for a writer.
FLAGS = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))
FOLDER = FLAGS | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)  # a folder need not be readable
BY_PARTS = os.supports_dir_fd.issuperset({os.open, os.stat, os.readlink})


class StrayError(ModelError):
    """A path leads out of the allowed root, or to something that is no regular file."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A private copy: its path, size in bytes and sha256."""

    path: Path
    size: int
    sha256: str


class Stage:
    """A private folder for copies of the files that stand beside a model; gone when the `with` block ends.

    folder: of the model, from which locations count. root: where links may lead, `folder` unless it contains that.
    """

    def __init__(self, folder: Path, allow_root: Path | None = None) -> None:
        self._shown, self._folder = folder, Path(os.path.realpath(folder))
        root = self._folder if allow_root is None else Path(os.path.realpath(allow_root))
        self._root = root if self._folder.is_relative_to(root) else self._folder
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._staged: dict[str, StagedFile] = {}

    def __enter__(self) -> "Stage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._copies is not None:
            self._copies.cleanup()

    def read(self, name: str, *, limit: int, what: str) -> bytes:
        """All bytes of a file. Raises ModelError, StrayError where it leads outside or is no regular file."""
        with os.fdopen(self._open(name, what), "rb") as stream:
            self._check_size(stream.fileno(), limit, what, name)
            try:
                payload = stream.read(limit + 1)
            except OSError as error:
                raise ModelError(f"{what} cannot be read: {self._shown / name}: {error.strerror}") from None
        if len(payload) > limit:
            raise ModelError(f"{what} grew beyond the limit of {limit} bytes while it was read: {self._shown / name}")
        return payload

    def copy(self, name: str, *, limit: int, what: str) -> StagedFile:
        """A private copy of a file, made once per name. Raises as `read`."""
        if name in self._staged:
            return self._staged[name]
        if self._copies is None:
            self._copies = tempfile.TemporaryDirectory(prefix="shapprune-")  # mode 0700
        target = Path(self._copies.name) / str(len(self._staged))
        digest, size, shown = hashlib.sha256(), 0, self._shown / name
        with os.fdopen(self._open(name, what), "rb") as source:
            self._check_size(source.fileno(), limit, what, name)
            try:
                with target.open("xb") as copy:
                    while chunk := source.read(CHUNK):
                        size += len(chunk)
                        if size > limit:
                            raise ModelError(
                                f"{what} grew beyond the limit of {limit} bytes while it was read: {shown}"
                            )
                        digest.update(chunk)
                        copy.write(chunk)
            except OSError as error:
                raise ModelError(f"{what} cannot be copied: {shown}: {error.strerror} (TMPDIR needs room)") from None
        self._staged[name] = StagedFile(target, size, digest.hexdigest())
        return self._staged[name]

    def _open(self, name: str, what: str) -> int:
        shown = self._shown / name
        try:
            return self._walk(name) if BY_PARTS else self._resolved(name)
        except FileNotFoundError:
            raise ModelError(f"{what} not found: {shown}") from None
        except StrayError as error:
            raise StrayError(f"{what} {error}: {shown}") from None
        except OSError as error:
            raise ModelError(f"{what} cannot be opened: {shown}: {error.strerror}") from None
        except ValueError:  # a NUL byte
            raise ModelError(f"{what} cannot be opened: {name!r} is no path") from None

    def _check_size(self, descriptor: int, limit: int, what: str, name: str) -> None:
        size = os.fstat(descriptor).st_size
        if size > limit:
            shown = self._shown / name
            raise ModelError(f"{what} has {size} bytes, more than the limit of {limit} (--limit file-mib): {shown}")

    def _walk(self, name: str) -> int:
        """Open `name` part by part; every folder on the way stays open, so that none can be exchanged for another."""
        inside = self._folder.relative_to(self._root)
        parts, links = deque([*inside.parts, *PurePosixPath(name).parts]), 0
        folders = [os.open(self._root, FOLDER)]
        try:
            while parts:
                part = parts.popleft()
                if part == "..":
                    if len(folders) == 1:
                        raise StrayError(OUTSIDE)
                    os.close(folders.pop())
                    continue
                mode = os.stat(part, dir_fd=folders[-1], follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    links += 1
                    target = PurePosixPath(os.readlink(part, dir_fd=folders[-1]))
                    if links > MAX_LINKS:
                        raise StrayError("is a loop of links")
                    if target.is_absolute():
                        if not target.is_relative_to(self._root):
                            raise StrayError(OUTSIDE)
                        target = target.relative_to(self._root)
                        while len(folders) > 1:
                            os.close(folders.pop())
                    parts.extendleft(reversed(target.parts))
                elif stat.S_ISDIR(mode) and parts:
                    folders.append(os.open(part, FOLDER, dir_fd=folders[-1]))
                else:
                    return _regular(os.open(part, FLAGS, dir_fd=folders[-1]) if stat.S_ISREG(mode) else -1)
        finally:
            for folder in folders:
                os.close(folder)
        raise StrayError("is not a regular file")

    def _resolved(self, name: str) -> int:
        """The same where folders cannot be opened (Windows): resolved once, then opened."""
        target = Path(os.path.realpath(self._folder / name, strict=True))
        if not target.is_relative_to(self._root):
            raise StrayError(OUTSIDE)
        return _regular(os.open(target, FLAGS) if target.is_file() else -1)


def escapes(location: str) -> bool:
    """Whether the text of a location alone leaves the folder of the model, on any system."""
    windows = PureWindowsPath(location)
    if PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        return True
    depth = 0
    for part in windows.parts:  # both kinds of slashes
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _regular(descriptor: int) -> int:
    if descriptor < 0:
        raise StrayError("is not a regular file")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StrayError("is not a regular file")
    return descriptor
