"""Plain shapes in plain colours: what attackers stamp by hand, and what a search by gradient can miss.

A backdoor behind units that stay dead until its trigger is nearly complete gives a search no slope to climb. Its triggers
are mostly plain: a white square in a corner, a line at the border, a few pixels in opposite corners (Gu et al.,
arXiv:1708.06733; TrojAI's polygons). These hundreds are simply tried, for all classes at once, and the best ones then
moved, grown and cut (nudge).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.invert.families import Family, grid_corners, replaced, square_masks
from onnx_shapprune.invert.nudge import unit_of

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shape = NDArray[np.bool_]  # [h, w], the pixels that are covered
# Squares: sides in units of a 32nd of the picture's shorter side, each with its places per axis. One that lies between two
# places of the larger ones shares half of its pixels with one of them, from where it is nudged on.
SQUARES = {1: 5, 2: 5, 3: 8, 5: 8}
COLOURED = 3  # side of those in colour, in the same units
CUBE = np.array(
    [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)][1:-1], np.float32
)  # colours, no greys


def plain(height: int, width: int, channels: int, places: int = 8) -> Family:
    """Squares, lines, corners and chequers in white and black and, on pictures with three channels, squares in the other
    six corners of the colour cube, each at so many `places` per axis.
    """
    unit = unit_of(height, width)
    return _family(list(_shapes(height, width, unit)), channels, unit, places)


def corners(height: int, width: int, channels: int) -> Family:
    """Of these what stands in corners, in white and black: all that is tried for maps of classes."""
    unit = unit_of(height, width)
    return _family(list(_in_corners(height, width, unit)), channels, unit)


def _family(shapes: Sequence[Shape], channels: int, unit: int, places: int = 0) -> Family:
    height, width = shapes[0].shape
    masks, paints = list[Shape](), list[Floats]()
    for colour in (255.0, 0.0):
        masks += shapes
        paints += [np.full(channels, colour, np.float32)] * len(shapes)
    for colour in CUBE if channels == 3 and places else ():
        squares = list(_squares(height, width, COLOURED * unit, places))
        masks += squares
        paints += [colour] * len(squares)
    covered = np.stack(masks)[..., None]
    colours = np.stack(paints)[:, None, None, :]
    fixed = np.where(covered, colours, 0).astype(np.uint8)  # bytes: these are hundreds of pictures
    fixed, covered = _with_chequers(fixed, covered, unit)
    return Family("plain", "a plain shape", covered.astype(np.float32), replaced, fixed)


def _shapes(height: int, width: int, unit: int) -> Iterator[Shape]:
    """One colour each."""
    for side, grid in SQUARES.items():
        yield from _squares(height, width, side * unit, grid)
    yield from _in_corners(height, width, unit)
    rows, columns = np.indices((height, width))
    for band in (unit, 3 * unit):
        yield from (rows < band, rows >= height - band, columns < band, columns >= width - band)
        yield from (abs(rows - height // 2) < band / 2, abs(columns - width // 2) < band / 2)
    border = (rows < unit) | (rows >= height - unit) | (columns < unit) | (columns >= width - unit)
    yield from (border, abs(rows * width - columns * height) < unit * width)
    yield abs(rows * width - (width - 1 - columns) * height) < unit * width


def _in_corners(height: int, width: int, unit: int) -> Iterator[Shape]:
    for inset in (0, unit):
        for side in (unit, 3 * unit):
            first, second, third, fourth = _corners(height, width, side, inset)
            yield from (first, second, third, fourth)
            yield from (first | fourth, second | third, first | second | third | fourth)


def _squares(height: int, width: int, side: int, grid: int) -> Iterator[Shape]:
    places = grid_corners(height, width, min(side, height, width), grid)
    yield from square_masks(height, width, side, places)[..., 0] > 0


def _corners(height: int, width: int, side: int, inset: int) -> list[Shape]:
    """Squares in the four corners, from the upper left one, at a distance from both borders."""
    low, right = height - side - inset, width - side - inset
    places = [(inset, inset), (inset, right), (low, inset), (low, right)]
    return list(square_masks(height, width, side, places)[..., 0] > 0)


def _with_chequers(fixed: Bytes, covered: Shape, unit: int) -> tuple[Bytes, Shape]:
    """Behind them 3 x 3 fields of black and white by turns, both ways, in the four corners."""
    height, width = covered.shape[1:3]
    rows, columns = np.indices((height, width)) // unit
    shapes = [s for inset in (0, unit) for s in _corners(height, width, 3 * unit, inset)]
    more, paints = [], []
    for shape in shapes:
        top, left = np.argwhere(shape)[0] // unit
        white = ((rows - top + columns - left) % 2 == 0) & shape
        for field in (white, shape & ~white):
            more.append(shape)
            paints.append(255 * field)
    masks = np.stack(more)[..., None]
    colours = np.repeat(np.stack(paints)[..., None].astype(np.uint8), fixed.shape[3], axis=3)
    return np.concatenate([fixed, colours]), np.concatenate([covered, masks])
