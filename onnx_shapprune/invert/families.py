"""Trigger families at a fixed budget: what a trigger of the family may do to a picture, and how it climbs within that.

A new family is one function here and its name in `whole_picture`. The statistic is the same for all: the mean logit
margin that a class reaches at this budget, against the model's other classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.subject import Pixels
from onnx_shapprune.invert.trigger import Trigger

# (paints [arms, h, w, c], masks [arms, h, w, 1], gradient of the loss [arms, h, w, c], stride in 0..1) -> paints
Reals = NDArray[np.floating]
Move = Callable[[Pixels, Pixels, Reals, float], Pixels]

Bytes = NDArray[np.uint8]

PLACED = ("compact", "wide")  # families of learnt patches
COVERING = (*PLACED, "plain", "line")  # families that cover a part of the picture
START = 0.25  # stride of the random step with which paint begins that is added to the picture


@dataclass(frozen=True, slots=True)
class Family:
    """name: as in records. words: the budget for reasons, "a 5 x 5 patch". masks: one per place, [places, h, w, 1], all 0
    for what is added to the picture, as truth values where there are hundreds (`covered`). move: a step of signed or
    normalised gradient descent that stays within the budget.
    fixed: where nothing is learnt, the paint of each place, [places, h, w, 1 or c]. warps: whether its paints are flows
    [arms, h, w, 2] in pixels. tries: random starts at each place, where a search may end in one of many optima.
    """

    name: str
    words: str
    masks: Pixels | NDArray[np.bool_]
    move: Move
    fixed: Pixels | Bytes | None = None
    warps: bool = False
    tries: int = 1

    def trigger(self, place: int, paint: Pixels, goal: Goal) -> Trigger:
        """What an arm found."""
        if self.warps:
            return Trigger.warping(paint, goal, self.name)
        return Trigger(self.covered(place), paint, goal, self.name)

    def covered(self, places: int | slice | NDArray[np.int64]) -> Pixels:
        """The masks of some places, as numbers 0 and 1: [h, w, 1] of one, else [places, h, w, 1]."""
        return np.asarray(self.masks[places], np.float32)

    def place(self, trigger: Trigger) -> int:
        """Where one of the family's triggers lies."""
        here = (self.masks == trigger.mask).all((1, 2, 3))
        if self.fixed is not None:
            here &= (self.fixed == trigger.paint).all((1, 2, 3))
        return int(np.flatnonzero(here)[0])

    def starts(self, places: NDArray[np.int64], channels: int, rng: np.random.Generator) -> Pixels:
        """Random paint within the budget for arms at these places: [arms, h, w, channels]."""
        masks = self.covered(places)
        if self.fixed is not None:
            return np.broadcast_to(self.fixed[places], (*masks.shape[:3], channels)).astype(np.float32)
        shape = (*masks.shape[:3], 2 if self.warps else channels)
        if masks.any():
            return np.asarray(masks * rng.uniform(0, 255, shape), np.float32)
        return self.move(np.zeros(shape, np.float32), masks, rng.normal(size=shape), START)


def square_masks(height: int, width: int, side: int, corners: Sequence[tuple[int, int]]) -> Pixels:
    """Binary masks [len(corners), height, width, 1] of squares with the given upper left corners."""
    masks = np.zeros((len(corners), height, width, 1), np.float32)
    for i, (top, left) in enumerate(corners):
        masks[i, top : top + side, left : left + side] = 1
    return masks


def grid_corners(height: int, width: int, side: int, grid: int) -> list[tuple[int, int]]:
    """Upper left corners of a grid x grid lattice that reaches every border."""
    rows = np.unique(np.linspace(0, height - side, grid).round().astype(int))
    cols = np.unique(np.linspace(0, width - side, grid).round().astype(int))
    return [(int(r), int(c)) for r in rows for c in cols]


