"""Peak memory and time of the commands on large files: a ResNet-50, a VGG-16, and one of more than 2 GB of weights.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.large --out DIR [--only vgg16] [--seconds 5]

Random weights, pictures of 224 x 224, 10 classes. DIR gets the files, one after the other, and is emptied of them again.
Memory is the resident size of the command and its children together, sampled ten times a second. The `bake` of the table
is what sanitize does with a plan: open the file, switch a dozen random units off, write it with its external data, open
that again and compare it with the masked run. Needs psutil (the `bench` extra).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil

from onnx_shapprune.case.open import open_case
from onnx_shapprune.commands.repair import reopen
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.external import write_like
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.prune.proof import masked_logits, prove_baked
from onnx_shapprune.settings import InputOptions, RunOptions
from tests.benchmarks.replay import resnet
from tests.models import Net

UNITS = 12
PICTURES = 4
LIMITS = ("--limit", "file-mib=8192", "--memory-limit", "24000")


def resnet50() -> onnx.ModelProto:
    return resnet(64, 224, (3, 4, 6, 3), bottleneck=True)


def vgg16() -> onnx.ModelProto:
    n, x, before = Net(0), "x", 3
    for after in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if after:
            x, before = n.op("Relu", n.conv(x, before, after)), after
        else:
            x = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return n.model(_dense(n, n.op("Flatten", x), 512 * 49, 4096, 4096), shape=(3, 224, 224), classes=10)


def wide() -> onnx.ModelProto:
    """2.3 GB: two convolutions and dense layers of 20,000 features."""
    n = Net(0)
    x = n.op("Relu", n.op("Conv", "x", n.normal(16, 3, 8, 8), n.normal(16), strides=[8, 8]))
    x = n.op("Flatten", n.op("Relu", n.op("Conv", x, n.normal(32, 16, 4, 4), n.normal(32), strides=[4, 4])))
    return n.model(_dense(n, x, 32 * 49, 18_000, 18_000, 12_000), shape=(3, 224, 224), classes=10)


def _dense(n: Net, x: str, before: int, *after: int) -> str:
    """Layers whose weights repeat a million random numbers: to draw half a billion takes minutes."""
    numbers = n.rng.normal(size=1_000_003).astype(np.float32)
    for width in after:
        weight = n.const(np.resize(numbers, (width, before)) * np.float32((2 / before) ** 0.5))
        x, before = n.op("Relu", n.op("Gemm", x, weight, n.normal(width, scale=0.1), transB=1)), width
    return n.dense(x, before, 10)


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {"resnet50": resnet50, "vgg16": vgg16, "wide": wide}


def save(model: onnx.ModelProto, path: Path) -> int:
    """Write the weights beside the model; their size in bytes."""
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    return path.with_name(f"{path.name}.data").stat().st_size


def measured(command: list[str]) -> tuple[int, float, float]:
    """Exit code, seconds, and peak MiB of a command and all that it starts."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(0.1)
    return running.returncode, time.perf_counter() - start, peak / (1 << 20)


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.Error:  # one has just ended
        pass
    return total


def bake_and_prove(path: Path, pictures: Path, out: Path) -> None:
    """What sanitize does with a plan. Raises ShapPruneError."""
    inputs = InputOptions(limits=FileLimits(file_mib=8192))
    case = open_case(path, pictures, inputs, RunOptions(device="cpu", threads=1))
    model, rng = case.model, np.random.default_rng(0)
    layers = [model.units.layers[i] for i in rng.choice(len(model.units.layers), UNITS)]
    off = {layer.name: [int(rng.integers(layer.channels))] for layer in layers}
    model.subject.rest()
    masked = masked_logits(model.subject, model.units.layers, off, case.pictures)
    model.subject.rest(model.file.loaded)
    with tempfile.TemporaryDirectory() as folder:
        baked = bake(model.file.loaded, model.units.layers, off)
        files = write_like(model.file.proto, baked, Path(folder), out.name)
        del baked
        reread = reopen(files, inputs, case)
    print(f"masked - baked: {prove_baked(masked, reread.subject.logits(case.pictures)):.1g}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory and time of the commands on large files.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=list(MODELS), nargs="*", default=list(MODELS))
    parser.add_argument("--commands", nargs="*", default=["inspect", "mask", "bake", "audit"])
    parser.add_argument("--seconds", type=int, default=5, help="--search-budget of the audit")
    parser.add_argument("--bake", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    pictures = asked.out / "pictures.npz"
    if asked.bake:
        bake_and_prove(asked.bake, pictures, asked.out / "baked.onnx")
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    np.savez(pictures, x=np.random.default_rng(0).integers(0, 256, (PICTURES, 224, 224, 3), np.uint8))
    print("| model | weights, MB | command | exit code | seconds | peak MiB |\n|---|---|---|---|---|---|", flush=True)
    tool = [sys.executable, "-m", "onnx_shapprune"]
    for name in asked.only:
        folder = asked.out / name
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.onnx"
        size = save(MODELS[name](), path)
        audit = [*tool, "audit", str(path), "--search-budget", str(asked.seconds), "--threads", "1", *LIMITS, "--data"]
        commands = {
            "inspect": [*tool, "inspect", str(path), *LIMITS],
            "mask": [*tool, "mask", str(path), "-o", str(folder / "masked.onnx"), *LIMITS],
            "bake": [sys.executable, "-m", "tests.benchmarks.large", "--out", str(asked.out), "--bake", str(path)],
            "audit": [*audit, str(pictures)],
            "audit --data none": [*audit, "none"],
        }
        for command in asked.commands:
            code, seconds, peak = measured(commands[command])
            print(f"| {name} | {size / 1e6:,.0f} | {command} | {code} | {seconds:.0f} | {peak:,.0f} |", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
