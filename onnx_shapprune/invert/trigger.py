"""A trigger: what is laid over a picture, whichever family found it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trigger:
    """x' = (1 - mask) * x + mask * pattern, in bytes.

    mask: float32 [h, w, 1] in 0..1. pattern: float32 [h, w, c] in 0..255. target: class index. family: which search
    found it ("patch", "compact", "known").
    """

    mask: Pixels
    pattern: Pixels
    target: int
    family: str

    @property
    def norm(self) -> float:
        """L1 norm of the mask, in pixels."""
        return float(self.mask.sum())

    def apply(self, pictures: Pixels) -> Pixels:
        """Pictures float32 [n, h, w, c] in 0..255 with the trigger on."""
        return np.asarray(pictures * (1 - self.mask) + self.mask * self.pattern, np.float32)

    def shifted(self, down: int, right: int) -> "Trigger":
        """The trigger moved by whole pixels; what leaves the picture is cut off."""
        mask, pattern = (_shift(a, down, right) for a in (self.mask, self.pattern))
        return Trigger(mask, pattern, self.target, self.family)


def _shift(array: Pixels, down: int, right: int) -> Pixels:
    height, width = array.shape[:2]
    down, right = max(-height, min(height, down)), max(-width, min(width, right))
    out = np.zeros_like(array)
    rows = slice(max(0, down), min(height, height + down))
    cols = slice(max(0, right), min(width, width + right))
    back_rows = slice(max(0, -down), min(height, height - down))
    back_cols = slice(max(0, -right), min(width, width - right))
    out[rows, cols] = array[back_rows, back_cols]
    return out