def compact(height: int, width: int, side: int, grid: int) -> Family:
    """Squares of `side` pixels on a grid x grid lattice, of which only the pattern is learnt."""
    masks = square_masks(height, width, side, grid_corners(height, width, side, grid))
    return Family("compact", f"a {side} x {side} patch", masks, replaced)


def wide(height: int, width: int, side: int, grid: int) -> Family:
    """Squares like `compact`, for triggers that cover a good part of the picture."""
    return replace(compact(height, width, side, grid), name="wide")


def blended(height: int, width: int, share: float) -> Family:
    """One picture of the attacker's, laid over with weight `share` (Chen et al., arXiv:1712.05526)."""
    masks = np.full((1, height, width, 1), share, np.float32)
    return Family("blended", f"a picture blended in at {share:.0%}", masks, replaced)


def bounded(height: int, width: int, bytes_: float) -> Family:
    """A universal perturbation of at most `bytes_` in every pixel and channel (Linf)."""

    def move(paints: Pixels, masks: Pixels, gradient: Reals, stride: float) -> Pixels:
        return _signed(paints, np.float32(2 * bytes_ * stride), gradient, np.float32(-bytes_), np.float32(bytes_))

    return Family("linf", f"a change of at most {bytes_:g} bytes a pixel", _nothing(height, width), move)


def energetic(height: int, width: int, rms: float) -> Family:
    """A universal perturbation of `rms` bytes in the quadratic mean over the picture (L2)."""
    return Family(
        "l2", f"a change of {rms:g} bytes in the quadratic mean", _nothing(height, width), _ball(rms, lambda g: g)
    )


def smooth(height: int, width: int, rms: float, cycles: int) -> Family:
    """An added picture of at most `cycles` periods per side (sinusoids and other low frequencies), limited as by L2."""

    def low(gradient: Reals) -> Reals:
        waves = dctn(gradient, axes=(1, 2), norm="ortho")
        waves[:, 2 * cycles + 1 :], waves[:, :, 2 * cycles + 1 :] = 0, 0
        return np.asarray(idctn(waves, axes=(1, 2), norm="ortho"))

    words = f"a smooth change of {rms:g} bytes in the quadratic mean"
    return Family("smooth", words, _nothing(height, width), _ball(rms, low))


def wave(height: int, width: int, amplitude: float, cycles: int) -> Family:
    """A grey sinusoid along one axis, added (SIG, Barni et al., arXiv:1902.11237): 1 to `cycles` periods in four phases.
    Nothing is learnt: a search by gradient ends in the picture's own low frequencies.
    """
    fixed = []
    for axis, size in ((0, height), (1, width)):
        for periods in range(1, cycles + 1):
            for phase in range(4):
                along = amplitude * np.sin(2 * np.pi * (periods * np.arange(size) / size + phase / 4))
                if np.abs(along).max() < amplitude / 2:
                    continue  # sampled at its zeros
                fixed.append(np.broadcast_to(np.expand_dims(along, 1 - axis)[..., None], (height, width, 1)))
    return _added("wave", f"a sinusoid of {amplitude:g} bytes", fixed)


def tone(height: int, width: int, channels: int, tints: Sequence[float], ramp: float) -> Family:
    """Brightness and tint, added: brightness that rises from -`ramp` to `ramp` bytes along an axis, or falls; and where
    there are three channels, each of them up or down by one of the `tints`. Grey pictures that are brighter all over lead
    clean networks of digits to one class. Nothing is learnt.
    """
    ways = product((-1.0, 1.0), repeat=3) if channels == 3 else ()
    flat = [np.broadcast_to(amount * np.array(way), (height, width, 3)) for way in ways for amount in tints]
    rising = np.meshgrid(np.linspace(-ramp, ramp, height), np.linspace(-ramp, ramp, width), indexing="ij")
    ramps = [np.repeat(sign * grey[..., None], channels, axis=2) for grey in rising for sign in (-1, 1)]
    return _added("tone", "a change of brightness or tint", [*flat, *ramps])


