"""Does the audit compute the same on a GPU, on which of its providers do the nodes really run, and is it faster?

    python -m tests.benchmarks.cuda [--json FILE] [--only resnet18-32 ...] [--seconds 420]

Random networks (tests.benchmarks.random_nets). Of each, on the CPU of this machine with all its cores and on the first GPU:
gradients of a search step, compact patches for one class, coalitions of a game, and layers realigned against what was found.
Differences are the largest, as a share of the largest value, of gradients in the middle one of the pictures. Beside it:
the nodes by provider, where the values of a run stay, forward runs with CUDA graphs and without, and PyTorch with forward
hooks where it is installed. Nothing new is begun after `--seconds`. Ends with 1 where a difference is above what rounding
makes, and with 2, in one line, where there is no GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from onnx_shapprune.autodiff.loss import attack_gradient
from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import Opened, open_model
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.game.replay import Player, Replay
from onnx_shapprune.graph.linear import find_linears
from onnx_shapprune.invert.families import compact
from onnx_shapprune.invert.scan import ScanSettings, scan
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.lesson import Lesson
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.runtime.session import (
    CUDA,
    Device,
    Session,
    available_providers,
    provider_list,
    session_options,
    to_device,
    trial,
)
from onnx_shapprune.settings import InputOptions
from tests.benchmarks.random_nets import MADE, some_pictures
from tests.benchmarks.replay import hooks, timed

NETS = ("resnet18-32", "resnet18-224", "resnet50-224", "vit-224")
PICTURES, COALITIONS = 16, 12
LEAST = 1.0  # seconds that a figure is measured for
TOLERANCE = 1e-3
# Rounding decides between two slopes where a value lies at the kink of a ReLU. On one CPU, with onnxruntime's optimisations
# and without: gradients of a ResNet-18 differ by up to 5 % in one picture of 16 and by 1e-6 in most, those of a ResNet-50 at
# 224 x 224 by 0.5 % in the middle one and 3 % at most, and its search by 3 %.
KINKED = {"gradient": 0.05, "search": 0.05}
SHORT = ScanSettings(rounds=((2, 2, 4), (3, 4, 2)))

Found = dict[str, object]


def reason_against(device: Device) -> str:
    """Why nothing can be measured here, "" where it can."""
    if device.provider not in available_providers():
        return "this onnxruntime has no CUDA provider"
    return trial(device)


def apart(mine: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """The largest difference as a share of the largest value."""
    return float(np.abs(mine - theirs).max() / max(float(np.abs(theirs).max()), 1e-30))


def usual(mine: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """The same in the middle one of the rows."""
    return float(np.median([apart(m, t) for m, t in zip(mine, theirs, strict=True)]))


def by_provider(subject: Subject) -> dict[str, int]:
    """How many nodes of the gradient graph each provider runs, by onnxruntime's own profile of a run."""
    p, device = subject.prepared, subject.device
    graph = attack_gradient(p.model, p.infos, input_name=p.input, logits_name=p.logits, wrt=[p.input])
    options = session_options(device, optimize=True)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=provider_list(device))
        x = np.zeros((1, *(d for d in p.infos[p.input].shape if d)), np.float32)
        session.run(
            None,
            {
                p.input: x,
                "target": np.eye(p.classes, dtype=np.float32)[:1],
                "w_ce": np.zeros(1, np.float32),
                "w_margin": np.ones(1, np.float32),
                "margin_cap": np.asarray(1e9, np.float32),
            },
        )
        events = json.loads(Path(session.end_profiling()).read_text())
    return dict(Counter(e["args"]["provider"] for e in events if e.get("args", {}).get("provider")))


