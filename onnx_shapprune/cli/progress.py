"""Progress on stderr: a bar that overwrites itself on a terminal, lines everywhere else.

The pipeline calls `report(stage, done, total, note)`; a stage ends when another begins or done reaches total. A new
note ("class 3/10 ...") gets a line of its own where lines are written. On a terminal a clock goes on where the pipeline
has nothing to tell: reading a file and opening sessions take seconds.
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
QUICK_SECONDS = 2.0  # a stage that is over sooner needs no bar
REDRAW_SECONDS = 0.1
TICK_SECONDS = 0.5
IDLE = "working"
BAR = 20


class ProgressReport:
    """Receives progress calls and writes them to a stream. close() leaves no half-drawn bar behind."""

    def __init__(self, stream: TextIO, mode: Mode, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.mode = mode
        self._stream, self._clock = stream, clock
        self._lock = threading.RLock()
        self._stage = ""
        self._began = self._drawn = clock()
        self._done = self._total = 0
        self._last_note = ""
        self._on_screen = False

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        if self.mode == "off":
            return
        with self._lock:
            self._hear(stage, done, total, note)

    def tick(self) -> None:
        """Draw again, so that somebody who looks sees that time goes on."""
        with self._lock:
            now = self._clock()
            if self.mode == "bar" and now - self._began >= QUICK_SECONDS and now - self._drawn >= REDRAW_SECONDS:
                self._draw(now, self._last_note)

    def close(self) -> None:
        """End the stage that is under way."""
        with self._lock:
            self._finish(self._clock())
            self.mode = "off"

    def _hear(self, stage: str, done: int, total: int, note: str) -> None:
        now = self._clock()
        if stage != self._stage:
            self._finish(now)
            self._stage, self._began, self._drawn, self._last_note = stage, now, now, ""
        self._done, self._total = done, total
        note = plain(note)
        if self.mode == "lines":
            if note and note != self._last_note:
                self._write(f"{plain(stage, limit=40)}: {note}\n")
        elif now - self._began >= QUICK_SECONDS and now - self._drawn >= REDRAW_SECONDS:
            self._draw(now, note)
        self._last_note = note
        if done >= total > 0:
            self._finish(now)

    def _finish(self, now: float) -> None:
        if self._on_screen:
            self._write("\r\x1b[K")
            self._on_screen = False
        seconds = now - self._began
        told = self.mode == "lines" and (not self._last_note or seconds >= REDRAW_SECONDS)
        if self._stage and (told or (self.mode == "bar" and seconds >= QUICK_SECONDS)):
            count = f" {self._done}/{self._total}" if self._total > 1 else ""
            self._write(f"{plain(self._stage, limit=40)}:{count} done in {seconds:.1f} s\n")
        self._stage, self._last_note, self._began = "", "", now
        self._done = self._total = 0

    def _draw(self, now: float, note: str) -> None:
        columns = shutil.get_terminal_size((80, 24)).columns - 1  # a full line would wrap
        seconds = now - self._began
        if not self._stage:
            self._write(f"\r{IDLE}  {clock_text(seconds)}\x1b[K")
            self._drawn, self._on_screen = now, True
            return
        share = min(1.0, self._done / self._total) if self._total > 0 else 0.0
        full = round(BAR * share)
        parts = [f"{fit(plain(self._stage, limit=40), 12)} {'#' * full}{'.' * (BAR - full)} {self._done}/{self._total}"]
        if self._done > 0 and seconds > 0:
            rate = self._done / seconds
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            if self._total > self._done:
                parts.append(f"{clock_text((self._total - self._done) / rate)} left")
        else:
            parts.append(clock_text(seconds))
        line = "  ".join([*parts, note] if note else parts)
        self._write("\r" + (line if cells(line) <= columns else fit(line, columns)) + "\x1b[K")
        self._drawn, self._on_screen = now, True

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
