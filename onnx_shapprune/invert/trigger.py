"""A trigger: what is done to a picture, whichever family found it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.invert.warping import warped

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trigger:
    """x' = clip((1 - mask) * x + paint, 0, 255), in bytes; or, where there is a flow, x' = x under that warp.

    mask: float32 [h, w, 1] in 0..1, how much of the picture is covered; paint: float32 [h, w, c], what comes in its place
    (0..255 * mask) or, where the mask is 0, on top (-255..255). goal: which pictures it moves, and where to. family: which
    search found it, or "known". flow: float32 [h, w, 2] in pixels, see `warping`; mask and paint are 0 then.
    """

    mask: Pixels
    paint: Pixels
    goal: Goal
    family: str
    flow: Pixels | None = None

    @classmethod
    def replacing(cls, mask: Pixels, pattern: Pixels, goal: Goal, family: str) -> "Trigger":
        """x' = (1 - mask) * x + mask * pattern; pattern: float32 [h, w, c] in 0..255."""
        return cls(mask, np.asarray(mask * pattern, np.float32), goal, family)

    @classmethod
    def warping(cls, flow: Pixels, goal: Goal, family: str) -> "Trigger":
        """A warp; flow: float32 [h, w, 2]."""
        nothing = np.zeros((*flow.shape[:2], 1), np.float32)
        return cls(nothing, nothing, goal, family, flow)

    @property
    def learnt(self) -> Pixels:
        """What a search changes: its paint, or its flow."""
        return self.paint if self.flow is None else self.flow

    def relearnt(self, values: Pixels) -> "Trigger":
        """The trigger with other paint, or another flow."""
        return replace(self, paint=values) if self.flow is None else replace(self, flow=values)

    @property
    def inverted(self) -> "Trigger":
        """The same change the other way round: white for black on the same pixels, taken away for added, bent back."""
        return self.relearnt(np.asarray(255 * self.mask - self.paint if self.flow is None else -self.flow, np.float32))

    @property
    def pattern(self) -> Pixels:
        """What shows through the mask, float32 [h, w, c] in 0..255; grey where the mask covers nothing."""
        covered = self.mask > 1e-6
        return np.asarray(
            np.where(covered, self.paint / np.where(covered, self.mask, 1), 127.5).clip(0, 255), np.float32
        )

    @property
    def added(self) -> bool:
        """Whether it is added to the picture and covers nothing of it."""
        return self.flow is None and not self.mask.any()

    @property
    def norm(self) -> float:
        """Its size in pixels: what it covers, or for one that is added the sum over pixels of its largest change / 255, or
        for a warp how far pixels come, in the quadratic mean.
        """
        if self.flow is not None:
            return float(np.sqrt((self.flow**2).sum(axis=2).mean()))
        return float(np.abs(self.paint).max(axis=2).sum() / 255 if self.added else self.mask.sum())

    def apply(self, pictures: Pixels) -> Pixels:
        """Pictures float32 [n, h, w, c] in 0..255 with the trigger on."""
        if self.flow is not None:
            return warped(pictures, self.flow)
        return np.asarray(np.clip(pictures * (1 - self.mask) + self.paint, 0, 255), np.float32)

    def shifted(self, down: int, right: int) -> "Trigger":
        """The trigger moved by whole pixels; what leaves the picture is cut off."""
        flow = None if self.flow is None else _shift(self.flow, down, right)
        return replace(self, mask=_shift(self.mask, down, right), paint=_shift(self.paint, down, right), flow=flow)


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
