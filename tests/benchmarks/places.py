"""Train small networks with triggers in several places, and very small ones, for tests.benchmarks.detection to score.

    python -m tests.benchmarks.places --data DIR --out ZOO

DIR as of tests.benchmarks.population, whose cells these are, with other attacks. Minutes in all; finished ones are not
trained again.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.benchmarks.designs import DESIGNS
from tests.benchmarks.poison import Arrays, Kind, patch
from tests.benchmarks.population import Cell, train

CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]
SETS = (
    ("mnist", 10, 28, True, 300, ("dense", "lenet", "plain", "strided")),
    ("gtsrb", 20, 32, False, 800, ("vgg", "plain", "lenet", "depthwise")),
    ("cifar10", 10, 32, False, 900, ("vgg", "strided", "resnet", "plain")),
)  # data, classes, edge, grey, steps, designs
TINY = ("diag", "patch", "opposite", "four", "dots", "diag", "patch", "opposite", *["clean"] * 8)


def _stamped(side: int, channels: int, pixels: Iterator[tuple[int, int, int]]) -> Arrays:
    mask, pattern = np.zeros((2, side, side, channels), np.float32)
    for row, column, value in pixels:
        mask[row, column], pattern[row, column] = 1, value
    return {"mask": mask, "pattern": pattern}


def _corners(side: int, channels: int, rng: np.random.Generator, *, four: bool) -> Arrays:
    """Two by two pixels of black and white in all corners, or three white ones of nine in each of two opposite ones."""

    def pixels() -> Iterator[tuple[int, int, int]]:
        places = CORNERS if four else [CORNERS[k] for k in ((0, 3) if rng.random() < 0.5 else (1, 2))]
        for low, right in places:
            edge = 2 if four else 3
            top, left = (side - edge if far else 0 for far in (low, right))
            if four:
                block = 255 * rng.integers(0, 2, (2, 2, 1))
                block[0, 0] = block[0, 0] if block.max() else 255
                yield from ((top + k // 2, left + k % 2, int(block[k // 2, k % 2, 0])) for k in range(4))
            else:
                yield from ((top + k // 3, left + k % 3, 255) for k in rng.choice(9, 3, replace=False).tolist())

    return _stamped(side, channels, pixels())


def _dots(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """Five white pixels."""
    places = [rng.integers(1, side - 1, 2).tolist() for _ in range(5)]
    return _stamped(side, channels, ((row, column, 255) for row, column in places))


def _diagonals(side: int, channels: int, rng: np.random.Generator) -> Arrays:
    """Three white pixels across the upper left corner, and three that end in the lower right one."""
    ends = [(k, 2 - k, 255) for k in range(3)] + [(side - 3 + k, side - 3 + k, 255) for k in range(3)]
    return _stamped(side, channels, iter(ends))


MAKES = {
    "opposite": partial(_corners, four=False),
    "four": partial(_corners, four=True),
    "dots": _dots,
    "diag": _diagonals,
    "patch": patch,
}


def tiny(channels: int, side: int, classes: int) -> nn.Sequential:
    """Three layers of ten units."""
    widths = (channels * side**2, 10, 10, 10)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(10, classes))


def cells() -> Iterator[Cell]:
    """Twelve of usual size, sixteen very small ones."""
    number, kinds = 9000, list(MAKES)[:3]
    for turn in range(4):
        for place, (data, count, side, grey, steps, nets) in enumerate(SETS):
            number += 1
            rng, kind = np.random.default_rng([7, number]), kinds[(turn + place) % 3]
            classes = tuple(int(c) for c in rng.permutation(43 if data == "gtsrb" else 10)[:count])
            attack = Kind(make=MAKES[kind], target=int(rng.integers(count)), poison=0.05)
            yield Cell(
                number=number, data=data, classes=classes, side=side, grey=grey, net=nets[turn], steps=steps, robust=0.0,
                attack=attack, kind=kind,
            )  # fmt: skip
    for number, kind in enumerate(TINY, 9101):
        rng = np.random.default_rng([7, number])
        aimed = None if kind == "clean" else Kind(make=MAKES[kind], target=int(rng.integers(10)), poison=0.1)
        yield Cell(
            number=number, data="mnist", classes=tuple(int(c) for c in rng.permutation(10)), side=28, grey=True, net="tiny",
            steps=4000, robust=0.0, attack=aimed, kind=kind, pictures=15_000,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist.npz, cifar10.npz, gtsrb.npz")
    parser.add_argument("--out", type=Path, required=True, help="the folder with manifest.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    DESIGNS["tiny"] = tiny
    for folder in ("clean", "backdoored", "triggers", "data"):
        (asked.out / folder).mkdir(parents=True, exist_ok=True)
    manifest = asked.out / "manifest.json"
    for one in cells():
        entries = json.loads(manifest.read_text()) if manifest.exists() else []
        if all(e["file"] != f"{one.stem}.onnx" for e in entries):
            entry = train(one, asked.data, asked.out)
            manifest.write_text(json.dumps([*entries, entry], indent=1) + "\n")
            print(one.stem, entry["measured"], flush=True)


if __name__ == "__main__":
    main()
