"""Train small clean networks of unlike designs, as a folder that tests.benchmarks.detection and calibration can use.

    python -m tests.benchmarks.clean_nets --data DIR/cifar10.npz DIR/gtsrb.npz DIR/mnist.npz --out ZOO [--only TEXT]

What is usual for a clean network depends on its design: several seeds of one are not so many networks. Needs torch (the
`bench` extra); the data are those of tests.benchmarks.poison. Adam under a one-cycle rate, shifts of two pixels, flips where
the data set's name starts with cifar. Finished networks are not trained again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks.designs import DESIGNS
from tests.benchmarks.measure import Bytes, Labels
from tests.benchmarks.poison import answer, as_input, described, export


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
        export(net, x.shape[3], x.shape[1], asked.out / "clean" / f"{stem}.onnx")
        acc = float((answer(net, held) == truth).mean())
        entries.append(described(stem, None, data=data.stem, classes=classes, note=design) | {"measured": {"acc": acc}})
        manifest.write_text(json.dumps(entries, indent=1) + "\n")
        print(stem, f"{acc:.3f}", f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
