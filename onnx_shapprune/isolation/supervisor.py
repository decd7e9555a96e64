"""Run one child process to its end, whatever it does: it may crash, hang, fork, flood its pipes or send garbage.

The child gets its request on stdin and answers on stdout with JSON lines (never pickle): {"progress": [...]} and
{"so_far": {...}} any number of times and {"answer": {...}} once, as its last word, after which it must exit with 0. It
runs in a session of its own, so that it and all that it forks can be killed together; only what starts yet another
session gets away, and nobody waits for that: the pipes which it may hold open are closed here.
"""

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Literal

from onnx_shapprune.case.progress import Progress
from onnx_shapprune.isolation.limits import ProcessLimits

GRACE = 2.0  # seconds that a child has to end after it was asked to, or after its pipe has closed
TICK = 0.2
CHUNK = 1 << 16
STDERR_TAIL = 1 << 14
QUEUED = 256  # frames; a child that sends more of them than are read has to wait
LATE_CHUNKS = 16  # that are still read from a pipe which a grandchild goes on to fill
MAX_PROGRESS_BYTES = 64 << 20

End = Literal["answered", "died", "too long", "garbage", "flood", "stopped"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. answer: what it sent, only where it also exited with 0; code: its exit status, minus the signal
    that killed it; errors: the end of its stderr; so_far: the last record that it sent before its answer.
    """

    end: End
    answer: Mapping[str, object] | None
    code: int | None
    errors: str
    so_far: Mapping[str, object] | None = None


class _Child:
    """A process and the threads that write to it and read from it."""

    def __init__(
        self, command: Sequence[str], request: bytes, environment: Mapping[str, str], answer_bytes: int
    ) -> None:
        self.frames: queue.Queue[object] = queue.Queue(QUEUED)
        self.closed = threading.Event()
        self.answer: Mapping[str, object] | None = None
        self.so_far: Mapping[str, object] | None = None
        self._tail = bytearray()
        self._done = threading.Event()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        self._stdin: IO[bytes] = stdin
        self._threads = [
            threading.Thread(target=work, args=arguments, daemon=True)
            for work, *arguments in (
                (self._send, request),
                (self._read_frames, stdout, answer_bytes),
                (self._read_errors, stderr),
            )
        ]
        for thread in self._threads:
            thread.start()

    def exited(self) -> bool:
        """Whether it has ended; it is not reaped yet, so that its process group keeps its number."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return (
            self._process.returncode is not None
            or os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        )

    def end(self) -> int:
        """Ask it to end, then kill it and everything in its group; gives its exit status. Leaves no thread and no pipe."""
        if not self.exited():
            self._signal(signal.SIGTERM)
            self._wait_until(self.exited)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        code = self._process.wait()
        self._done.set()
        with contextlib.suppress(OSError):
            self._stdin.close()
        for thread in self._threads:
            thread.join(GRACE)
        return code

    def errors(self) -> str:
        return self._tail.decode("utf-8", "replace")

    def _send(self, request: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is dead already: how will be seen
            self._stdin.write(request + b"\n")
            self._stdin.flush()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.kill()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GRACE
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _read_frames(self, stream: IO[bytes], answer_bytes: int) -> None:
        """Split stdout into frames; "garbage" or "flood" instead of one ends the reading."""
        line, total = bytearray(), 0
        with stream, contextlib.suppress(OSError, ValueError):
            for chunk in self._chunks(stream):
                total += len(chunk)
                *whole, rest = chunk.split(b"\n")
                for part in whole:
                    if not self._put(_frame(bytes(line + part))):
                        return
                    line.clear()
                line += rest
                if len(line) > answer_bytes or total > answer_bytes + MAX_PROGRESS_BYTES:
                    self._put("flood")
                    return
        self.closed.set()

    def _chunks(self, stream: IO[bytes]) -> Iterator[bytes]:
        """What comes through a pipe until it closes or, once the child is over, until nothing is left in it."""
        descriptor, late = stream.fileno(), 0
        waiting = None
        if hasattr(select, "poll"):
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN | select.POLLHUP)
        while late < LATE_CHUNKS:
            if waiting is not None and not waiting.poll(1000 * TICK):
                if self._done.is_set():
                    return
                continue
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                return
            late += self._done.is_set()
            yield chunk

    def _put(self, frame: object) -> bool:
        """Hand a frame over; False when nobody takes it any more, or when nothing good can follow."""
        while not self._done.is_set():
            try:
                self.frames.put(frame, timeout=TICK)
            except queue.Full:
                continue
            return not isinstance(frame, str)
        return False

    def _read_errors(self, stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(OSError, ValueError):
            for chunk in self._chunks(stream):
                self._tail += chunk
                del self._tail[:-STDERR_TAIL]


def supervise(
    command: Sequence[str],
    request: bytes,
    limits: ProcessLimits,
    *,
    environment: Mapping[str, str],
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Ended:
    """Run a command to its end, whatever that is; safe to call from any thread. Raises OSError when none can be started.

    stop: set it from another thread to end the child. KeyboardInterrupt, and what `progress` raises, end the child and go
    on to the caller.
    """
    deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
    child = _Child(command, request, environment, limits.answer_mib << 20)
    try:
        end = _follow(child, deadline, progress, stop)
    finally:
        code = child.end()
    if end == "answered" and code != 0:
        end = "died"
    return Ended(end, child.answer if end == "answered" else None, code, child.errors(), child.so_far)


def _follow(child: _Child, deadline: float | None, progress: Progress | None, stop: threading.Event | None) -> End:
    """Read frames until the child has ended, or must be ended; keeps what was answered in the child."""
    last = None  # when a child must have ended that has closed its pipe, has ended, or has answered
    while True:
        now = time.monotonic()
        if deadline is not None and now > deadline:
            return "too long"
        if stop is not None and stop.is_set():
            return "stopped"
        over = child.closed.is_set() or child.answer is not None or child.exited()
        last = now + GRACE if over and last is None else last
        try:
            frame = child.frames.get(timeout=TICK / 10 if over else TICK)
        except queue.Empty:
            if last is not None and ((child.exited() and child.closed.is_set()) or now > last):
                return "died" if child.answer is None else "answered"
            continue
        match frame:
            case {"progress": [str() as stage, int() as done, int() as total, str() as note]} if child.answer is None:
                if progress is not None:
                    progress(stage, done, total, note)
            case {"so_far": dict() as sent} if child.answer is None:
                child.so_far = sent
            case {"answer": dict() as sent} if child.answer is None:
                child.answer = sent
            case "flood":
                return "flood"
            case _:
                return "garbage"


def _frame(line: bytes) -> object:
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError):
        return "garbage"
    return frame if isinstance(frame, dict) else "garbage"
