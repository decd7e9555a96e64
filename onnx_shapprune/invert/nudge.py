"""Move, grow and cut a stamp until no small change of it helps: nobody plants squares on a lattice of ours.

A white square that is planted between two of the places that are tried moves some pictures where one of them covers part
of it, and all where it is met. Units that stay dead until their trigger is nearly complete have no slope that a gradient
could follow; here only forward passes are made.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.spread import spread_over

# Changes one after the other, and pictures that each is tried on. 2026-11-27, chosen.
CHANGES, TRIED_ON = 8, 6
LARGEST = 6  # edge in units of the largest square that is a stamp: with more pixels every class can be reached


def unit_of(height: int, width: int) -> int:
    """A 32nd of a picture's shorter side, in whole pixels: what attackers' stamps are drawn in."""
    return max(1, round(min(height, width) / 32))


def is_stamp(masks: Pixels) -> NDArray[np.bool_]:
    """Which masks [n, h, w, 1] cover some of a picture and no more than a square of LARGEST units."""
    covered = masks.sum(axis=(1, 2, 3))
    largest: int = LARGEST * unit_of(masks.shape[1], masks.shape[2])
    return np.asarray((covered > 0) & (covered <= largest**2))


def nudged(shown: Shown, trigger: Trigger) -> Trigger:
    """The stamp after up to CHANGES steps, each the change that raises its margin most."""
    step = unit_of(*shown.size[:2])
    few = shown.part(spread_over(len(shown), TRIED_ON))
    margin = float(rate(few, [trigger]).margin[0])
    for _ in range(CHANGES):
        near = [t for t in _changed(trigger, step) if is_stamp(t.mask[None])[0]]
        margins = rate(few, near).margin if near else np.empty(0)
        if margins.max(initial=margin) > margin:
            trigger, margin = near[int(margins.argmax())], float(margins.max())
        elif step == 1:
            break
        else:
            step //= 2
    return trigger


def _changed(trigger: Trigger, step: int) -> Iterator[Trigger]:
    """Moved by one step or two, grown by one on one side, and cut by one."""
    for down, right in ((step, 0), (-step, 0), (0, step), (0, -step)):
        moved = trigger.shifted(down, right)
        yield moved
        yield trigger.shifted(2 * down, 2 * right)
        both, covered = np.maximum(trigger.mask, moved.mask), trigger.mask > 0
        yield replace(trigger, mask=both, paint=np.where(covered, trigger.paint, moved.paint))
        both = np.minimum(trigger.mask, moved.mask)
        yield replace(trigger, mask=both, paint=trigger.paint * both)
