"""Progress on stderr: one line that overwrites itself on a terminal and is gone at the end, lines everywhere else.

The pipeline calls `report(stage, done, total, note)`; a stage ends when another begins or done reaches total. A new
note ("class 3/10 ...") gets a line of its own where lines are written. On a terminal the clock goes on where the pipeline
has nothing to tell: reading a file and opening sessions take seconds. The time "left here" is that of the stage: how
many stages follow depends on what they find.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

from onnx_shapprune.cli.options.display import Display
from onnx_shapprune.cli.streams import is_terminal
from onnx_shapprune.report.text import cells, fit, harmless, plain

Mode = Literal["bar", "lines", "off"]
QUICK_SECONDS = 1.0  # a run that is over sooner needs no line
REDRAW_SECONDS = 0.1
TICK_SECONDS = 0.5
IDLE = "working"
BAR, STAGE = 12, 12  # columns


class ProgressReport:
    """Receives progress calls and writes them to a stream. close() leaves no half-drawn bar behind."""

    def __init__(self, stream: TextIO, mode: Mode, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.mode = mode
        self._stream, self._clock = stream, clock
        self._lock = threading.RLock()
        self._stage = ""
        self._started = self._began = self._drawn = self._free = self._moved = clock()
        self._done = self._total = 0
        self._costly = (0, 0)
        self._last_note = ""
        self._on_screen = False

    def __call__(self, stage: str, done: int, total: int, note: str, *, costly: tuple[int, int] | None = None) -> None:
        """costly: how many of the steps that are done took time, and how many of those that are left will; None: all."""
        if self.mode == "off":
            return
        with self._lock:
            self._hear(stage, done, total, note, costly or (done, total - done))

    def tick(self) -> None:
        """Draw again, so that somebody who looks sees that time goes on."""
        with self._lock:
            now = self._clock()
            if self.mode == "bar" and self._due(now):
                self._draw(now, self._last_note)

    def close(self) -> None:
        """End the stage that is under way."""
        with self._lock:
            self._finish(self._clock())
            if self._on_screen:
                self._write("\r\x1b[K")
                self._on_screen = False
            self.mode = "off"

    def _hear(self, stage: str, done: int, total: int, note: str, costly: tuple[int, int]) -> None:
        now = self._clock()
        if stage != self._stage:
            if self._stage:
                self._finish(now)
            # One that tells of itself only when its first step is done began where the one before ended.
            self._stage, self._began, self._last_note = stage, self._free if done else now, ""
        if done != self._done:
            self._moved = now
        self._done, self._total, self._costly = done, total, costly
        note = plain(note)
        if self.mode == "lines":
            if note and note != self._last_note:
                self._write(f"{plain(stage, limit=40)}: {note}\n")
        elif self._due(now):
            self._draw(now, note)
        self._last_note = note
        if done >= total > 0:
            self._finish(now)

    def _due(self, now: float) -> bool:
        return now - self._started >= QUICK_SECONDS and now - self._drawn >= REDRAW_SECONDS

    def _finish(self, now: float) -> None:
        seconds = now - self._began
        if self._stage and self.mode == "lines" and (not self._last_note or seconds >= REDRAW_SECONDS):
            count = f" {self._done}/{self._total}" if self._total > 1 else ""
            self._write(f"{plain(self._stage, limit=40)}:{count} done in {seconds:.1f} s\n")
        self._stage, self._last_note, self._began, self._free = "", "", now, now
        self._done = self._total = 0
        self._costly = (0, 0)

    def _draw(self, now: float, note: str) -> None:
        columns = shutil.get_terminal_size((80, 24)).columns - 1  # a full line would wrap
        share = min(1.0, self._done / self._total) if self._total > 0 else 0.0
        full = round(BAR * share)
        name = plain(self._stage, limit=40) if self._stage else IDLE
        parts = [f"{fit(name, max(STAGE, cells(name)))} {'#' * full}{'.' * (BAR - full)}"]
        if self._total > 0:
            parts.append(f"{self._done}/{self._total} {share:.0%}")
        elapsed = f"{clock_text(now - self._started)} elapsed"
        if all(self._costly):
            elapsed += f", {clock_text(self._left(now))} left here"
        parts.append(elapsed)
        line = "  ".join([*parts, note] if note else parts)
        self._write("\r" + (line if cells(line) <= columns else fit(line, columns)) + "\x1b[K")
        self._drawn, self._on_screen = now, True

    def _left(self, now: float) -> float:
        """Seconds that the stage still takes, at the pace up to its last step."""
        took, left = self._costly
        return max(0.0, (self._moved - self._free) / took * left - (now - self._moved))

    def _write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(harmless(text).encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def progress_mode(display: Display, stream: TextIO | None) -> Mode:
    """Bars on a terminal outside CI, lines elsewhere or where lines are asked for, nothing where silence is."""
    if display.progress == "off" or display.quiet or stream is None:
        return "off"
    if display.verbose or not is_terminal(stream):
        return "lines"
    return "lines" if display.progress == "auto" and os.environ.get("CI") else "bar"


@contextmanager
def progress_on_stderr(display: Display) -> Iterator[ProgressReport]:
    """A progress report that is closed however the work ends."""
    report = ProgressReport(sys.stderr, progress_mode(display, sys.stderr))
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK_SECONDS):
            report.tick()

    clock = threading.Thread(target=tick, daemon=True)
    if report.mode == "bar":
        clock.start()
    try:
        yield report
    finally:
        over.set()
        report.close()


def clock_text(seconds: float) -> str:
    """Minutes and seconds, or seconds alone."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"
