"""Open files that nobody would write, and see that every one of them ends in a record or in one line.

    python -m tests.benchmarks.fuzz [--files 20000] [--seed 0] [--first 0] [--keep FOLDER]

Each file goes the whole way of a file that is audited: staged, looked through, inspected, prepared, opened in onnxruntime,
and where that works pictures go through it, a gradient comes back, channels are switched off, the file itself is asked,
and triggers that stand in its graph are tried. This happens in a worker process with limits of memory and a wall clock per
file; a worker that dies is replaced. Counted are crashes (the worker died; whose native code it was says the innermost
Python frame), hangs (it was killed), and tracebacks (an exception that is not a ShapPruneError: a bug of this package).
--keep writes such files there.
"""

import argparse
import faulthandler
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMORY_MIB = 4096
FILE_SECONDS = 10.0
START_SECONDS = 300.0
BAD = re.compile("crash|hang|traceback")
LIMITS = {"trips": 1000, "generated_mib": 64}


@dataclass
class Report:
    """ends: how many files ended how; bad: (index, what happened) of crashes, hangs and tracebacks."""

    ends: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, str]] = field(default_factory=list)

    @property
    def files(self) -> int:
        return sum(self.ends.values())


def fuzz(files: int, seed: int, *, first: int = 0, keep: Path | None = None, tell: bool = False) -> Report:
    """Try the files first, first + 1, ... of a seed, one after the other."""
    try:
        from benchmarks.mutants import mutant
    except ModuleNotFoundError:
        from tests.benchmarks.mutants import mutant

    report, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        worker = Worker(folder)
        for index in range(first, first + files):
            payload = mutant(seed, index)
            path.write_bytes(payload)
            end, detail = worker.handle(path)
            report.ends[end] += 1
            if BAD.match(end):
                report.bad.append((index, f"{end}: {detail}"))
                if keep is not None:
                    (keep / f"{seed}-{index}-{end.split()[0]}.onnx").write_bytes(payload)
                if tell:
                    print(f"file {index}: {end}: {detail}", flush=True)
            if worker.dead():
                worker = Worker(folder)
            if tell and (index - first + 1) % 1000 == 0:
                print(f"{index - first + 1} files, {time.monotonic() - start:.0f} s, {dict(report.ends)}", flush=True)
        worker.end()
    return report


class Worker:
    """A process that opens one file after the other."""

    def __init__(self, folder: str) -> None:
        environment = {**os.environ, "TMPDIR": folder, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._errors = Path(folder) / "errors"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.fuzz", "--worker"], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._errors.open("wb"), text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if self._lines.get(timeout=START_SECONDS) != "ready\n":
            raise RuntimeError("the worker does not start")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def handle(self, path: Path) -> tuple[str, str]:
        """(how it ended, in words)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=FILE_SECONDS)
        except queue.Empty:
            self.end()
            return "hang", f"longer than {FILE_SECONDS:g} s"
        if not line:
            return self._crash(self._process.wait())
        end, detail = json.loads(line)
        return end, detail

    def _crash(self, status: int) -> tuple[str, str]:
        """Whose code it was, by the innermost Python frame: native code has no other name."""
        errors = self._errors.read_text(errors="replace")
        frames = re.findall(r'File "(?:.*/site-packages/)?([^"]*)", line \d+ in (\w+)', errors)
        place, function = frames[0] if frames else ("?", "?")
        owner = place.split("/")[0]
        return f"crash in {owner}", f"{_signal(status)} in {place}, {function}"

    def dead(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def _signal(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def work() -> None:
    """The worker: a path per line in, [end, detail] per line out."""
    from onnx_shapprune.isolation.limits import ProcessLimits, give_up

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    give_up(ProcessLimits(seconds=None, memory_mib=MEMORY_MIB, file_mib=64), cuda=False)
    from onnx_shapprune.commands import audit

    assert audit
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(handle(Path(line.rstrip("\n")))) + "\n")
        answers.flush()


def handle(path: Path) -> tuple[str, str]:
    """Open one file all the way."""
    import numpy as np

    from onnx_shapprune.case.open import open_model
    from onnx_shapprune.case.shown import Shown
    from onnx_shapprune.commands.inspect import inspect
    from onnx_shapprune.detect.deployed import deployed_doubts, gradient_doubt
    from onnx_shapprune.errors import HostileFileError, LimitError, ShapPruneError, UnsupportedOpError
    from onnx_shapprune.graph.bake import bake
    from onnx_shapprune.graph.limits import FileLimits
    from onnx_shapprune.graph.provenance.oddities import graph_doubt
    from onnx_shapprune.invert.written import written_trigger
    from onnx_shapprune.report.graph import inspect_text
    from onnx_shapprune.report.text import json_text
    from onnx_shapprune.runtime.session import Device
    from onnx_shapprune.settings import InputOptions

    limits = FileLimits(**LIMITS)
    try:
        try:
            record = inspect(path, limits=limits)
            inspect_text(record)
            json_text(record)
        except ShapPruneError:
            pass  # opening it says the same
        opened = open_model(path, InputOptions(limits=limits), Device(threads=1))
        h, w, c = opened.interface.height, opened.interface.width, opened.interface.channels
        picture = np.zeros((1, h, w, c), np.float32)
        logits = opened.subject.logits(picture)
        bake(opened.file.loaded, opened.units.layers, {u.name: [0, u.channels - 1] for u in opened.units.layers})
        deployed_doubts(opened, picture, (), np.random.default_rng(0))
        if graph_doubt(opened.oddities):
            written_trigger(Shown(opened.subject, picture, np.zeros(1, np.int64), logits))
        try:
            opened.subject.gradient(picture, np.zeros(1, np.int64))
            gradient_doubt(opened.subject, picture, np.random.default_rng(0))
        except UnsupportedOpError:
            return "opened, no gradient", ""
        return "opened", ""
    except HostileFileError as error:
        return f"hostile {error.hazards[0][0]}", ""
    except LimitError:
        return "limit", ""
    except MemoryError:
        return "limit", ""
    except ShapPruneError as error:
        if "\n" in str(error):
            return "traceback", f"two lines: {error!r}"
        return f"refused: {' '.join(str(error).split()[:4])}", ""
    except Exception:
        return "traceback", traceback.format_exc()[-3000:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work()
        sys.exit()
    result = fuzz(asked.files, asked.seed, first=asked.first, keep=asked.keep, tell=True)
    print(f"{result.files} files of seed {asked.seed}:")
    for name, count in result.ends.most_common():
        print(f"  {name:28} {count:6}")
    sys.exit(bool(result.bad))
