"""Bars on a terminal, lines elsewhere, silence where it is asked for."""

import io
import sys
import time

import pytest

from onnx_shapprune.cli import progress as progress_module
from onnx_shapprune.cli.options.display import Display
from onnx_shapprune.cli.progress import ProgressReport, progress_mode, progress_on_stderr


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def walk(mode: str, *, step: float = 1.0, steps: int = 4, note: str = "class 1/4") -> str:
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(stream, mode, clock=clock)
    for i in range(steps + 1):
        report("search", i, steps, note if i else "")
        clock.now += step
    report.close()
    return stream.getvalue()


def test_lines_name_classes_once_and_end_the_stage():
    assert walk("lines") == "search: class 1/4\nsearch: 4/4 done in 4.0 s\n"
    assert walk("lines", note="") == "search: 4/4 done in 4.0 s\n"
    assert walk("lines", note="round 1", step=0) == "search: round 1\n"  # a note says it all


def test_a_stage_that_tells_when_it_is_done_began_where_the_one_before_ended():
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(stream, "lines", clock=clock)
    for stage, took in (("plain triggers", 2.0), ("warp triggers", 0.5)):
        clock.now += took
        report(stage, 1, 1, "")
    assert stream.getvalue() == "plain triggers: done in 2.0 s\nwarp triggers: done in 0.5 s\n"


def test_one_line_overwrites_itself_and_is_gone_at_the_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = walk("bar")
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")
    assert "search       ######......  2/4 50%  2 s elapsed, 2 s left here  class 1/4" in text
    assert text.startswith("\rsearch       ###")  # nothing is drawn in the first second
    drawn = [part for part in text.split("\r") if "elapsed" in part]
    assert all(part.endswith("\x1b[K") for part in drawn), "what was longer leaves no rest"


def test_time_goes_on_over_the_stages_and_what_is_left_is_of_one(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(stream, "bar", clock=clock)
    for stage in ("compact triggers", "classes"):
        for done in range(5):
            report(stage, done, 5, "")
            clock.now += 3
    assert stream.getvalue().endswith("\rclasses      ##########..  4/5 80%  27 s elapsed, 3 s left here\x1b[K")
    report.close()


def test_what_is_left_shrinks_while_a_step_takes_its_time(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(stream, "bar", clock=clock)
    clock.now += 10
    report("classes", 1, 4, "")  # told for the first time when a first step is done
    for _ in range(31):
        clock.now += 1
        report.tick()
    left = [int(part.split(", ")[1].split()[0]) for part in stream.getvalue().split("\r") if "left here" in part]
    assert left == [*range(30, 0, -1), 0, 0]
    report.close()


def test_bar_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = walk("bar", note="class 1 " * 30)
    drawn = [part.removesuffix("\x1b[K") for part in text.split("\r") if "#" in part]
    assert drawn
    assert all(len(part) < 40 for part in drawn)


def test_quick_stages_draw_nothing():
    assert walk("bar", step=0.1) == ""


def test_off_is_silent():
    assert walk("off") == ""


def test_a_stage_that_is_broken_off_leaves_no_bar():
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(stream, "bar", clock=clock)
    report("search", 0, 9, "")
    clock.now += 5
    report("search", 1, 9, "\x1b[31mhostile")
    report("prune", 0, 2, "")
    report.close()
    text = stream.getvalue()
    assert "search " in text
    assert text.endswith("\r\x1b[K")
    assert "\n" not in text
    assert "\x1b[31m" not in text


def test_a_clock_goes_on_where_nothing_is_told(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream, clock = io.StringIO(), Clock()
    report = ProgressReport(stream, "bar", clock=clock)

    def wait(seconds: int) -> str:
        before = len(stream.getvalue())
        for _ in range(seconds):
            clock.now += 1
            report.tick()
        return stream.getvalue()[before:]

    empty = "." * 12
    assert wait(2) == f"\rworking      {empty}  1 s elapsed\x1b[K\rworking      {empty}  2 s elapsed\x1b[K"
    report("search", 0, 4, "class 1")
    assert wait(3).endswith(f"\rsearch       {empty}  0/4 0%  5 s elapsed  class 1\x1b[K")
    report("search", 4, 4, "")
    assert "working" in wait(1), "between two stages too"
    report.close()
    assert stream.getvalue().endswith("\r\x1b[K")
    assert wait(5) == "", "closed"


def test_a_thread_keeps_the_clock_of_a_terminal(monkeypatch):
    monkeypatch.setattr(progress_module, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(progress_module, "QUICK_SECONDS", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    display = Display(as_json=False, colour=False, width=80)
    with progress_on_stderr(display):
        time.sleep(0.3)
        assert "working" in sys.stderr.getvalue()
    text = sys.stderr.getvalue()
    time.sleep(0.1)
    assert sys.stderr.getvalue() == text


@pytest.mark.parametrize(
    ("stream", "environment", "choice", "mode"),
    [
        (Terminal(), {}, "auto", "bar"),
        (Terminal(), {"CI": "1"}, "auto", "lines"),
        (Terminal(), {"CI": "1"}, "on", "bar"),
        (Terminal(), {"TERM": "dumb"}, "auto", "lines"),
        (io.StringIO(), {}, "on", "lines"),
        (Terminal(), {}, "off", "off"),
    ],
)
def test_mode(monkeypatch, stream, environment, choice, mode):
    for name, value in {"CI": "", "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    display = Display(as_json=False, quiet=False, verbose=False, progress=choice, colour=False, width=80)
    assert progress_mode(display, stream) == mode