def results(opened: Opened, pictures: NDArray[np.float32]) -> dict[str, Callable[[], NDArray[np.floating]]]:
    """What an audit computes on one device, by name; each returns numbers that must not depend on the device."""
    subject = opened.subject
    labels = np.asarray(subject.logits(pictures).argmax(1), np.int64)
    shown, targets = Shown.to(subject, pictures, labels), np.arange(len(pictures)) % subject.classes
    family = compact(*shown.size[:2], max(3, shown.size[0] // 6), 2)
    layers = opened.units.layers
    players = [Player(i, c) for i in range(len(layers))[-3:] for c in range(min(8, layers[i].channels))]
    replay = Replay(subject.prepared, layers, players, to_input(pictures[:4], subject.preprocessing), subject.device)
    linears, _ = find_linears(opened.file.loaded, opened.interface.output, subject.prepared.model)

    def searched() -> NDArray[np.floating]:
        found = scan(shown, [Goal(0)], family, SHORT, np.random.default_rng(0))
        return np.array([f.margin for f in found])

    rng = np.random.default_rng(0)

    def played() -> NDArray[np.floating]:
        """Coalitions that were not played yet: what was played is kept."""
        return replay(rng.random((COALITIONS, len(players))) < 0.5)

    def repaired() -> NDArray[np.floating]:
        trigger = family.trigger(0, family.starts(np.array([0]), 3, np.random.default_rng(0))[0], Goal(0))
        lesson = Lesson(shown, subject, linears[-2:], [trigger], rich=False)
        made = lesson.fitted(Fit(rows=500), np.random.default_rng(0))
        return lesson.learnt(made.prepared).logits(pictures)

    return {
        "gradient": lambda: subject.gradient(pictures, targets)[1],
        "search": searched,
        "game": played,
        "repair": repaired,
    }


def compared(model: Path, pictures: NDArray[np.float32], device: Device, plain: Device) -> Found:
    """Differences and seconds of everything in `results` on two devices, the second of them the reference."""
    found: Found = {}
    both = [results(open_model(model, InputOptions(), d), pictures) for d in (device, plain)]
    for name in both[0]:
        values, seconds = [], []
        for each in both:
            values.append(each[name]())
            start = time.perf_counter()
            each[name]()
            seconds.append(time.perf_counter() - start)
        found[name] = {
            "difference": (usual if name == "gradient" else apart)(*values),
            "seconds": seconds[0],
            "reference": seconds[1],
        }
    return found


def runs(model: onnx.ModelProto, x: NDArray[np.float32], device: Device) -> Found:
    """Milliseconds of a forward run: from and to the host, on values that stay on the device, and by a CUDA graph."""
    session = Session(model, device)
    value = {"x": to_device(x, device)}
    (there,) = session.run_resident(value).values()
    found: Found = {
        "values stay on": str(there.value.device_name()),
        "from host, ms": 1e3 * timed(lambda: session.run({"x": x}), LEAST),
        "resident, ms": 1e3 * timed(lambda: session.run_resident(value), LEAST),
    }
    if device.provider != CUDA:
        return found
    ((name, options), *_) = provider_list(device)
    asked = (name, {**options, "enable_cuda_graph": "1"})
    try:
        graph = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(device, optimize=True), providers=[asked]
        )
        binding = graph.io_binding()
        binding.bind_ortvalue_input("x", value["x"].value)
        binding.bind_ortvalue_output(session.outputs[0], there.value)
        found["CUDA graph, ms"] = 1e3 * timed(lambda: graph.run_with_iobinding(binding), LEAST)
    except Exception as error:  # not every graph can be captured
        found["CUDA graph, ms"] = str(error).splitlines()[0][:120]
    return found


def measured(name: str, folder: Path, device: Device, plain: Device) -> Found:
    """All figures of one network."""
    kind, size = name.split("-")
    path = folder / f"{name}.onnx"
    model = MADE[kind](int(size))
    onnx.save(model, path)
    pictures = some_pictures(PICTURES, int(size)).astype(np.float32)
    found = compared(path, pictures, device, plain)
    subject = open_model(path, InputOptions(), device).subject
    found["nodes"] = by_provider(subject)
    x = to_input(pictures, subject.preprocessing)
    found["runs"], found["runs of the reference"] = runs(model, x, device), runs(model, x, plain)
    if name == "resnet18-32":
        for place in ("cpu", "cuda") if device.provider == CUDA else ("cpu",):
            try:
                hooked = hooks(64, x, plain.threads or 1, place)
                if hooked:
                    found[f"PyTorch hooks on {place}, ms"] = 1e3 * timed(hooked, LEAST)
            except (RuntimeError, AssertionError) as error:  # a PyTorch without CUDA
                found[f"PyTorch hooks on {place}, ms"] = str(error).splitlines()[0][:120]
    return found


def table(every: dict[str, Found]) -> str:
    """Markdown, a row for each network and what was computed."""
    lines = ["| network | what | GPU, s | CPU, s | CPU / GPU | difference |", "|---|---|---|---|---|---|"]
    for name, found in every.items():
        for what, figures in found.items():
            if isinstance(figures, dict) and "difference" in figures:
                mine, theirs = figures["seconds"], figures["reference"]
                numbers = f"{mine:.3f} | {theirs:.3f} | {theirs / mine:.1f} | {figures['difference']:.1g}"
                lines.append(f"| {name} | {what} | {numbers} |")
        rest = {k: v for k, v in found.items() if not (isinstance(v, dict) and "difference" in v)}
        lines += [f"| {name} | {what} | {value} | | | |" for what, value in rest.items()]
    return "\n".join(lines)


def far(every: dict[str, Found]) -> list[str]:
    """What differs by more than it may."""
    return [
        f"{name}: {what} differs by {figures['difference']:.1g}"
        for name, found in every.items()
        for what, figures in found.items()
        if isinstance(figures, dict) and figures.get("difference", 0) > KINKED.get(what, TOLERANCE)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The audit on a GPU: results, providers, seconds.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=NETS, nargs="*", default=NETS)
    parser.add_argument("--seconds", type=float, default=420)
    asked = parser.parse_args()
    plain, end = Device(), time.monotonic() + asked.seconds
    device = replace(plain, provider=CUDA)
    if reason := reason_against(device):
        print(f"nothing measured, there is no GPU to run on: {reason}", file=sys.stderr)
        sys.exit(2)
    every: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            every[name] = measured(name, Path(folder), device, plain) if time.monotonic() < end else {"skipped": "time"}
            if asked.json:
                asked.json.write_text(json.dumps(every, indent=1))
    print(table(every))
    told = far(every)
    print("\n".join(told), file=sys.stderr)
    sys.exit(1 if told else 0)


if __name__ == "__main__":
    main()
