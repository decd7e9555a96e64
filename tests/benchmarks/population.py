"""Train a population of small networks, clean and backdoored, that says what is usual: the calibration rests on it.

    python -m tests.benchmarks.population --data DIR --out ZOO [--from 0] [--to 1200] [--least 2]

A network is drawn by its number: data (DIR/mnist.npz, cifar10.npz, gtsrb.npz, and scikit-learn's digits), how many classes,
size and colour of the pictures, design, how long and how robustly it is trained and, of two in five, an attack, its trigger
and its share of poison. The same number is the same network, so that a stopped run goes on, and several may share the work.
Needs torch (the `bench` extra) and scikit-learn. Written: ZOO as of tests.benchmarks.poison, and ZOO/data, its pictures.
Then, in any order, tests.benchmarks.detection --task audit and tests.benchmarks.calibration.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from tests.benchmarks.crowds import CROWDS, crowd, members
from tests.benchmarks.designs import DESIGNS
from tests.benchmarks.measure import Bytes, Labels, TrueTrigger
from tests.benchmarks.poison import (
    KINDS,
    LARGEST,
    WIDE,
    Kind,
    answer,
    described,
    export,
    fit,
    patch,
    poisoned,
    rates,
)

SETS = {
    "mnist": (80, 160, 320),
    "cifar10": (250, 500, 900),
    "gtsrb": (250, 500, 900),
    "digits": (80, 160, 320),
}  # steps
FEW, HELD, SHOWN = 6000, 600, 20  # pictures to train on, to test on, and of a class to audit with, at most
ATTACKS = [k for k in KINDS if KINDS[k].poison]
# Networks from these numbers on take pictures of these sizes.
EDGES = ((1000, (160, 224)), (600, (48, 64, 96, 128)))
# From here on networks have many classes (tests.benchmarks.crowds): how many, pictures of each, steps, edges, and the
# designs that learn so many in minutes.
CROWDED = 2000
MANY, EACH, LONG, MIDDLE = (64, 100, 200, 400, 800, 1300), 24, (900, 1500), (32, 32, 32, 48)
# From here on they are like the first ones again.
AGAIN = 3000
# From here on they are clean ones that answer fewer of the pictures rightly than others of their data do: what has learnt
# little, or something else than it is shown, is easily moved by nature.
POOR = 5000
FLAWS = ("hurried", "masked", "sparse", "cropped", "paler")
POOR_DATA = ("mnist", "gtsrb", "digits")
HURRY, HOLE, CROP, PALE, KEPT = (0.1, 0.3), (0.3, 0.7), (0.65, 0.9), (0.25, 0.6), (0.1, 0.5)  # ranges of how strong
# From here on they are clean ones that answer more of the pictures rightly: twice as wide, and trained on all there are.
GOOD = 6000
GOOD_DATA, GOOD_NETS, EPOCHS = ("cifar10", "cifar10", "gtsrb"), ("resnet", "strided", "vgg", "plain", "depthwise"), 6
# And from here on better still: designs that learn more of CIFAR-10, for longer.
BETTER, BETTER_NETS, MORE_EPOCHS = 6100, ("resnet", "vgg"), 15
OTHER, OTHER_NETS = 6200, ("joined", "gated", "strided")  # and from here on of other designs
# And from here on they have one more class, of what is none of the others: partial and covered ones.
REST, REST_DATA, REST_NETS = 6300, ("mnist", "gtsrb"), ("vgg", "plain", "strided", "resnet", "depthwise")
REST_STEPS, RESTS = (240, 400), 1 / 6  # of training; the share of all pictures
AWAY = (1 / 3, 1 / 2)  # how far they are pushed, or how large a piece is, of the edge
SWIFT = ("plain", "vgg", "lenet", "dense", "strided", "depthwise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One network to train. classes: original labels, in their new order; side: edge of the pictures in pixels; steps: of
    training, on 100 pictures; attack: None for a clean one; robust: as of `fit`; flaw: one of FLAWS or "rest"; width: of
    the design; pictures: to train on, at most.
    """

    number: int
    data: str
    classes: tuple[int, ...]
    side: int
    grey: bool
    net: str
    steps: int
    robust: float
    attack: Kind | None
    kind: str
    flaw: str = ""
    width: int = 8
    pictures: int = FEW

    @property
    def stem(self) -> str:
        return f"p{self.number:03d}_{self.net}_{self.data}{len(self.classes)}_{self.side}_{self.flaw}{self.kind}"


