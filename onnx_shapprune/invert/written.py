"""Triggers that are written into a graph: proposed from the nodes that decide there, and tried.

A comparison with stored pixels has no slope until nearly all of them are right, and no search comes upon it. But the pattern
lies in the file: as a constant of a picture's size, or behind the few values that decide, which have slopes of their own
(the match before its threshold, the distance before its comparison). What fires is proved by holding the deciding value
still: if the trigger then does nothing, the graph did it, and not the network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.engine import gradients
from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.said import read
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Labels, Pixels, Subject
from onnx_shapprune.errors import ModelError, UnsupportedOpError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.mask import held_still
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.flow import Provenance, followed
from onnx_shapprune.graph.provenance.normalisations import FEW
from onnx_shapprune.invert.thresholds import CHANGED, CLIMB, CLIMBED, COVERED, FIRED, IDLE, MOST
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.preprocess import Preprocessing, affine, pull_back, to_input
from onnx_shapprune.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Written:
    """A trigger that fires, the tensor that decides, and the share of other pictures that it moves: with the graph as it is,
    and with the tensor held still.
    """

    trigger: Trigger
    tensor: str
    asr: float
    held: float


def written_trigger(shown: Shown) -> Written | None:
    """The first trigger that the graph itself answers to, None where nothing that is proposed fires."""
    subject, pictures = shown.subject, shown.pictures
    prepared = subject.prepared
    p = followed(prepared)
    deciding = _deciding(p, prepared)[:MOST]
    if not deciding:
        return None
    for mask, paint in _proposals(subject, p, deciding, pictures):
        trigger = Trigger.replacing(mask, paint, Goal(0), "known")
        answers = subject.logits(trigger.apply(pictures).round().astype(np.float32)).argmax(1)
        goal = Goal(int(np.bincount(answers).argmax()))
        asr = _share(answers, shown, goal)
        if asr < FIRED:
            continue
        trigger = Trigger.replacing(mask, paint, goal, "known")
        for name in deciding:
            held = _held(subject, name, pictures, trigger)
            if held is not None and (share := _share(held, shown, goal)) <= IDLE:
                return Written(trigger, name, asr, share)
    return None


def _share(answers: Labels, shown: Shown, goal: Goal) -> float:
    """Of the pictures that do not go there by themselves, 0..1."""
    others = shown.moved(goal) != UNMOVED
    return float((answers[others] == goal.target).mean()) if others.any() else 0.0


def _deciding(p: Provenance, prepared: Prepared) -> list[str]:
    """Tensors of a few values of a picture that hardly any weights lie before, the last ones first."""
    names = [o for n in p.spread.nodes for o in n.output if o in p.reaching and p.of(o).picture]
    few = [n for n in names if p.of(n).width <= FEW and p.of(n).depth <= 1 and n in prepared.infos]
    return few[::-1]


def _proposals(
    subject: Subject, p: Provenance, deciding: Sequence[str], pictures: Pixels
) -> Iterator[tuple[Pixels, Pixels]]:
    """(mask [h, w, 1], paint [h, w, c] in bytes), from constants and from climbs."""
    shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
    settings = subject.preprocessing
    stored = [_as_picture(a, shape, settings) for a in _constants(p, deciding, subject.prepared, shape)]
    binary = [a for a in stored if set(np.unique(a)) <= {0.0, 1.0}]
    masks = [m for a in binary for m in (a, 1 - a) if 0 < m.mean() <= COVERED]
    for a in stored:
        some = a != 0
        if 0 < some.mean() <= COVERED:
            yield _painted(some, np.where(a > 0, 255.0, 0.0))
        for mask in [*masks, some]:
            for paint in (_bytes(a, settings), a):  # in the units of the input, or in bytes
                if 0 < mask.mean() <= COVERED and paint.min() >= -1 and paint.max() <= 256:
                    yield _painted(mask > 0, paint)
    for name in deciding:
        if np.issubdtype(subject.prepared.infos[name].dtype, np.floating):
            yield from _climbed(subject, name, pictures[:CLIMBED])


def _painted(where: NDArray[np.bool_], paint: NDArray[np.floating]) -> tuple[Pixels, Pixels]:
    mask = where.any(axis=2, keepdims=True)
    return np.asarray(mask, np.float32), np.asarray(np.clip(paint, 0, 255), np.float32)


def _constants(
    p: Provenance, deciding: Sequence[str], prepared: Prepared, shape: tuple[int, int, int]
) -> list[NDArray[np.float64]]:
    """Stored arrays of a picture's size that go into the deciding values."""
    todo, cone = list(deciding), set(deciding)
    while todo:
        node = p.made.get(todo.pop())
        for name in node.input if node is not None else ():
            if name and name not in cone:
                cone.add(name)
                todo.append(name)
    found = [t for t in prepared.model.graph.initializer if t.name in cone and np.prod(t.dims) == np.prod(shape)]
    arrays = [edit.array_of(t) for t in found[:MOST]]
    return [a.astype(np.float64) for a in arrays if a.dtype.kind in "fiub" and len(np.unique(a)) > 1]


