"""The proof that a working copy is the file: the same logits, and the same class in front.

Logits are compared where the file itself has them, before its Softmax, and in the measure of what tells classes apart:
the distance of a class from the middle one. An absolute tolerance would accept another network where a thousand
probabilities are all small, and one class that is always far away must not stretch the measure for the others.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.errors import ModelError, VerifyError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.interface import fed
from onnx_shapprune.graph.passes.binary import of_logits, of_probabilities
from onnx_shapprune.graph.passes.contract import Work
from onnx_shapprune.runtime.probe import expose, largest_difference
from onnx_shapprune.runtime.session import Session
from onnx_shapprune.runtime.weights import elsewhere, shell

# fp32 kernels fused differently agree to about 1e-6; fp16 files are compared at fp16 rounding, and in a quantised one a
# number halfway between two steps may go to either.
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "quantised": 5e-2}
# Values of a picture that are moved, each by itself, and by how much: a byte where pictures are 0 to 1, and less than one
# elsewhere. In a deep quantised network one number halfway between two steps ends in most of the last ones: the answers of
# a MobileNetV2 of others move by 0.5 to 0.75 then, and its copy was off by 0.37. At most CHAOS is believed: what is off by
# as much as classes lie apart is another network. 2026-11-28, chosen.
MOVED, BYTE, CHAOS = 16, 1 / 255, 0.8
ROUNDING = 16 * float(np.finfo(np.float32).eps)  # of a logit's own size: fp32 sums cannot agree better
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the file says of some pictures. scores: its own output, float32 [n, k], one score as those of two classes;
    logits: float32 [n, k], None where the file does not hold the tensor that the copy makes.
    """

    scores: Floats
    logits: Floats | None


def prove(original: onnx.ModelProto, work: Work, pictures: Floats) -> float:
    """Largest difference between the file's logits and the copy's, in units of what tells classes apart.

    pictures: float32 [n, *work.shape]. Raises ModelError where the file has no finite answer, VerifyError where the copy
    is another network.
    """
    got = answers(work.model, work, pictures)
    want = ask(original, work, pictures)
    if not want.scores.size or not got.size:
        raise ModelError("not an image classifier: the model gives no scores for a picture")
    if not np.isfinite(want.scores).all():
        raise ModelError("the model answers NaN or infinity on a plain picture: it cannot be audited")
    if want.logits is not None:
        difference = departure(want.logits, got)
    else:
        # The Sigmoid of one score is the Softmax of the two.
        for op in ("Softmax",) if work.score else reversed(work.stripped):
            got = _applied(op, got)
        difference = largest_difference(want.scores, got)
    tolerance = TOLERANCE[work.rounding]
    if work.rounding == "quantised" and tolerance < difference < np.inf:
        tolerance = max(tolerance, min(_moved_by_a_byte(original, work, pictures[0], want), CHAOS))
    if not difference <= tolerance:
        raise VerifyError(f"the working copy differs from the file by {difference:.2g}: this graph cannot be audited")
    if not same_winner(want.scores, got, tolerance):
        raise VerifyError("the working copy puts another class in front than the file: this graph cannot be audited")
    return difference


def _moved_by_a_byte(original: onnx.ModelProto, work: Work, picture: Floats, want: Answers) -> float:
    """How far the file's own answers move, at most, when a single value of a picture does: a copy that is no further off is
    as near as the file is to itself. In the units of what they are compared in; want: of `picture` in the first row.
    """
    moved = np.repeat(picture[None], MOVED, axis=0)
    places = np.random.default_rng(0).choice(picture.size, MOVED)
    moved.reshape(MOVED, -1)[np.arange(MOVED), places] += np.float32(BYTE if work.interface.scaled else 1)
    found = ask(original, work, moved)
    if want.logits is None or found.logits is None:
        return largest_difference(np.repeat(want.scores[:1], MOVED, axis=0), found.scores)
    return max(departure(want.logits[:1], row[None]) for row in found.logits)


