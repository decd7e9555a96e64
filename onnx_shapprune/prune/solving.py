"""Least squares of one layer: the weights by which its rows give what they should, and those that a part of the rows gives.

A fold is a fit without some of the pictures, for what it does to these. A fit of its own for each would cost as much as the
fit does. Here a fold's layer answers the rows that it keeps as the fit's does, so that these go on as they do there, and any
other as the ridge has it: the sums are those of the fit without some rows, and each fold costs a solution more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.linalg.blas import ssyrk

from onnx_shapprune.case.subject import Floats
from onnx_shapprune.graph.linear import Change
from onnx_shapprune.graph.rows import Laid, taken
from onnx_shapprune.runtime.lanes import side_by_side

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of one kind that a layer is fitted on. rows, targets: laid out, in the network as repaired and in the original;
    places, wanted: of each row in the one and in the other; weight: float32 [rows]; chunk: rows that are picked out at once;
    stay: bool [1 + folds, rows], which rows there are in the fit, all of them, and in each fold.
    """

    rows: Laid
    targets: Laid
    places: Labels
    wanted: Labels
    weight: Floats
    chunk: int
    stay: Bools

    @property
    def scales(self) -> Doubles:
        """What the weights are multiplied with, so that this kind weighs as much in each fold as in the fit, [1 + folds];
        0 where no row stays.
        """
        kept = np.asarray(self.stay @ self.weight.astype(np.float64))
        return np.asarray(np.divide(kept[0], kept, out=np.zeros_like(kept), where=kept > 0))

    def apart(self) -> Iterator["Sample"]:
        """The rows that stay in the same folds, together."""
        patterns, of = np.unique(self.stay, axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            some = np.flatnonzero(of.reshape(-1) == number)
            places, wanted = self.places[some], self.wanted[some]
            yield replace(self, places=places, wanted=wanted, weight=self.weight[some], stay=pattern[:, None])

    def chunks(self) -> Iterator[slice]:
        """Which of its rows are picked out at once."""
        return (slice(start, start + self.chunk) for start in range(0, len(self.places), self.chunk))

    def picked(self, chunk: slice, across: Floats) -> tuple[Floats, Floats]:
        """Rows r, float32 [groups, k, f], and what they miss, W (a - r), [groups, k, out/groups]. across: W transposed."""
        r = taken(self.rows, self.places[chunk])
        if self.rows is self.targets and np.array_equal(self.places[chunk], self.wanted[chunk]):
            return r, np.zeros((*r.shape[:2], across.shape[2]), np.float32)
        return r, np.asarray((taken(self.targets, self.wanted[chunk]) - r) @ across, np.float32)


def solved(weight: Doubles, samples: Sequence[Sample], ridge: float, *, free: bool, lanes: int) -> list[Change]:
    """The new weight and shift of one layer, and those of each fold: [N, d] = [W, 0] + E (R'R + m)^-1, with E the second
    moments of what the rows miss, W (a - r), and the rows R, each with a 1 behind where the shift is free. What a fold's
    rows miss is what the fit adds to their answers.

    With fewer rows than a row has values it is the same as [W, 0] + M' (R R' + m)^-1 R, a smaller system.
    """
    by_rows = sum(len(s.places) for s in samples) <= weight.shape[2]
    found = (_by_rows if by_rows else _by_moments)(weight, samples, ridge, free, lanes)
    return [Change(weight + news, shifts.reshape(-1), weight) for news, shifts in found]


def _by_moments(
    weight: Doubles, samples: Sequence[Sample], ridge: float, free: bool, lanes: int
) -> list[tuple[Doubles, Doubles]]:
    """What is added to the weight, and the shift [groups, out/groups], of the fit and of each fold."""
    groups, outputs, size = weight.shape
    powers = [np.zeros((groups, size + 1, size + 1)) for _ in samples[0].stay]
    missed = np.zeros((groups, outputs, size + 1))
    for sample in samples:
        whole, *gone = (np.zeros_like(power) for power in powers)
        for part in sample.apart():
            chunks = list(part.chunks())
            shares = [share for i in range(lanes) if (share := chunks[i::lanes])]
            for power, more in side_by_side(partial(_moments, weight, part), shares, lanes):
                missed += more
                whole += power
                for fold in np.flatnonzero(~part.stay[1:, 0]):
                    gone[fold] += power
        powers[0] += whole
        for total, less, scale in zip(powers[1:], gone, sample.scales[1:], strict=True):
            np.subtract(whole, less, out=less)
            less *= scale
            total += less
    first = _of_moments(powers[0], missed, ridge, free)
    added = np.concatenate([first[0], first[1][..., None]], axis=2)

    def of_fold(power: Doubles) -> tuple[Doubles, Doubles]:
        return _of_moments(power, added @ power, ridge, free)

    return [first, *side_by_side(of_fold, powers[1:], lanes)]


def _moments(weight: Doubles, sample: Sample, chunks: Sequence[slice]) -> tuple[Doubles, Doubles]:
    """Second moments of the rows, each with a 1 behind, and of what they miss with them: [groups, fan_in + 1, fan_in + 1]
    and [groups, out/groups, fan_in + 1]. Rows are multiplied in float32, which the ridge bears; sums are kept in float64.
    """
    groups, outputs, size = weight.shape
    across = weight.swapaxes(1, 2).astype(np.float32)
    power, missed = np.zeros((groups, size + 1, size + 1)), np.zeros((groups, outputs, size + 1))
    for chunk in chunks:
        root = np.sqrt(sample.weight[chunk])
        r, m = (root[:, None] * part for part in sample.picked(chunk, across))
        power[:, :size, :size] += r.swapaxes(1, 2) @ r  # of one array by itself: half of the products
        power[:, :size, size] += root @ r
        power[:, size, size] += root @ root
        missed[:, :, :size] += m.swapaxes(1, 2) @ r
        missed[:, :, size] += root @ m
    power[:, size, :size] = power[:, :size, size]
    return power, missed


def _of_moments(power: Doubles, missed: Doubles, ridge: float, free: bool) -> tuple[Doubles, Doubles]:
    """What is added to the weight, and the shift [groups, out/groups]."""
    size = power.shape[1] - 1
    news, shifts = np.zeros((*missed.shape[:2], size)), np.zeros(missed.shape[:2])
    for g in range(len(power)):
        factor = _factor(power[g, : size + free, : size + free], ridge * float(np.trace(power[g, :size, :size])) / size)
        if factor is not None and np.isfinite(missed[g]).all():
            solution = cho_solve(factor, missed[g, :, : size + free].T).T
            news[g] = solution[:, :size]
            shifts[g] = solution[:, size] if free else 0
    return news, shifts


def _factor(system: Doubles, ridge: float) -> tuple[Doubles, bool] | None:
    """Cholesky factor of the upper triangle of a system that the ridge is added to, in place. None where it has none: no
    row says anything, or values are infinite. The layer stays as it is then.
    """
    if not 0 < ridge < np.inf or not np.isfinite(system).all():
        return None
    system[np.diag_indices(len(system))] += ridge
    try:
        factor, lower = cho_factor(system, overwrite_a=True)
    except LinAlgError:
        return None
    return np.asarray(factor), bool(lower)


def _by_rows(
    weight: Doubles, samples: Sequence[Sample], ridge: float, free: bool, lanes: int
) -> list[tuple[Doubles, Doubles]]:
    """As `_by_moments`, by a system with one unknown for each row."""
    across = weight.swapaxes(1, 2).astype(np.float32)
    picked = [(np.sqrt(s.weight[c]), *s.picked(c, across)) for s in samples for c in s.chunks()]
    rows, missed = (np.concatenate([part[0][:, None] * part[k] for part in picked], axis=1) for k in (1, 2))
    ones = np.concatenate([w for w, *_ in picked]).astype(np.float64)
    systems = [ssyrk(1.0, r.T, trans=1) for r in rows]  # as for moments, the ridge bears float32
    stay = np.concatenate([s.stay for s in samples], axis=1)
    roots = np.concatenate([np.repeat(np.sqrt(s.scales)[:, None], len(s.places), axis=1) for s in samples], axis=1)

    def of_rows(missed: Floats, fold: int) -> tuple[Doubles, Doubles]:
        some = np.flatnonzero(stay[fold])
        root = roots[fold, some]
        news, shifts = np.zeros_like(weight), np.zeros(weight.shape[:2])
        for g in range(len(rows)):
            e, one = root[:, None] * missed[g, some].astype(np.float64), root * ones[some]
            system = systems[g][np.ix_(some, some)] * root[:, None]
            system *= root
            factor = _factor(system, ridge * float(np.trace(system)) / weight.shape[2])
            if factor is not None and np.isfinite(e).all():
                if free:  # as if 1 1' were added to the system; beside rows of small values it would drown them
                    u = cho_solve(factor, one)
                    e -= np.outer(one, u @ e / (1 + u @ one))
                solution = cho_solve(factor, e).T
                news[g] = (solution * root).astype(np.float32) @ rows[g][some]
                shifts[g] = solution @ one * free
        return news, shifts

    news, shifts = of_rows(missed, 0)
    answered = rows @ news.swapaxes(1, 2).astype(np.float32) + ones[:, None].astype(np.float32) * shifts[:, None]
    folds = range(1, len(stay))
    return [(news, shifts), *side_by_side(partial(of_rows, np.asarray(answered, np.float32)), folds, lanes)]
