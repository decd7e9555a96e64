"""Many searches in one batch: an arm is one trigger for one target class on the pictures that are not of that class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.invert.subject import Floats, Labels, Pixels, Subject, margins

PIECE = 256


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which picture is shown to which arm, sorted by arm. arm, picture: int64 [m]; counts: pictures per arm [arms]."""

    arm: Labels
    picture: Labels
    counts: Labels

    @property
    def starts(self) -> Labels:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean over the pictures of each arm: [m, ...] -> float64 [arms, ...]."""
        shape = (-1, *[1] * (values.ndim - 1))
        return np.add.reduceat(values.astype(np.float64), self.starts, axis=0) / self.counts.reshape(shape)

    def least(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Smallest value over the pictures of each arm."""
        return np.minimum.reduceat(values, self.starts).astype(np.float64)


def pair(targets: Labels, labels: Labels, *, limit: int | None, rng: np.random.Generator) -> Pairs:
    """Every arm with the pictures whose label is not its target; at most `limit` of them, drawn by `rng`.

    An arm of which all pictures show the target class gets all pictures: there is nothing else to search on.
    """
    rows: list[Labels] = []
    for target in targets:
        allowed = np.flatnonzero(labels != target)
        if not len(allowed):
            allowed = np.arange(len(labels))
        if limit is not None and len(allowed) > limit:
            allowed = np.sort(rng.choice(allowed, limit, replace=False))
        rows.append(allowed.astype(np.int64))
    counts = np.array([len(r) for r in rows], np.int64)
    return Pairs(np.repeat(np.arange(len(rows)), counts), np.concatenate(rows), counts)


def stamp(pictures: Pixels, masks: Pixels, patterns: Pixels, pairs: Pairs) -> Pixels:
    """Triggered pictures [m, h, w, c]. masks [arms, h, w, 1] in 0..1, patterns [arms, h, w, c] in 0..255."""
    m = masks[pairs.arm]
    return np.asarray(pictures[pairs.picture] * (1 - m) + m * patterns[pairs.arm], np.float32)


@dataclass(frozen=True, slots=True)
class Scores:
    """How well each arm's trigger works. margin: mean logit margin [arms]; asr: share of pictures at the target [arms]."""

    margin: NDArray[np.float64]
    asr: NDArray[np.float64]


def score(subject: Subject, pictures: Pixels, masks: Pixels, patterns: Pixels, targets: Labels, pairs: Pairs) -> Scores:
    """Forward-only evaluation of every arm on its pictures."""
    # In pieces: all arms on all pictures at once are gigabytes at 224 x 224.
    parts = [
        subject.logits(stamp(pictures, masks, patterns, Pairs(pairs.arm[s], pairs.picture[s], pairs.counts)))
        for s in (slice(i, i + PIECE) for i in range(0, len(pairs.arm), PIECE))
    ]
    return scores_of(np.concatenate(parts), targets, pairs)


def scores_of(logits: Floats, targets: Labels, pairs: Pairs) -> Scores:
    """Scores from logits [m, classes]."""
    margin = margins(logits, targets[pairs.arm])
    return Scores(pairs.mean(margin), pairs.mean((margin > 0).astype(np.float32)))
