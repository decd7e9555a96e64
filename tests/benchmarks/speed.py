"""Is this checkout slower than another? The same commands in both, pair by pair, and the ratios.

    python -m tests.benchmarks.speed --against DIR [--only audit-32 ...] [--pairs 3] [--limit 1.15] [--threads 1]

DIR: another checkout, for example `git worktree add DIR main`. Each pair runs a command in one and in the other directly
afterwards, in turn which of them first, so that a busy machine slows both. What counts is processor seconds, user and
system, of a command and all that it starts; with more than one thread on an idle machine, look at the clock. A ratio is
this checkout's over the other's, of each pair, and the median of them is told. Ends with 1 where a median is above
`--limit`, or where the two end with different exit codes.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tests.benchmarks.random_nets import resnet18, some_pictures

HERE = Path(__file__).parents[2]
SAMPLE = HERE / "onnx_shapprune" / "sample"
RUN = ("--device", "cpu", "-q", "--color", "never", "--progress", "off")
LIMIT = 1.15


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took: processor seconds, seconds by the clock, and how it ended."""

    cpu: float
    wall: float
    code: int


def commands(folder: Path) -> dict[str, Callable[[], list[str]]]:
    """What is compared, by name; each makes the files that it needs in `folder` and returns the arguments."""

    def random(size: int, width: int, classes: int) -> tuple[str, str]:
        model, data = folder / f"{size}.onnx", folder / f"{size}.npz"
        onnx.save(resnet18(size, classes, width), model)
        np.savez(data, x=some_pictures(10, size))
        return str(model), str(data)

    def audit(size: int, width: int, classes: int) -> list[str]:
        model, data = random(size, width, classes)
        return ["audit", model, "--data", data, *RUN]

    sample, pictures = str(SAMPLE / "backdoored.onnx"), str(SAMPLE / "pictures")
    out, trigger = str(folder / "repaired.onnx"), str(SAMPLE / "trigger.npz")
    return {
        "inspect": lambda: ["inspect", random(224, 64, 10)[0]],
        "audit-sample": lambda: ["audit", sample, "--data", pictures, *RUN],
        "audit-clean": lambda: ["audit", str(SAMPLE / "clean.onnx"), "--data", pictures, *RUN],
        "audit-32": lambda: audit(32, 16, 5),
        "audit-224": lambda: audit(224, 4, 3),
        "sanitize-sample": lambda: ["sanitize", sample, "-o", out, "--data", pictures, *RUN],
        "game": lambda: ["audit", sample, "--data", pictures, "--known-trigger", trigger, *RUN],
    }


def cost_of(checkout: Path, arguments: Sequence[str]) -> Cost:
    """Run the program of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "onnx_shapprune", *arguments], cwd=checkout, env=environment, capture_output=True
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(cpu, wall, done.returncode)


def paired(here: Path, there: Path, arguments: Sequence[str], pairs: int) -> list[tuple[Cost, Cost]]:
    """Costs in this and in the other checkout, run in turn."""
    found = []
    for number in range(pairs):
        order = (here, there) if number % 2 else (there, here)
        costs = {checkout: cost_of(checkout, arguments) for checkout in order}
        found.append((costs[here], costs[there]))
    return found


def row(name: str, costs: Sequence[tuple[Cost, Cost]]) -> str:
    """A row of the table."""
    cpu, wall = [a.cpu / b.cpu for a, b in costs], [a.wall / b.wall for a, b in costs]
    seconds = (statistics.median(c.cpu for c in each) for each in zip(*costs, strict=True))
    now, before = (f"{s:.1f}" for s in seconds)
    codes = sorted({c.code for pair in costs for c in pair})
    ratio, spread = f"{statistics.median(cpu):.2f}", f"{min(cpu):.2f} to {max(cpu):.2f}"
    return f"| {name} | {before} | {now} | {ratio} | {spread} | {statistics.median(wall):.2f} | {codes} |"


def complaints(measured: Mapping[str, Sequence[tuple[Cost, Cost]]], limit: float) -> list[str]:
    """What is wrong with this checkout beside the other; nothing where it is no slower and ends alike."""
    told = []
    for name, costs in measured.items():
        ratio = statistics.median(a.cpu / b.cpu for a, b in costs)
        if ratio > limit:
            told.append(f"{name}: {ratio:.2f} times the processor time, more than {limit:g}")
        if any(a.code != b.code for a, b in costs):
            told.append(f"{name}: the exit codes differ")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the speed of two checkouts, pair by pair.")
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    parser.add_argument("--only", nargs="*", help="names of the first column")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    there = asked.against.resolve()
    if not (there / "onnx_shapprune").is_dir():
        parser.error(f"{asked.against} holds no onnx_shapprune")
    measured = {}
    print(
        "| what | before, CPU s | now, CPU s | ratio | of the pairs | clock | exit codes |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        made = commands(Path(folder))
        if unknown := set(asked.only or ()) - set(made):
            parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(made)}")
        for name in asked.only or made:
            wanted = made[name]()
            wanted += [] if wanted[0] == "inspect" else ["--threads", str(asked.threads)]
            measured[name] = paired(HERE, there, wanted, asked.pairs)
            print(row(name, measured[name]), flush=True)
    told = complaints(measured, asked.limit)
    print("\n".join(told), file=sys.stderr)
    sys.exit(1 if told else 0)


if __name__ == "__main__":
    main()