def departure(want: Floats, got: Floats) -> float:
    """Largest difference of two sets of logits [n, k], each in units of how far its class is from the middle one.

    The median distance is the least unit, and what fp32 rounds off a logit is let pass. Infinity for other shapes and for
    what is not finite; below 1e-4 for two runs of one network in fp32.
    """
    if want.shape != got.shape or not (np.isfinite(want).all() and np.isfinite(got).all()):
        return float("inf")
    exact = want.astype(np.float64)
    apart = np.abs(exact - np.median(exact, axis=1, keepdims=True))
    usual = np.median(apart) if exact.shape[1] > 2 else apart.max(initial=0.0)
    off = np.maximum(np.abs(exact - got) - ROUNDING * np.abs(exact).max(axis=0), 0)
    units = np.maximum(apart.max(axis=0), usual)
    return float(np.divide(off, units, out=np.where(off > 0, np.inf, 0.0), where=units > 0).max(initial=0.0))


def same_winner(scores: Floats, logits: Floats, tolerance: float) -> bool:
    """Whether, in every row, the class with the largest logit has the largest score, but for `tolerance` of its lead."""
    if scores.shape != logits.shape:
        return False
    best, chosen = scores.max(axis=1), np.take_along_axis(scores, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    return bool((best - chosen <= tolerance * (best - np.median(scores, axis=1))).all())


def answers(copy: onnx.ModelProto, work: Work, pictures: Floats) -> Floats:
    """What a copy makes of pictures, one by one while its batch is not free: float32 [n, k]."""
    session = Session(copy, work.device)
    if work.batch_free:
        found = session.run({work.input: pictures})[0].reshape(len(pictures), -1)
    else:
        batch = work.interface.batch or 1
        found = _firsts([session.run({work.input: np.repeat(row[None], batch, 0)})[0] for row in pictures], batch)
    return of_probabilities(found) if work.interface.one_score and not work.score else found


def ask(original: onnx.ModelProto, work: Work, pictures: Floats) -> Answers:
    """What the file says of pictures, fed as it wants them: one by one, in copies where its batch is fixed."""
    interface = work.interface
    names = {copy: name for name, copy in work.renamed.items()}
    made = work.score or work.model.graph.output[0].name
    wanted = names.get(made, made)
    whole = original
    if wanted not in edit.producers(original.graph) and original.functions:
        whole = edit.inlined(original)
    known = wanted != interface.output and wanted in edit.producers(whole.graph)
    shown = expose(shell(whole, elsewhere), [wanted]) if known else whole
    session = Session(shown, work.device, weights=whole)
    batch, outputs = interface.batch or 1, [interface.output, *([wanted] if known else [])]
    scores, logits = [], []
    for row in pictures:
        own, *inner = session.run({interface.input: fed(row[None], interface)}, outputs)
        scores.append(own)
        logits += inner
    found, before = dequantised(_firsts(scores, batch), work.step), _firsts(logits, batch) if logits else None
    if interface.one_score:
        found, before = of_probabilities(found), None if before is None else of_logits(before)
    return Answers(found, found if wanted == interface.output else before)


def dequantised(scores: Floats, step: tuple[float, float]) -> Floats:
    """What a file gives, as the numbers that it rounded. step: as of Work."""
    scale, zero = step
    return np.asarray((scores - np.float32(zero)) * np.float32(scale), np.float32)


def _firsts(rows: list[Floats], batch: int) -> Floats:
    """The scores of the first picture of every batch, laid flat."""
    firsts = [np.asarray(row, np.float32)[: max(1, len(row) // batch)] if np.ndim(row) else row for row in rows]
    return np.concatenate([np.asarray(first, np.float32).reshape(1, -1) for first in firsts])


def _applied(op: str, logits: Floats) -> Floats:
    """An end that was taken off, computed."""
    z = np.asarray(logits, np.float64)
    if op == "Sigmoid":
        return np.asarray(1 / (1 + np.exp(-z)), np.float32)
    z = z - z.max(axis=1, keepdims=True)
    log = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return np.asarray(log if op == "LogSoftmax" else np.exp(log), np.float32)