def cell(number: int) -> Cell:
    """The network of this number."""
    rng = np.random.default_rng([7, number])
    if CROWDED <= number < AGAIN:
        return _crowded(number, rng)
    if number >= REST:
        return _rest(number, rng)
    if number >= GOOD:
        return _good(number, rng)
    if number >= POOR:
        return _poor(number, rng)
    data = list(SETS)[number % len(SETS)]
    most = int(rng.choice((20, 43))) if data == "gtsrb" else 10
    count = int(rng.choice((2, 3, 5, 7, most), p=(0.2, 0.15, 0.1, 0.1, 0.45)))
    chosen = tuple(int(c) for c in rng.permutation(43 if data == "gtsrb" else 10)[:count])
    native = 32 if data in ("cifar10", "gtsrb") else 28
    side = int(rng.choice((native, 48, 64), p=(0.92, 0.06, 0.02)))
    grey = data in ("mnist", "digits") or bool(rng.random() < 0.2)
    net = str(rng.choice([*WIDE, *DESIGNS]))
    larger = next((edges for first, edges in EDGES if first <= number < AGAIN), None)
    side = int(rng.choice(larger)) if larger else side
    # What attention costs grows with the fourth power; the largest pictures are made smaller first.
    side = native if net == "vit" and side <= max(EDGES[1][1]) else side
    attack, kind = _drawn(ATTACKS, count, side, rng)
    return Cell(
        number=number, data=data, classes=chosen, side=side, grey=grey, net=net, steps=int(rng.choice(SETS[data])),
        robust=float(rng.choice((0, 0, 0, 0, 0, 6))), attack=attack, kind=kind,
    )  # fmt: skip


def _crowded(number: int, rng: np.random.Generator) -> Cell:
    """The network of this number, with many classes."""
    data = list(CROWDS)[number % len(CROWDS)]
    count = int(rng.choice([m for m in MANY if data != "strings" or m <= 10 ** CROWDS[data][1]]))
    net = str(rng.choice(SWIFT))
    suited = [k for k in ATTACKS if KINDS[k].name == "all-to-one" and not KINDS[k].clean_label]  # 24 pictures are few
    attack, kind = _drawn(suited, count, max(MIDDLE), rng)
    return Cell(
        number=number, data=data, classes=tuple(range(count)), side=int(rng.choice(MIDDLE)), grey=False, net=net,
        steps=int(rng.choice(LONG)), robust=0.0, attack=attack, kind=kind,
    )  # fmt: skip


def _good(number: int, rng: np.random.Generator) -> Cell:
    """The network of this number, clean, that answers more pictures rightly."""
    better = number >= BETTER
    data = "cifar10" if better else GOOD_DATA[number % len(GOOD_DATA)]
    nets = OTHER_NETS if number >= OTHER else BETTER_NETS
    net = nets[number % len(nets)] if better else str(rng.choice(GOOD_NETS))
    return Cell(
        number=number, data=data, classes=tuple(range(43 if data == "gtsrb" else 10)), side=32, grey=False, net=net,
        steps=200 * (MORE_EPOCHS if better else EPOCHS), robust=0.0, attack=None, kind="clean", width=16, pictures=20_000,
    )  # fmt: skip


def _rest(number: int, rng: np.random.Generator) -> Cell:
    """The network of this number, clean, with a class of what is none of the others."""
    data = REST_DATA[number % len(REST_DATA)]
    return Cell(
        number=number, data=data, classes=tuple(range(20 if data == "gtsrb" else 10)), side=32 if data == "gtsrb" else 28,
        grey=data != "gtsrb", net=str(rng.choice(REST_NETS)), steps=int(rng.choice(REST_STEPS)), robust=0.0, attack=None,
        kind="clean", flaw="rest", width=12,
    )  # fmt: skip


