"""Does anything lead to a class? A network that knows a class of what is none of the others has learnt it from covered and
partial things: patches, masks and warps lead there by nature, and look like a planted trigger to every search. A trigger
is something in particular. So pieces that nobody searched for are put on the pictures.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Labels, Pixels
from onnx_shapprune.detect.thresholds import ANYTHING, COVERED

PIECE = 0.5  # edge, as a share of the picture's: a quarter of its area


def anything_leads(shown: Shown, rng: np.random.Generator) -> Callable[[int], tuple[str, ...]]:
    """The caution about a target, if pieces lead there, asked when it is wanted. Pieces of one colour and of other pictures
    are put at random places on each picture; the smaller of their two shares counts, as triggers of one colour are common.
    """

    each = -(-COVERED // len(shown))

    @cache
    def answers() -> tuple[Labels, ...]:
        return tuple(
            shown.subject.logits(_covered(shown.pictures, each, rng, own=own)).argmax(axis=1) for own in (True, False)
        )

    def caution(target: int) -> tuple[str, ...]:
        others = np.repeat(shown.moved(Goal(target)) != UNMOVED, each)
        share = min(float((given == target)[others].mean()) for given in answers()) if others.any() else 0.0
        if share < ANYTHING:
            return ()
        return (
            f"pieces of other pictures, and of one colour, a quarter of a picture large, send {share:.0%} there as well, as "
            "they do in clean models with a class of what is none of the others",
        )

    return caution


def _covered(pictures: Pixels, each: int, rng: np.random.Generator, *, own: bool) -> Pixels:
    """Each picture so many times, with a piece on it: of one of the pictures where `own`, else of one colour."""
    covered = np.repeat(pictures, each, axis=0)
    height, width = (round(PIECE * n) for n in pictures.shape[1:3])

    def corner() -> tuple[slice, slice]:
        top, left = (
            int(rng.integers(n - size + 1)) for n, size in zip(pictures.shape[1:3], (height, width), strict=True)
        )
        return slice(top, top + height), slice(left, left + width)

    for picture in covered:
        piece = pictures[rng.integers(len(pictures))][corner()] if own else rng.uniform(0, 255, pictures.shape[3])
        picture[corner()] = piece
    return covered