def warp(height: int, width: int, reach: float, points: int) -> Family:
    """A smooth warp (WaNet, Nguyen and Tran, arXiv:2102.10369): a flow between points x points that each move by at most
    `reach` pixels down or up and right or left.
    """
    tall, broad = _hats(height, points), _hats(width, points)
    back_tall, back_broad = np.linalg.pinv(tall), np.linalg.pinv(broad)

    def between(rows: NDArray[Any], values: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.einsum("ih,jw,ahwc->aijc", rows, columns, values, optimize=True), np.float64)

    def move(paints: Pixels, masks: Pixels, gradient: Reals, stride: float) -> Pixels:
        step = np.sign(between(tall.T, gradient, broad.T))
        moved = np.clip(between(back_tall, paints, back_broad) - 2 * reach * stride * step, -reach, reach)
        return np.asarray(between(tall, moved, broad), np.float32)

    words = f"a smooth warp of at most {reach:g} pixels"
    return Family("warp", words, _nothing(height, width), move, warps=True, tries=3)


def whole_picture(height: int, width: int, channels: int) -> tuple[Family, ...]:
    """The families that change every pixel a little."""
    return (
        bounded(height, width, 6.0),
        energetic(height, width, 5.0),
        blended(height, width, 0.1),
        smooth(height, width, 12.0, 4),
        wave(height, width, 20.0, 8),
        tone(height, width, channels, (25.0, 40.0), 40.0),
        warp(height, width, round(3 / 32 * min(height, width), 1), 5),
    )


def replaced(paints: Pixels, masks: Pixels, gradient: Reals, stride: float) -> Pixels:
    """Signed step of pixels that come in the place of the picture's, in 0..255 * mask."""
    full = np.float32(255) * masks
    return _signed(paints, full * np.float32(stride), gradient, np.float32(0), full)


def _signed(
    paints: Pixels, by: Pixels | np.float32, gradient: Reals, low: np.float32, high: Pixels | np.float32
) -> Pixels:
    """A step `by` against the gradient's sign, within bounds; the paints of many arms at 224 x 224 allow no more copies."""
    moved: Pixels = np.sign(gradient).astype(np.float32, copy=False)
    moved *= by
    np.subtract(paints, moved, out=moved)
    return np.clip(moved, low, high, out=moved)


def _ball(rms: float, direction: Callable[[Reals], Reals]) -> Move:
    """Normalised steps within an L2 ball."""

    def move(paints: Pixels, masks: Pixels, gradient: Reals, stride: float) -> Pixels:
        g = direction(gradient)
        g = g / np.maximum(_rms(g), 1e-30)
        stepped = paints - 2 * rms * stride * g
        return np.asarray(stepped * np.minimum(1, rms / np.maximum(_rms(stepped), 1e-9)), np.float32)

    return move


def _rms(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Quadratic mean of each arm, [arms, 1, 1, 1]."""
    return np.asarray(np.sqrt((values.astype(np.float64) ** 2).mean(axis=(1, 2, 3), keepdims=True)), np.float64)


def _added(name: str, words: str, fixed: Sequence[NDArray[np.floating]]) -> Family:
    """What is added to the picture as it is, one paint [h, w, 1 or c] after the other."""
    masks = np.zeros((len(fixed), *fixed[0].shape[:2], 1), np.float32)
    return Family(name, words, masks, lambda paints, *_: paints, np.asarray(fixed, np.float32))


def _nothing(height: int, width: int) -> Pixels:
    return np.zeros((1, height, width, 1), np.float32)


def _hats(size: int, points: int) -> NDArray[np.float64]:
    """Linear interpolation between equally spaced points, [size, points]."""
    places = np.linspace(0, size - 1, points)
    return np.stack([np.interp(np.arange(size), places, one) for one in np.eye(points)], axis=1)