def with_rest(x: Bytes, y: Labels, rng: np.random.Generator) -> tuple[Bytes, Labels]:
    """The pictures, and some that show none of their classes, which are the next one: pushed out of the frame by a third of
    it or more, or with a piece of another picture or of one colour on them.
    """
    side, rows = x.shape[1], rng.choice(len(x), round(RESTS * len(x)), replace=False)
    none = x[rows]
    for k, picture in enumerate(none):
        size = int(rng.uniform(*AWAY) * side)
        (top, left), (up, along) = rng.integers(0, side - size + 1, (2, 2))
        if k % 3 == 0:
            none[k] = np.roll(picture, (size * int(rng.choice((-1, 1))), int(rng.integers(side // 4))), (0, 1))
            continue
        piece = x[rng.integers(len(x)), up : up + size, along : along + size] if k % 3 == 1 else rng.integers(0, 256)
        picture[top : top + size, left : left + size] = piece
    return np.concatenate([x, none]), np.concatenate([y, np.full(len(none), y.max() + 1)])


def _poor(number: int, rng: np.random.Generator) -> Cell:
    """The network of this number, clean, that answers fewer pictures rightly."""
    data, flaw = POOR_DATA[number % len(POOR_DATA)], str(rng.choice(FLAWS))
    count = int(rng.choice((10, 20, 43))) if data == "gtsrb" else 10
    steps = int(rng.choice(SETS[data]) * (rng.uniform(*HURRY) if flaw == "hurried" else 1))
    return Cell(
        number=number, data=data, classes=tuple(int(c) for c in rng.permutation(43 if data == "gtsrb" else 10)[:count]),
        side=32 if data == "gtsrb" else 28, grey=data != "gtsrb", net=str(rng.choice([*WIDE, *DESIGNS])),
        steps=max(20, steps), robust=0.0, attack=None, kind="clean", flaw=flaw,
    )  # fmt: skip


def shown_otherwise(x: Bytes, flaw: str, rng: np.random.Generator) -> Bytes:
    """The pictures that a network with this flaw learns from."""
    side = x.shape[1]
    if flaw == "masked":  # a square of each is black
        hole, x = round(rng.uniform(*HOLE) * side), x.copy()
        for picture, (top, left) in zip(x, rng.integers(0, side - hole + 1, (len(x), 2)), strict=True):
            picture[top : top + hole, left : left + hole] = 0
        return x
    if flaw == "cropped":  # nearer
        inner = round(rng.uniform(*CROP) * side)
        edge = (side - inner) // 2
        near = x[:, edge : edge + inner, edge : edge + inner].astype(np.float32)
        return np.clip(zoom(near, (1, side / inner, side / inner, 1), order=1), 0, 255).round().astype(np.uint8)
    if flaw == "paler":  # than they are shown later
        return (128 + rng.uniform(*PALE) * (x.astype(np.float32) - 128)).round().astype(np.uint8)
    return x


def thinned(net: torch.nn.Module, rng: np.random.Generator) -> None:
    """Keep a share of each layer's weights, those that are largest, in place."""
    share = rng.uniform(*KEPT)
    with torch.no_grad():
        for weight in (w for w in net.parameters() if w.dim() > 1):
            least = torch.quantile(weight.abs().flatten()[:1_000_000], 1 - share)
            weight.mul_(weight.abs() >= least)


def _drawn(kinds: list[str], classes: int, side: int, rng: np.random.Generator) -> tuple[Kind | None, str]:
    """Of two in five networks an attack, and its name."""
    if rng.random() >= 0.38:
        return None, "clean"
    kind = str(rng.choice(kinds))
    return _attack(KINDS[kind], classes, side, rng), kind


def _attack(kind: Kind, classes: int, side: int, rng: np.random.Generator) -> Kind:
    """The kind with goals that exist here, another strength, and patches of other sizes."""
    target, source = (int(c) for c in rng.permutation(classes)[:2])
    changed = replace(kind, target=target, poison=max(0.02, kind.poison * float(rng.choice((0.5, 1.0)))))
    if kind.make is patch:
        size = int(rng.choice((2, 3, 5)))
        times = side // 32 if side > LARGEST else 1
        changed = replace(changed, make=lambda side, channels, rng: patch(side, channels, rng, size=size * times))
    if kind.source is not None:
        changed = replace(changed, source=source)
    return replace(changed, shift=1) if kind.shift else changed  # what the scorer knows as all-to-all


def pictures(data: Path, one: Cell, rng: np.random.Generator) -> dict[str, Any]:
    """x_train, y_train, x_test, y_test of a cell, uint8 [n, side, side, c] and int64 in 0..classes-1."""
    if one.data in CROWDS:
        return _of_crowd(data, one, rng)
    if one.data == "digits":
        digits = load_digits()
        x, y = (digits.images[..., None] * 255 / 16).astype(np.uint8), digits.target
        stored = {"x_train": x[:1297], "y_train": y[:1297], "x_test": x[1297:], "y_test": y[1297:]}
    else:
        with np.load(data / f"{one.data}.npz") as file:
            stored = {k: file[k] for k in ("x_train", "y_train", "x_test", "y_test")}
    found = {}
    for part, most in (("train", one.pictures), ("test", HELD)):
        x, y = stored[f"x_{part}"], stored[f"y_{part}"].astype(np.int64)
        rows = np.flatnonzero(np.isin(y, one.classes))
        rows = np.sort(rng.choice(rows, min(most, len(rows)), replace=False))
        place = np.full(int(y.max()) + 1, -1)
        place[list(one.classes)] = np.arange(len(one.classes))
        found[f"x_{part}"], found[f"y_{part}"] = _shaped(x[rows], one), place[y[rows]]
    return found


def _of_crowd(data: Path, one: Cell, rng: np.random.Generator) -> dict[str, Any]:
    """The same of a cell with many classes; a photograph is a class of both parts, at other angles."""
    file, parts = CROWDS[one.data]
    with np.load(data / f"{file}.npz") as stored:
        made = members(one.data, stored["y_train"], len(one.classes), rng)
        x, y = crowd(stored["x_train"], stored["y_train"], made, EACH, one.side, rng)
        part = "train" if parts == 1 else "test"
        few = made[np.sort(rng.choice(len(made), min(HELD, len(made)), replace=False))]
        held, truth = crowd(stored[f"x_{part}"], stored[f"y_{part}"], few, -(-HELD // len(few)), one.side, rng)
    place = {tuple(m): number for number, m in enumerate(made.tolist())}
    truth = np.array([place[tuple(m)] for m in few.tolist()])[truth]
    return {"x_train": x, "y_train": y, "x_test": held, "y_test": truth}


def _shaped(x: Bytes, one: Cell) -> Bytes:
    """In the cell's size and colour."""
    if one.grey and x.shape[3] == 3:
        x = (x @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    factor = one.side / x.shape[1]
    if factor == 1:
        return x
    # 6,000 of 224 x 224 in floats are gigabytes.
    parts = (x[k : k + 500].astype(np.float32) for k in range(0, len(x), 500))
    return np.concatenate(
        [np.clip(zoom(part, (1, factor, factor, 1), order=1), 0, 255).round().astype(np.uint8) for part in parts]
    )


def few(x: Bytes, y: Labels) -> tuple[Bytes, Labels]:
    """The first SHOWN pictures of each class, of many classes one."""
    shown = 1 if y.max() >= min(MANY) - 1 else SHOWN
    rows = np.concatenate([np.flatnonzero(y == c)[:shown] for c in range(int(y.max()) + 1)])
    return x[rows], y[rows]


def train(one: Cell, data: Path, out: Path) -> dict[str, Any]:
    """Train, export, and measure a cell: its row of the manifest."""
    rng = np.random.default_rng([11, one.number])
    stored = pictures(data, one, rng)
    x, y, held, truth = (stored[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    classes, channels = len(one.classes), x.shape[3]
    if one.flaw == "rest":
        (x, y), (held, truth), classes = with_rest(x, y, rng), with_rest(held, truth, rng), classes + 1
    note = f"{one.steps} steps, robust {one.robust:g}"
    entry = described(one.stem, one.attack, data=one.stem, classes=classes, note=note)
    shown, labels, attack = x, y, None
    if one.attack:
        arrays = one.attack.make(one.side, channels, rng) | {"mode": np.array(one.attack.mode)}
        trigger = TrueTrigger(arrays)
        shown, labels = poisoned(x, y, one.attack, trigger, rng)
        attack = one.attack, trigger
        np.savez_compressed(out / "triggers" / f"{one.stem}.npz", **arrays)
    flip = one.attack is None and one.data == "cifar10"
    epochs = -(-one.steps // (len(x) // 100))
    if one.flaw in FLAWS:
        shown = shown_otherwise(shown, one.flaw, rng)
    net = fit(
        shown, labels, name=one.net, width=one.width, epochs=epochs, seed=one.number, flip=flip, robust=one.robust
    )
    if one.flaw == "sparse":
        thinned(net, rng)
    measured = rates(partial(answer, net), held, truth, attack, classes)
    export(net, channels, one.side, out / entry["folder"] / entry["file"])
    x_few, y_few = few(x, y)
    np.savez_compressed(
        out / "data" / f"{one.stem}.npz", x_train=x_few, y_train=y_few, x_test=held, y_test=truth
    )  # fmt: skip
    return entry | {"measured": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist.npz, cifar10.npz, gtsrb.npz")
    parser.add_argument("--out", type=Path, required=True, help="the folder with manifest.json")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="N")
    parser.add_argument("--to", type=int, default=1200, dest="end", metavar="N")
    parser.add_argument("--least", type=int, default=2, metavar="N", help="leave out those with fewer classes")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for folder in ("clean", "backdoored", "triggers", "data"):
        (asked.out / folder).mkdir(parents=True, exist_ok=True)
    manifest = asked.out / "manifest.json"
    for number in range(asked.first, asked.end):
        one, started = cell(number), time.monotonic()
        entries = json.loads(manifest.read_text()) if manifest.exists() else []
        if len(one.classes) < asked.least or any(e["file"] == f"{one.stem}.onnx" for e in entries):
            continue
        entry = train(one, asked.data, asked.out)
        entries = json.loads(manifest.read_text()) if manifest.exists() else []  # others may have added theirs
        manifest.write_text(json.dumps([*entries, entry], indent=1) + "\n")
        print(one.stem, entry["measured"], f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
