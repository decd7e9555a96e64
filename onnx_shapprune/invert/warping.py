"""Warps: pictures whose pixels are taken from places nearby, and what a loss says about where from.

A flow [h, w, 2] holds, for each pixel, how many pixels further down and to the right it is taken from; between pixels
linearly, beyond the border from the border.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Bent:
    """pictures: under their warps, float32 [n, h, w, c]; around: the four pixels around the source of each pixel, row by
    row, each [n, h, w, c]; down, right: how far it is between them [n, h, w, 1]; inside: whether it moves in each direction
    without leaving the picture [n, h, w, 2]. Of one flow for all pictures the last three are [1, ...].
    """

    pictures: Pixels
    around: tuple[Pixels, Pixels, Pixels, Pixels]
    down: Pixels
    right: Pixels
    inside: NDArray[np.bool_]

    def in_flow(self, gradient: Pixels) -> Pixels:
        """d loss / d flow, float32 [n, h, w, 2], from d loss / d warped picture [n, h, w, c]; 0 beyond the border."""
        a, b, c, d = self.around
        along = (c - a) * (1 - self.right) + (d - b) * self.right, (b - a) * (1 - self.down) + (d - c) * self.down
        slopes = [np.einsum("nhwc,nhwc->nhw", gradient, s) for s in along]
        return np.asarray(np.stack(slopes, axis=-1) * self.inside, np.float32)


def bend(pictures: Pixels, flows: Pixels) -> Bent:
    """Pictures float32 [n, h, w, c] under one flow [h, w, 2], or each under its own [n, h, w, 2]."""
    n, height, width, channels = pictures.shape
    size = np.array((height, width), np.float32)
    places = np.moveaxis(np.indices((height, width), np.float32), 0, -1) + flows
    places = places.reshape(-1, height, width, 2)
    inside = (places >= 0) & (places <= size - 1)
    places = places.clip(0, size - 1)
    first = np.minimum(places.astype(np.int64), np.maximum(size - 2, 0).astype(np.int64))
    down, right = np.split((places - first).astype(np.float32), 2, axis=-1)
    # Rows of all pictures below one another: taken by one number each, several times as fast as by three.
    pixels = pictures.reshape(-1, channels)
    corner = first[..., 0] * width + first[..., 1] + (np.arange(n) * height * width)[:, None, None]
    below, beside = width if height > 1 else 0, 1 if width > 1 else 0
    a, b, c, d = (pixels.take(corner + step, axis=0) for step in (0, beside, below, below + beside))
    upper, lower = a * (1 - right) + b * right, c * (1 - right) + d * right
    return Bent(upper * (1 - down) + lower * down, (a, b, c, d), down, right, inside)


def warped(pictures: Pixels, flows: Pixels) -> Pixels:
    """Pictures under flows, as `bend`."""
    return bend(pictures, flows).pictures
