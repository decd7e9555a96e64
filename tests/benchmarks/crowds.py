"""Pictures of many classes, made of those of few: strings of digits, pairs of signs, and photographs that are a class each.

Networks with hundreds of classes tell identities apart, of which no free collection is small. A photograph seen at many
angles, sizes and lights is one identity; so is a string of digits.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, zoom

from tests.benchmarks.measure import Bytes, Labels

# Kind -> the file its pictures come from, and how many of them stand beside each other.
CROWDS = {"strings": ("mnist", 2), "pairs": ("gtsrb", 2), "photographs": ("cifar10", 1)}


def crowd(
    x: Bytes, y: Labels, members: NDArray[np.int64], each: int, side: int, rng: np.random.Generator
) -> tuple[Bytes, Labels]:
    """`each` pictures uint8 [n, side, side, c] of every class, and their labels.

    members: int64 [classes, parts], labels of y that stand beside each other in a class; with one part the rows of x that
    are a class each.
    """
    if members.shape[1] == 1:
        seen = [_seen(x[row], side, rng) for row in members[:, 0] for _ in range(each)]
        return np.stack(seen), np.arange(len(members)).repeat(each)
    rows = {label: np.flatnonzero(y == label) for label in np.unique(members)}
    widths = np.diff(np.linspace(0, side, members.shape[1] + 1).round().astype(int))
    strings = []
    for labels in members.repeat(each, axis=0):
        chosen = (x[rng.choice(rows[label])] for label in labels)
        strings.append(np.concatenate([_stretched(p, side, w) for p, w in zip(chosen, widths, strict=True)], axis=1))
    return np.stack(strings), np.arange(len(members)).repeat(each)


def members(kind: str, labels: Labels, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """What `count` classes of a kind are made of, as for `crowd`. labels: of the pictures that there are."""
    parts = CROWDS[kind][1]
    if parts == 1:
        return rng.choice(len(labels), (count, 1), replace=False)
    known = int(labels.max()) + 1
    numbers = rng.choice(known**parts, count, replace=False)
    return np.stack(np.unravel_index(numbers, (known,) * parts), axis=1).astype(np.int64)


def _seen(picture: Bytes, side: int, rng: np.random.Generator) -> Bytes:
    """One picture turned by up to 12 degrees, nearer or farther by 15 %, moved by up to a tenth, in other light."""
    angle, near = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(0.87, 1.15) * len(picture) / side
    turn = near * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (np.array(picture.shape[:2]) - 1) / 2 + rng.uniform(-0.1, 0.1, 2) * len(picture)
    shift = middle - turn @ np.full(2, (side - 1) / 2)
    planes = [
        affine_transform(picture[..., c].astype(np.float32), turn, shift, (side, side), order=1, mode="reflect")
        for c in range(picture.shape[2])
    ]
    lit = (np.stack(planes, axis=-1) - 128) * rng.uniform(0.7, 1.2) + 128 + rng.uniform(-25, 25)
    return np.clip(lit + rng.normal(0, 4, lit.shape), 0, 255).round().astype(np.uint8)


def _stretched(picture: Bytes, height: int, width: int) -> Bytes:
    factors = (height / picture.shape[0], width / picture.shape[1], 1)
    return np.clip(zoom(picture.astype(np.float32), factors, order=1), 0, 255).round().astype(np.uint8)
