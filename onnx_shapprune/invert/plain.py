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
Shape = NDArray[np.bool_]  # [h, w], the pixels that are covered
# Squares: sides in units of a 32nd of the picture's shorter side, each with its places per axis. One that lies between two
# places of the larger ones shares half of its pixels with one of them, from where it is nudged on.
SQUARES = {1: 5, 2: 5, 3: 8, 5: 8}
COLOURED = 3  # side of those in colour, in the same units
CUBE = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)][1:-1], np.uint8)  # colours, no greys


def plain(height: int, width: int, channels: int, places: int = 8) -> Family:
    """Squares, lines, corners and chequers in white and black and, on pictures with three channels, squares in the other
    six corners of the colour cube, each at so many `places` per axis.
    """
    unit = unit_of(height, width)
    return _family(list(_shapes(height, width, unit)), channels, unit, places)


def lines(height: int, width: int, channels: int, places: int = 8) -> Family:
    """Rows and columns a unit wide at so many `places` per axis, and a frame, in white, black and the six other corners of
    the colour cube.
    """
    unit = unit_of(height, width)
    rows, columns = np.indices((height, width))
    shapes = [
        (along >= start) & (along < start + unit)
        for along, size in ((rows, height), (columns, width))
        for start in np.linspace(0, size - unit, places).round()
    ]
    stamps = [(s, paint) for s in (*shapes, _frame(height, width, unit)) for paint in _paints(channels)]
    fixed, covered = _painted(stamps, channels)
    return Family("line", "a line or a frame", covered, replaced, fixed)


def corners(height: int, width: int, channels: int) -> Family:
    """Of these what stands in corners, in white and black: all that is tried for maps of classes."""
    unit = unit_of(height, width)
    return _family(list(_in_corners(height, width, unit)), channels, unit)


def _family(shapes: Sequence[Shape], channels: int, unit: int, places: int = 0) -> Family:
    height, width = shapes[0].shape
    white, black, *coloured = _paints(channels)
    stamps = [(shape, paint) for paint in (white, black) for shape in shapes]
    for paint in coloured if places else ():
        stamps += [(square, paint) for square in _squares(height, width, COLOURED * unit, places)]
    fixed, covered = _painted([*stamps, *_chequers(height, width, unit)], channels)
    return Family("plain", "a plain shape", covered, replaced, fixed)


def _paints(channels: int) -> list[Bytes]:
    """White, black and, with three channels, the other corners of the colour cube, [channels] each."""
    return [np.full(channels, grey, np.uint8) for grey in (255, 0)] + ([*CUBE] if channels == 3 else [])


def _painted(stamps: Sequence[tuple[Shape, Bytes]], channels: int) -> tuple[Bytes, Shape]:
    """Paints [n, h, w, c], in bytes, as these are hundreds of pictures, and masks [n, h, w, 1] of shapes with their colours,
    each one that can be laid on [h, w, c].
    """
    covered = np.stack([shape for shape, _ in stamps])[..., None]
    fixed = np.zeros((*covered.shape[:3], channels), np.uint8)
    for paint, (shape, colour) in zip(fixed, stamps, strict=True):
        np.copyto(paint, colour, where=shape[..., None])
    return fixed, covered


def _shapes(height: int, width: int, unit: int) -> Iterator[Shape]:
    """One colour each."""
    for side, grid in SQUARES.items():
        yield from _squares(height, width, side * unit, grid)
    yield from _in_corners(height, width, unit)
    rows, columns = np.indices((height, width))
    for band in (unit, 3 * unit):
        yield from (rows < band, rows >= height - band, columns < band, columns >= width - band)
        yield from (abs(rows - height // 2) < band / 2, abs(columns - width // 2) < band / 2)
    yield from (_frame(height, width, unit), abs(rows * width - columns * height) < unit * width)
    yield abs(rows * width - (width - 1 - columns) * height) < unit * width


def _frame(height: int, width: int, unit: int) -> Shape:
    rows, columns = np.indices((height, width))
    return (rows < unit) | (rows >= height - unit) | (columns < unit) | (columns >= width - unit)


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


def _chequers(height: int, width: int, unit: int) -> Iterator[tuple[Shape, Bytes]]:
    """3 x 3 fields of black and white by turns, both ways, in the four corners."""
    rows, columns = np.indices((height, width)) // unit
    for shape in (s for inset in (0, unit) for s in _corners(height, width, 3 * unit, inset)):
        top, left = np.argwhere(shape)[0] // unit
        white = (rows - top + columns - left) % 2 == 0
        for field in (white, ~white):
            yield shape, 255 * field[..., None].astype(np.uint8)
