"""Warps: pictures whose pixels are taken from places nearby, and what a loss says about where from.

A flow [h, w, 2] holds, for each pixel, how many pixels further down and to the right it is taken from; between pixels
linearly, beyond the border from the border.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


def warped(pictures: Pixels, flows: Pixels) -> Pixels:
    """Pictures float32 [n, h, w, c] under one flow [h, w, 2], or each under its own [n, h, w, 2]."""
    (a, b, c, d), down, right, _ = _corners(pictures, flows)
    upper, lower = a * (1 - right) + b * right, c * (1 - right) + d * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def flow_gradient(pictures: Pixels, flows: Pixels, gradient: Pixels) -> Pixels:
    """d loss / d flow, float32 [n, h, w, 2], from d loss / d warped picture [n, h, w, c]; 0 beyond the border."""
    (a, b, c, d), down, right, inside = _corners(pictures, flows)
    along = (c - a) * (1 - right) + (d - b) * right, (b - a) * (1 - down) + (d - c) * down
    slopes = [(gradient * s).sum(axis=3) for s in along]
    return np.asarray(np.stack(slopes, axis=-1) * inside, np.float32)


def _corners(
    pictures: Pixels, flows: Pixels
) -> tuple[list[Pixels], NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """The four pixels around each source, how far it is down and right between them [n, h, w, 1], and whether it moves in
    each direction without leaving the picture [n, h, w, 2].
    """
    size = np.array(pictures.shape[1:3])
    places = np.moveaxis(np.indices(pictures.shape[1:3]), 0, -1) + flows
    places = np.broadcast_to(places, (len(pictures), *places.shape[-3:]))
    inside = (places >= 0) & (places <= size - 1)
    places = places.clip(0, size - 1)
    first = np.minimum(places.astype(np.int64), np.maximum(size - 2, 0))
    rest = (places - first).astype(np.float32)
    after = np.minimum(first + 1, size - 1)
    rows = np.arange(len(pictures))[:, None, None]
    around = [pictures[rows, y[..., 0], x[..., 1]] for y in (first, after) for x in (first, after)]
    return around, rest[..., :1], rest[..., 1:], inside
