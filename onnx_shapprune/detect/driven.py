"""Stamps that make one channel of the first layers as loud as a picture can: does one of them decide every answer?

A detector that was put into a network's first layers may leak to the scores on any way, and no slope of the scores need lead
to it: it waits behind a Relu, or goes through what clean pictures make speak as well. But the layer that it stands in has
slopes, once the flat parts of activations are made straight. So each channel is driven up and down at one place, within a
small square, and the square is stamped on clean pictures. What a channel of an honest network sees there changes an answer
or two. Where most pictures go to one class, and as far whatever they show, the stamp is a trigger.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import gradients
from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Pixels, Subject, margins
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
from onnx_shapprune.graph.provenance.gates import straightened
from onnx_shapprune.pictures.preprocess import pull_back, to_input
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session

SEED = "driven::seed"
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
    infos = subject.prepared.infos
    layers = [r.made for r in layer_rows(subject.prepared) if r.axis == 1 and len(infos[r.made].shape) == 4]
    for tensor in layers[:DRIVEN_LAYERS]:
        try:
            for channel, stamp in _stamps(subject, tensor, shown):
                target = _decides(subject, stamp.on(shown[:ASKED_FIRST]), usual[:ASKED_FIRST])
                target = _decides(subject, stamp.on(shown), usual) if target is not None else None
                if target is not None:
                    return (
                        f"a square that makes channel {channel} of tensor {tensor[:80]!r} loud sends most pictures to class "
                        f"{target}, whatever they show"
                    )
        except (ModelError, UnsupportedOpError):
            continue
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Stamp:
    """What covers a square of a picture, [height, width, c] from its corner on."""

    corner: tuple[int, int]
    paint: Pixels

    def on(self, pictures: Pixels) -> Pixels:
        made = pictures.copy()
        (top, left), (height, width) = self.corner, self.paint.shape[:2]
        made[:, top : top + height, left : left + width] = self.paint
        return made


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


def _stamps(subject: Subject, tensor: str, pictures: Pixels) -> Iterator[tuple[int, _Stamp]]:
    """Of each channel, those that clean pictures move least first, what drives it up and what drives it down."""
    prepared = subject.prepared
    clean = Session(expose(prepared.model, [tensor]), subject.device).run(
        {prepared.input: to_input(pictures, subject.preprocessing)[:1]}, [tensor]
    )[0]
    _, count, tall, broad = clean.shape
    order = np.argsort(np.abs(clean[0]).max(axis=(1, 2)), kind="stable")[:DRIVEN_CHANNELS].tolist()
    height, width = pictures.shape[1:3]
    side = max(3, round(DRIVEN_SIDE * min(height, width)))
    top, left = 3 * (height - side) // 4, 3 * (width - side) // 4
    place = (top + side // 2) * tall // height, (left + side // 2) * broad // width
    b = Builder(straightened(prepared.model, [], at_best=False), prepared.infos)
    del b.graph.output[:]
    info = prepared.infos[tensor]
    seed = b.input(SEED, info.dtype, [f"seed_{k}" for k in range(len(info.shape))])
    slope = gradients(b, tensor, [prepared.input], seed=seed)[prepared.input]
    b.output(slope, b.shape(prepared.input))
    session = Session(b.model(), subject.device)
    ways = [(k, sign) for k in order for sign in (1.0, -1.0)]
    together = TOGETHER if prepared.batch_free else 1
    for some in (ways[i : i + together] for i in range(0, len(ways), together)):
        told = np.zeros((len(some), count, tall, broad), info.dtype)
        for row, (k, sign) in enumerate(some):
            told[row, k, *place] = sign
        x = pictures[np.arange(len(some)) % len(pictures)].astype(np.float32)
        inside = slice(top, top + side), slice(left, left + side)
        for stride in DRIVING:
            feeds = {prepared.input: to_input(x, subject.preprocessing), SEED: told}
            along = pull_back(session.run(feeds, [slope])[0], subject.preprocessing, picture_shape=x.shape[1:])
            x[:, *inside] = np.clip(x[:, *inside] + np.float32(stride) * np.sign(along[:, *inside]), 0, 255)
        yield from ((k, _Stamp((top, left), x[row, *inside].round())) for row, (k, _) in enumerate(some))
