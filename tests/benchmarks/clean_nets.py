"""Train small clean networks of unlike designs, as a folder that tests.benchmarks.detection and calibration can use.

    python -m tests.benchmarks.clean_nets --data DIR/cifar10.npz DIR/gtsrb.npz DIR/mnist.npz --out ZOO [--only TEXT]

What is usual for a clean network depends on its design: several seeds of one are not so many networks. Needs torch (the
`bench` extra); the data are those of tests.benchmarks.poison. Adam under a one-cycle rate, shifts of two pixels, flips where
the data set's name starts with cifar. Finished networks are not trained again.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks.measure import Bytes, Labels
from tests.benchmarks.poison import answer, as_input


def plain(channels: int, side: int, classes: int) -> nn.Sequential:
    """Convolutions, ReLU and max pooling, nothing else."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * (side // 8) ** 2, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


def vgg(channels: int, side: int, classes: int) -> nn.Sequential:
    """VGG's blocks with BatchNorm, which the exporter folds, and dropout."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(
        *block(channels, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64),
        *block(64, 64), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * (side // 8) ** 2, classes),
    )  # fmt: skip


def depthwise(channels: int, side: int, classes: int) -> nn.Sequential:
    """Depthwise and pointwise convolutions with HardSwish, averaged over the picture."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False), nn.BatchNorm2d(before), nn.Hardswish(),
            nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.Hardswish(),
        ]  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish(), *block(24, 48, 1),
        *block(48, 48, 1), *block(48, 96, 2), *block(96, 96, 1), *block(96, 128, 2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(128, classes),
    )  # fmt: skip


def lenet(channels: int, side: int, classes: int) -> nn.Sequential:
    """LeNet-5's layout: 5 x 5 convolutions, tanh, average pooling."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(16 * ((side // 2 - 4) // 2) ** 2, 120), nn.Tanh(), nn.Linear(120, classes),
    )  # fmt: skip


def strided(channels: int, side: int, classes: int) -> nn.Sequential:
    """Strided convolutions with leaky ReLU and GroupNorm, no pooling."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.LeakyReLU(0.1)]

    return nn.Sequential(
        *block(channels, 16, 1), *block(16, 32, 2), *block(32, 64, 2), *block(64, 64, 2), nn.Flatten(),
        nn.Linear(64 * (-(-side // 8)) ** 2, classes),
    )  # fmt: skip


def dense(channels: int, side: int, classes: int) -> nn.Sequential:
    """Fully connected."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side**2, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


DESIGNS: dict[str, Callable[[int, int, int], nn.Sequential]] = {
    "plain": plain, "vgg": vgg, "depthwise": depthwise, "lenet": lenet, "strided": strided, "dense": dense,
}  # fmt: skip


def fit(net: nn.Module, x: Bytes, y: Labels, *, epochs: int, flip: bool, rng: np.random.Generator) -> None:
    """Train in place; leaves the network in evaluation mode."""
    batch, rate = 100, 3e-3
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * (len(x) // batch))
    for _ in range(epochs):
        for rows in rng.permutation(len(x))[: len(x) // batch * batch].reshape(-1, batch):
            shown = as_input(np.roll(x[rows], rng.integers(-2, 3, 2), (1, 2)))
            if flip and rng.random() < 0.5:
                shown = shown.flip(3)
            loss = functional.cross_entropy(net(shown), torch.from_numpy(y[rows]))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train clean networks of unlike designs.")
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, required=True, help="the folder with manifest.json")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks whose name holds TEXT")
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    (asked.out / "clean").mkdir(parents=True, exist_ok=True)
    manifest = asked.out / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else []
    for place, (data, design) in enumerate((data, design) for design in DESIGNS for data in asked.data):
        stem = f"{design}_{data.stem}"
        if asked.only not in stem or any(e["file"] == f"{stem}.onnx" for e in entries):
            continue
        with np.load(data) as stored:
            x, y, held, truth = (stored[k] for k in ("x_train", "y_train", "x_test", "y_test"))
        torch.manual_seed(place)
        started, classes = time.monotonic(), int(y.max()) + 1
        net = DESIGNS[design](x.shape[3], x.shape[1], classes)
        flip = data.stem.startswith("cifar")
        fit(net, x, y.astype(np.int64), epochs=asked.epochs, flip=flip, rng=np.random.default_rng(place))
        torch.onnx.export(
            net, (torch.zeros(2, x.shape[3], *x.shape[1:3]),), asked.out / "clean" / f"{stem}.onnx", dynamo=False,
            opset_version=17, input_names=["input"], output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
        acc = float((answer(net, held) == truth).mean())
        entries.append({
            "file": f"{stem}.onnx", "folder": "clean", "kind": "clean", "layout": "NCHW", "scale": 255, "mean": 0,
            "std": 1, "data": data.stem, "classes": classes, "note": design, "measured": {"acc": acc},
        })  # fmt: skip
        manifest.write_text(json.dumps(entries, indent=1) + "\n")
        print(stem, f"{acc:.3f}", f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
