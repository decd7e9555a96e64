"""Stamps that make one channel of the first layers as loud as a picture can: does one of them decide every answer?

A detector that was put into a network's first layers may leak to the scores on any way, and no slope of the scores need lead
to it: it waits behind a Relu, or goes through what clean pictures make speak as well. But the layer that it stands in has
slopes, once the flat parts of activations are made straight. So each channel is driven up and down at one place, within a
small square, and the square is stamped on clean pictures. What a channel of an honest network sees there changes an answer
or two. Where most pictures go to one class, and as far whatever they show, the stamp is a trigger.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.said import read
from onnx_shapprune.case.subject import Pixels, Subject, margins
from onnx_shapprune.detect.climbing import Slope
from onnx_shapprune.detect.thresholds import (
    ALIKE_WHATEVER,
    DRIVEN_CHANNELS,
    DRIVEN_LAYERS,
    DRIVEN_SIDE,
    DRIVING,
    MOVED_ENOUGH,
    PASSED_ON,
    SWAYED,
)
from onnx_shapprune.errors import ModelError, UnsupportedOpError
from onnx_shapprune.graph.provenance.gains import layer_rows
from onnx_shapprune.invert.families import square_masks
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.pictures.spread import spread_over

TOGETHER = 16  # pictures that climb at once
ASKED_FIRST = 4  # clean pictures that a stamp is tried on before the others


def driven_doubt(opened: Opened, pictures: Pixels) -> str | None:
    """The channel whose stamp decides, in words; None where there is none, where no slope leads to any, and where too few
    pictures are shown to say that it does not matter what they show.

    pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    subject = opened.subject
    shown = pictures[spread_over(len(pictures), PASSED_ON)]
    if len(shown) < MOVED_ENOUGH:
        return None
    usual = subject.logits(shown).argmax(axis=1)
    height, width = shown.shape[1:3]
    side = max(3, round(DRIVEN_SIDE * min(height, width)))
    corner = 3 * (height - side) // 4, 3 * (width - side) // 4
    middle = (corner[0] + side // 2) / height, (corner[1] + side // 2) / width
    inside = square_masks(height, width, side, [corner])[0] > 0
    infos = subject.prepared.infos
    pictured = (r.made for r in layer_rows(subject.prepared) if r.axis == 1 and len(infos[r.made].shape) == 4)
    for tensor in islice(pictured, DRIVEN_LAYERS):
        try:
            for channel, stamp in _stamps(subject, tensor, shown, inside, middle):
                stamped = np.where(inside, stamp, shown)
                target = _decides(subject, stamped[:ASKED_FIRST], usual[:ASKED_FIRST])
                target = _decides(subject, stamped, usual) if target is not None else None
                if target is not None:
                    return (
                        f"a square that makes channel {channel} of tensor {tensor[:80]!r} loud sends most pictures to class "
                        f"{target}, whatever they show"
                    )
        except (ModelError, UnsupportedOpError):
            continue
    return None


def _decides(subject: Subject, stamped: Pixels, usual: NDArray[np.int64]) -> int | None:
    """The class that most of the other pictures go to, as far whatever they show."""
    logits = subject.logits(stamped)
    answers = logits.argmax(axis=1)
    target = int(np.bincount(answers).argmax())
    others = usual != target
    if not others.any() or (answers[others] == target).mean() < SWAYED:
        return None
    margin = margins(logits, np.full(len(logits), target)).astype(np.float64)
    return target if margin.mean() > ALIKE_WHATEVER * margin.std() else None


def _stamps(
    subject: Subject, tensor: str, pictures: Pixels, inside: NDArray[np.bool_], middle: tuple[float, float]
) -> Iterator[tuple[int, Pixels]]:
    """Of each channel, those that a clean picture moves least first, what drives it up and what drives it down: a picture
    [h, w, c] that was changed `inside`, [h, w, 1]. middle: of that, in shares of the height and the width.
    """
    (clean,) = read(subject, [tensor], [to_input(pictures[:1], subject.preprocessing)])
    _, count, tall, broad = clean[tensor].shape
    order = np.argsort(np.abs(clean[tensor][0]).max(axis=(1, 2)), kind="stable")[:DRIVEN_CHANNELS].tolist()
    place = int(middle[0] * tall), int(middle[1] * broad)
    slope = Slope(subject, tensor)
    ways = [(k, sign) for k in order for sign in (1.0, -1.0)]
    together = TOGETHER if subject.prepared.batch_free else 1
    for some in (ways[i : i + together] for i in range(0, len(ways), together)):
        wanted = np.zeros((len(some), count, tall, broad), np.float32)
        for row, (k, sign) in enumerate(some):
            wanted[row, k, *place] = sign
        x = pictures[np.arange(len(some)) % len(pictures)].astype(np.float32)
        for stride in DRIVING:
            x = np.where(inside, slope.step(x, wanted, stride), x)
        yield from ((k, picture.round()) for (k, _), picture in zip(some, x, strict=True))