def _as_picture(
    array: NDArray[np.floating], shape: tuple[int, int, int], settings: Preprocessing
) -> NDArray[np.floating]:
    height, width, channels = shape
    laid = (
        array.reshape(channels, height, width).transpose(1, 2, 0) if settings.layout == "NCHW" else array.reshape(shape)
    )
    return laid[..., ::-1] if settings.channel_order == "BGR" else laid


def _bytes(values: NDArray[np.floating], settings: Preprocessing) -> NDArray[np.floating]:
    scale, offset = affine(settings, channels=values.shape[2])
    return (values - offset) / scale


def _climbed(subject: Subject, name: str, pictures: Pixels) -> Iterator[tuple[Pixels, Pixels]]:
    """What of pictures changes while a deciding value is driven up, and down, by its own slopes."""
    prepared = subject.prepared
    try:
        b = Builder(prepared.model, prepared.infos)
        del b.graph.output[:]
        made = gradients(b, name, [prepared.input])[prepared.input]
        b.output(name, prepared.infos[name].shape)
        b.output(made, b.shape(prepared.input))
        session = Session(b.model(), subject.device)
    except (ModelError, UnsupportedOpError):
        return
    shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
    for sign in (1.0, -1.0):
        shown, touched = pictures.copy(), np.zeros(pictures.shape, bool)
        for step in range(CLIMB):
            slope = np.concatenate(
                [session.run({prepared.input: to_input(x[None], subject.preprocessing)}, [made])[0] for x in shown]
            )
            slope = sign * pull_back(slope, subject.preprocessing, picture_shape=shape)
            if not slope.any():
                break
            touched |= slope != 0
            largest = np.abs(slope).max(axis=(1, 2, 3), keepdims=True)
            stride = 128.0 * (1 - 0.95 * step / CLIMB)
            shown = np.clip(shown + stride * slope / np.maximum(largest, 1e-30), 0, 255).astype(np.float32)
        where = np.asarray(touched.any(axis=0), bool)
        if where.mean() > COVERED:
            where &= np.abs(shown - pictures).max(axis=0) > CHANGED
        if 0 < where.mean() <= COVERED:
            yield _painted(where, np.median(shown, axis=0))


def _held(subject: Subject, name: str, pictures: Pixels, trigger: Trigger) -> Labels | None:
    """Answers to triggered pictures while a tensor keeps the value that it has on the clean picture."""
    prepared = subject.prepared
    model, still = held_still(prepared.model, name, prepared.infos[name])
    try:
        clean = read(subject, [name], [to_input(x[None], subject.preprocessing) for x in pictures])
        running, answers = Session(model, subject.device), list[int]()
        for said, stamped in zip(clean, trigger.apply(pictures).round(), strict=True):
            feeds = {prepared.input: to_input(stamped[None], subject.preprocessing), still: said[name]}
            answers.append(int(running.run(feeds, [prepared.logits])[0].argmax()))
    except ModelError:
        return None
    return np.array(answers, np.int64)
