"""Many classes from few: two pictures side by side, each squeezed to half of its width, are one picture of a pair.

    python -m tests.benchmarks.pairs DIR/mnist.npz OUT/mnist_pairs.npz

The label is a * classes + b. For networks with a hundred classes and more to measure on (tests.benchmarks.poison).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.measure import Bytes, Labels

TRAINING, TEST = 20_000, 4_000


def squeezed(x: Bytes, side: int) -> Bytes:
    """Pictures [n, h, w, c] as [n, side, side / 2, c]."""
    return np.stack(
        [
            np.asarray(Image.fromarray(p.squeeze()).resize((side // 2, side), Image.Resampling.BOX)).reshape(
                side, side // 2, -1
            )
            for p in x
        ]
    )


def paired(x: Bytes, y: Labels, count: int, rng: np.random.Generator) -> tuple[Bytes, Labels]:
    """`count` random pairs out of pictures [n, side, side / 2, c] and labels [n]."""
    a, b = rng.integers(0, len(x), (2, count))
    return np.concatenate([x[a], x[b]], axis=2), (y[a] * (int(y.max()) + 1) + y[b]).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description="A data set of pairs of pictures.")
    parser.add_argument("data", type=Path, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=32)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    made = {}
    with np.load(asked.data) as stored:
        for part, count in (("train", TRAINING), ("test", TEST)):
            y = stored[f"y_{part}"].astype(np.int64)
            made[f"x_{part}"], made[f"y_{part}"] = paired(squeezed(stored[f"x_{part}"], asked.side), y, count, rng)
    np.savez_compressed(asked.out, **made)


if __name__ == "__main__":
    main()
