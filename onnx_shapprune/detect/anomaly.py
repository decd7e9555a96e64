"""Which class of a model is unlike its other classes: by the size of its trigger (low), by its margin (high).

Both compare a class with the same model's other classes, because norms and logits have no scale that holds across
models. Neither decides anything: a verdict needs more evidence than one statistic (transfer, other families).

Norms are compared as they are, not as logarithms. They are positive and skewed to the right, but the skew sits on the
side that is not tested: the median ignores it and the MAD grows with it, which only makes the low side more careful.
Logarithms would stretch exactly the low side, where clean models already exceed the customary threshold of 2, and would
give an index that cannot be compared with published ones.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.detect.thresholds import (
    MAD_TO_SIGMA,
    MARGIN_INDEX_CAP,
    MARGIN_MAD_FLOOR,
    MIN_CLASSES_FOR_MAD,
    NORM_MAD_FLOOR,
)
from onnx_shapprune.errors import ShapPruneError

Basis = Literal["mad", "ratio", "none"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormAnomaly:
    """How small each class's trigger norm is among the model's classes; arrays are (classes,) and read-only.

    basis "mad": `index` holds the one-sided low anomaly index (>= 0, about 13.5 at most; 2 is the customary threshold),
    `median` and `scale` (1.4826 * MAD after the floor) what it was computed with. basis "ratio": too few classes, or
    too many failed; `index` is all zero and only `ratio` speaks: the norm over the smallest norm of the *other* classes
    (under 1 for the smallest alone). basis "none": fewer than two classes have a trigger, nothing can be compared.
    `ratio` is given with every basis: inf for a class without a trigger or without another one to compare with.
    """

    basis: Basis
    index: NDArray[np.float64]
    ratio: NDArray[np.float64]
    failed: int
    median: float | None
    scale: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarginAnomaly:
    """How large each class's margin is among the model's classes; `index` is (classes,) and read-only.

    basis "mad": `index` holds (margin - median of the others) / scale of the others, 0 where negative, 1000 at most.
    basis "ratio": fewer than 5 classes, `index` is all zero and only `ratio` speaks. basis "none": a single class.
    `leader` is the class with the largest margin (the first of equals), `runner_up` the next, None for a single class.
    `ratio` = leader's margin / runner-up's; None unless both are positive, since a quotient of signs says nothing.
    """

    basis: Basis
    index: NDArray[np.float64]
    leader: int
    runner_up: int | None
    ratio: float | None


def anomaly_indices(norms: NDArray[np.float64], success: NDArray[np.bool_]) -> NormAnomaly:
    """Low-side MAD anomaly index of trigger norms (Wang et al. 2019, "Neural Cleanse").

    norms: float64 (classes,), >= 0, e.g. the L1 norm of the mask. success: bool (classes,), whether the trigger reached
    the wanted ASR. A class without success counts as an infinite norm: it is never suspicious itself (index 0), and
    stands on the large side of the median and of the MAD; its entry in `norms` may be inf and is not used.
    index = max(0, median - norm) / (1.4826 * max(MAD, 0.05 * median)); with half of the classes or more failed the
    median is infinite and the ratio is the basis. Raises ValueError for shapes, ShapPruneError for NaN, negative or
    (with success) infinite norms.
    """
    norms = np.asarray(norms, dtype=np.float64)
    success = np.asarray(success, dtype=np.bool_)
    if norms.ndim != 1 or norms.size == 0 or norms.shape != success.shape:
        raise ValueError(f"norms {norms.shape} and success {success.shape} must both be (classes,), at least one class")
    bad = np.flatnonzero(np.isnan(norms) | (norms < 0) | (np.isinf(norms) & success))
    if bad.size:
        raise ShapPruneError(
            f"trigger norm of class {bad[0]} is {norms[bad[0]]}: the model has no number for what a search paints"
        )
    sizes = np.where(success, norms, np.inf)
    ratio = _ratio_to_smallest_other(sizes)
    index = np.zeros(sizes.size)
    failed = int((~success).sum())
    median = scale = None
    if sizes.size >= MIN_CLASSES_FOR_MAD and 2 * failed < sizes.size:
        basis: Basis = "mad"
        median = float(np.median(sizes))
        mad = float(np.median(np.abs(sizes - median)))
        scale = MAD_TO_SIGMA * max(mad, NORM_MAD_FLOOR * median)
        if scale > 0:
            index = np.maximum(median - sizes, 0) / scale
    else:
        basis = "ratio" if success.sum() >= 2 else "none"
    return NormAnomaly(
        basis=basis, index=_frozen(index), ratio=_frozen(ratio), failed=failed, median=median, scale=scale
    )


def margin_outliers(margins: NDArray[np.float64]) -> MarginAnomaly:
    """High-side index of a class's logit margin against the other classes of the same model.

    margins: float64 (classes,), finite, in logits, e.g. the largest mean margin over positions at a fixed trigger size.
    For each class the others alone give centre and scale: (margin - median) / (1.4826 * max(MAD, 0.1 * median of
    their absolute margins)). The class itself cannot hide in its own scale, and multiplying all logits changes nothing.
    Adding a constant does: a margin of 0 is the decision boundary. Raises ValueError for shapes, ShapPruneError for NaN
    or infinite margins.
    """
    margins = np.asarray(margins, dtype=np.float64)
    if margins.ndim != 1 or margins.size == 0:
        raise ValueError(f"margins {margins.shape} must be (classes,), at least one class")
    bad = np.flatnonzero(~np.isfinite(margins))
    if bad.size:
        raise ShapPruneError(
            f"margin of class {bad[0]} is {margins[bad[0]]}: the model has no number for what a search paints"
        )
    index = np.zeros(margins.size)
    leader = int(np.argmax(margins))
    if margins.size == 1:
        return MarginAnomaly(basis="none", index=_frozen(index), leader=leader, runner_up=None, ratio=None)
    runner_up = int(np.argsort(-margins, kind="stable")[1])
    ratio = float(margins[leader] / margins[runner_up]) if margins[runner_up] > 0 else None
    basis: Basis = "ratio"
    if margins.size >= MIN_CLASSES_FOR_MAD:
        basis = "mad"
        index = np.array([_lead_over(margins[k], np.delete(margins, k)) for k in range(margins.size)])
    return MarginAnomaly(basis=basis, index=_frozen(index), leader=leader, runner_up=runner_up, ratio=ratio)


def _lead_over(margin: float, others: NDArray[np.float64]) -> float:
    centre = float(np.median(others))
    lead = margin - centre
    if lead <= 0:
        return 0.0
    mad = float(np.median(np.abs(others - centre)))
    scale = MAD_TO_SIGMA * max(mad, MARGIN_MAD_FLOOR * float(np.median(np.abs(others))))
    # Multiplied out, since scale may be 0 and a quotient may overflow.
    return MARGIN_INDEX_CAP if lead >= MARGIN_INDEX_CAP * scale else lead / scale


def _ratio_to_smallest_other(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """sizes[k] / min of the others; 1 for 0 / 0, inf where either is infinite or only the other one is 0."""
    ratio = np.full(sizes.size, np.inf)
    for k in range(sizes.size if sizes.size > 1 else 0):
        smallest = float(np.min(np.delete(sizes, k)))
        if np.isinf(smallest) or np.isinf(sizes[k]):
            continue
        if smallest > 0:
            ratio[k] = sizes[k] / smallest
        elif sizes[k] == 0:
            ratio[k] = 1.0
    return ratio


def _frozen(array: NDArray[np.float64]) -> NDArray[np.float64]:
    array.setflags(write=False)
    return array
