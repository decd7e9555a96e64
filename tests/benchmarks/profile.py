"""Where an audit's time goes: by search, by step of a search, and by operator of the gradient graph.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.profile [--net resnet18 --size 32 ...] [--command sanitize]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.profile --model FILE.onnx --data PICTURES.npz

Without a file, networks of tests.benchmarks.random_nets with ten pictures of noise. Processor seconds of one thread. What a
part calls is counted where it was spent, not where it was called, so that the rows of a table add up.
"""

import argparse
import contextlib
import functools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime

from onnx_shapprune.autodiff.loss import attack_gradient
from onnx_shapprune.case import open as opening
from onnx_shapprune.case import subject
from onnx_shapprune.commands import audit as auditing
from onnx_shapprune.commands import repair as repairing
from onnx_shapprune.detect import examination
from onnx_shapprune.invert import arms, scan, search, warping
from onnx_shapprune.prune import collapse, lesson, realign
from onnx_shapprune.runtime.session import Device, session_options
from onnx_shapprune.settings import InputOptions, RunOptions
from tests.benchmarks.random_nets import MADE, some_pictures

BATCH = 16

# What is timed: where it is looked up, and what it is called in the table.
SEARCHES: tuple[tuple[Any, str, str], ...] = (
    (auditing, "open_case", "open"),
    (search, "search_free", "free masks"),
    (search, "transfer_rate", "transfer"),
    (search, "peaks", "largest margins"),
    (examination, "search_relations", "pairs and maps"),
    (auditing, "collapsed", "collapse"),
    (auditing, "doubts", "confirm"),
    (auditing, "rank", "shapley"),
)
REPAIRS: tuple[tuple[Any, str, str], ...] = (
    (lesson, "realign", "realign"),
    (lesson.Lesson, "unseen", "unseen pictures"),
)
STEPS: tuple[tuple[Any, str, str], ...] = (
    (subject.Session, "run", "onnxruntime"),
    (subject, "to_input", "bytes to input"),
    (subject, "pull_back", "gradient to bytes"),
    (subject, "attack_gradient", "build of gradient graphs"),
    (subject.Session, "__init__", "sessions opened"),
    (arms, "stamp", "triggers put on"),
    (arms, "bend", "triggers put on"),
    (warping.Bent, "in_flow", "gradient of warps"),
    (arms, "slopes", "sums of gradients"),
    (arms, "pair", "draws"),
    (scan, "pair", "draws"),
    (scan, "slopes", "sums of gradients"),
    (scan, "tried", "arms rated"),
    (realign, "_solved", "systems solved"),
)


class Spent:
    """Seconds by label, each spent in the innermost part that is timed."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def part(self, label: str) -> Iterator[None]:
        self._book()
        self._open.append(label)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def timing(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            with self.part(label):
                return function(*args, **named)

        return timed

    def _book(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def profiled(
    command: Callable[[], object], parts: tuple[tuple[Any, str, str], ...], *, families: bool
) -> Mapping[str, float]:
    """Seconds of a command by part. families: scans by the family that is searched, too."""
    spent = Spent()
    with contextlib.ExitStack() as stack:
        for owner, name, label in parts:
            stack.enter_context(mock.patch.object(owner, name, spent.timing(getattr(owner, name), label)))
        for owner in (search, collapse) if families else ():
            plain = owner.scan

            def scanned(shown: Any, goals: Any, family: Any, *rest: Any, plain: Any = plain, **named: Any) -> Any:
                with spent.part(f"{family.name} triggers"):
                    return plain(shown, goals, family, *rest, **named)

            stack.enter_context(mock.patch.object(owner, "scan", scanned))
        if families:
            begun = search.rounds_of

            def rounds(shown: Any, goals: Any, family: Any, *rest: Any) -> Iterator[Any]:
                every = begun(shown, goals, family, *rest)
                while True:
                    with spent.part(f"{family.name} triggers"):
                        found = next(every, None)
                    if found is None:
                        return
                    yield found

            stack.enter_context(mock.patch.object(search, "rounds_of", rounds))
        with spent.part("the rest"):
            command()
    return spent.seconds


def by_operator(model: Path, data: Path, inputs: InputOptions) -> Mapping[str, float]:
    """Share of the gradient graph's time by operator, 0..1, from onnxruntime's own profile of a few runs."""
    case = opening.open_case(model, data, inputs, RunOptions(device="cpu", threads=1))
    p = case.model.subject.prepared
    graph = attack_gradient(p.model, p.infos, input_name=p.input, logits_name=p.logits, wrt=[p.input])
    options = session_options(Device(threads=1), optimize=True)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        x = np.resize(case.pictures, (BATCH, *case.pictures.shape[1:]))
        feeds = {
            p.input: subject.to_input(x, case.model.subject.preprocessing),
            "target": np.eye(p.classes, dtype=np.float32)[np.arange(BATCH) % p.classes],
            "w_ce": np.zeros(BATCH, np.float32),
            "w_margin": np.ones(BATCH, np.float32),
            "margin_cap": np.asarray(1e9, np.float32),
        }
        for _ in range(4):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        kind = event.get("args", {}).get("op_name")
        if event.get("cat") == "Node" and kind and event["name"].endswith("_kernel_time"):
            back = "backward" if "bwd_" in event["name"] else "forward"
            spent[f"{kind}, {back}"] += event["dur"]
    return {kind: duration / spent.total() for kind, duration in spent.items()}


def table(title: str, seconds: Mapping[str, float], *, most: int = 16) -> str:
    """Markdown, the largest first."""
    total = sum(seconds.values())
    unit = "" if abs(total - 1) < 1e-6 else f", {total:.1f} s"
    lines = [f"| {title}{unit} | % |", "|---|---|"]
    largest = sorted(seconds.items(), key=lambda item: -item[1])[:most]
    return "\n".join([*lines, *(f"| {name} | {100 * s / total:.1f} |" for name, s in largest), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Where an audit's time goes.")
    parser.add_argument("--net", choices=list(MADE), default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--model", type=Path, help="a file instead of a random network")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--command", choices=["audit", "sanitize"], default="audit")
    asked = parser.parse_args()
    run, inputs = RunOptions(device="cpu", threads=1), InputOptions()
    with tempfile.TemporaryDirectory() as folder:
        model, data = asked.model, asked.data
        if model is None:
            model, data = Path(folder) / "model.onnx", Path(folder) / "pictures.npz"
            onnx.save(MADE[asked.net](asked.size), model)
            np.savez(data, x=some_pictures(10, asked.size))

        def command() -> object:
            if asked.command == "audit":
                return auditing.audit(model, data, inputs=inputs, run=run)
            return repairing.sanitize(model, data, output=Path(folder) / "out.onnx", inputs=inputs, run=run)

        name = f"{asked.net} {asked.size}" if asked.model is None else model.name
        print(table(f"{name}, {asked.command}, by search", profiled(command, (*SEARCHES, *REPAIRS), families=True)))
        print(table(f"{name}, by step", profiled(command, STEPS, families=False)))
        print(table(f"{name}, gradient graph, by operator", by_operator(model, data, inputs)))


if __name__ == "__main__":
    main()
