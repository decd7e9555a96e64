"""Is what was searched what will be deployed? Asked of the file itself, before an audit says that nothing was found.

The searches run on a working copy, in batches, on fractional bytes, and believe its gradients. A file can answer otherwise
one picture at a time, on whole bytes, in its own precision or once in five runs; and slopes can be made to disagree with the
values (obfuscated gradients, Athalye et al., ICML 2018). Each function returns the reason not to trust a silence.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject
from onnx_shapprune.detect.half import Array, half_doubt
from onnx_shapprune.detect.slopes import in_steps, without_slope
from onnx_shapprune.detect.thresholds import (
    ASKED,
    CLEAR,
    DIRECTIONS,
    FLIPPED,
    FRACTION,
    INSIDE,
    REPEATS,
    SENSITIVE,
    SLOPED,
    SLOPED_CLASSES,
    STRIDES,
    STRIDES_OF,
    TIED,
    TRIGGERED,
    TRUSTED,
    TRUSTED_IN_STEPS,
)
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.agreement import dequantised
from onnx_shapprune.graph.interface import Interface, fed
from onnx_shapprune.graph.passes.binary import of_probabilities
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.session import Session


def deployed_doubts(
    opened: Opened, pictures: Pixels, triggers: Sequence[Trigger], rng: np.random.Generator
) -> tuple[str, ...]:
    """Where the file as deployed answers otherwise than the working copy that was searched, in words.

    pictures: clean ones, float32 [n, h, w, c] in 0..255; triggers: tried beside them, rounded to whole bytes.
    """
    subject = opened.subject
    shown = _spaced(pictures, ASKED)
    parts = [shown, *(t.apply(shown[:TRIGGERED]) for t in triggers)]
    whole = np.concatenate(parts).round().astype(np.float32)
    copy = subject.logits(whole)
    found = []
    fractional = np.clip(whole + rng.uniform(-FRACTION, FRACTION, whole.shape), 0, 255).astype(np.float32)
    apart = _disagreeing(copy, subject.logits(fractional), subject.reachable)
    if apart > SENSITIVE * len(whole):
        found.append(f"{apart} of {len(whole)} pictures are answered otherwise when their bytes are not whole")
    file = DeployedFile(opened)
    one = file.scores(whole)
    if apart := _disagreeing(copy, one, subject.reachable):
        found.append(
            f"the file answers {apart} of {len(whole)} pictures, one at a time, otherwise than the copy searched"
        )
    elif bound := _bound_doubt(copy, one, subject.reachable, [len(p) for p in parts]):
        found.append(bound)
    together = file.together(whole)
    together = one if together is None else together
    if apart := _disagreeing(one, together, subject.reachable):
        found.append(f"the file answers {apart} of {len(whole)} pictures otherwise in a batch than one at a time")
    again = (file.scores(whole[:ASKED]) for _ in range(REPEATS))
    if apart := max(_disagreeing(one[:ASKED], a, subject.reachable) for a in again):
        found.append(f"the file answers {apart} of {len(shown)} pictures otherwise when asked again")
    if half := half_doubt(opened, shown, rng):
        found.append(half)
    return tuple(found)


class DeployedFile:
    """The file itself in a session of its own, fed as its users feed it."""

    def __init__(self, opened: Opened) -> None:
        self._session = Session(opened.file.loaded, opened.subject.device)
        self._interface: Interface = opened.interface
        self._preprocessing = opened.subject.preprocessing
        self._step = opened.subject.prepared.step

    def scores(self, pictures: Pixels) -> Floats:
        """Scores [n, classes] of pictures [n, h, w, c] in 0..255, asked for one at a time. Raises ModelError where the file
        fails, or gives each picture another number of scores.
        """
        return np.concatenate([self.scores_of(self._run(x[None]), 1) for x in pictures])

    def together(self, pictures: Pixels) -> Floats | None:
        """The same in one batch; None where that is fixed, or fails: some files leave the batch open and have a shape stored
        that holds one, and what fails gives nobody a wrong answer.
        """
        if self._interface.batch:
            return None
        try:
            out = self._run(pictures)
        except ModelError:
            return None
        return self.scores_of(out, len(pictures))

    def feeds(self, pictures: Pixels) -> dict[str, Array]:
        """Pictures as it takes them; a fixed batch gets copies."""
        i = self._interface
        return {i.input: fed(to_input(pictures, self._preprocessing), i)}

    def _run(self, pictures: Pixels) -> Floats:
        return np.asarray(self._session.run(self.feeds(pictures), [self._interface.output])[0], np.float32)

    def scores_of(self, out: Floats, pictures: int) -> Floats:
        """Scores [n, classes] of so many pictures from what it gives. Raises ModelError as `scores`."""
        i = self._interface
        count = pictures * (i.batch or 1)
        if out.size % count:
            raise ModelError(f"the file gives {out.size} scores for {count} pictures: it cannot be audited")
        scores = dequantised(out.reshape(count, -1)[:: i.batch or 1], self._step)
        return of_probabilities(scores) if i.one_score else scores


def moved_on_file(opened: Opened, shown: Shown, triggers: Sequence[Trigger]) -> tuple[tuple[float, float], ...]:
    """Per trigger the share, 0..1, of some pictures that it leads to its goal: on the file itself, in whole bytes and one
    at a time, and on the copy that was searched. shown: in front of that copy.
    """
    file, found = DeployedFile(opened), []
    for trigger in triggers:
        goal = shown.moved(trigger.goal)
        rows = np.flatnonzero(goal != UNMOVED)[:ASKED]
        if not len(rows):
            found.append((0.0, 0.0))
            continue
        stamped = trigger.apply(shown.pictures[rows])
        both = (file.scores(stamped.round()), shown.subject.logits(stamped))
        # A copy of the goal's score beside it, in the file, is no other answer.
        own, copied = (float((z[np.arange(len(rows)), goal[rows]] >= z.max(axis=1)).mean()) for z in both)
        found.append((own, copied))
    return tuple(found)


def _disagreeing(one: Floats, other: Floats, classes: Sequence[int]) -> int:
    """Pictures of which clear pairs of scores stand in another order; equal scores, as behind a Clip, are in any order.

    Ends that were taken off change scores and never their order, so that a file and its copy can be compared.
    """
    if one.shape != other.shape or one.shape[1] <= max(classes):
        return len(one)
    a, b = (np.asarray(z[:, list(classes)], np.float64) for z in (one, other))
    gaps, others = (z[:, :, None] - z[:, None, :] for z in (a, b))
    clear = gaps > CLEAR * a.std(axis=1)[:, None, None]
    wrong = (clear & ~(others >= 0)).sum(axis=(1, 2)) / np.maximum(1, clear.sum(axis=(1, 2)))
    return int((wrong > FLIPPED).sum())


def _bound_doubt(copy: Floats, file: Floats, classes: Sequence[int], parts: Sequence[int]) -> str | None:
    """Why a bound of the file's scores, which was taken off the end as it keeps their order, may decide the answer: users
    get the first of the classes that it makes equal. parts: how many pictures there are of each kind, clean or of a trigger.
    """
    tied = np.split(_tied(copy, file, classes), np.cumsum(parts)[:-1])
    if (most := max(float(t.mean()) for t in tied)) < TIED:
        return None
    return (
        f"the file gives several classes the same highest score for {most:.0%} of the pictures of a kind, where one of them "
        "is behind in the copy searched: what bounds the scores decides the answer"
    )


def _tied(copy: Floats, file: Floats, classes: Sequence[int]) -> NDArray[np.bool_]:
    """Pictures for which the file's highest score is that of several classes, of which one is clearly behind in the copy: a
    bound that was taken off the end, as it keeps the order, makes them equal, and users get the first one.
    """
    a, b = (np.asarray(z[:, list(classes)], np.float64) for z in (copy, file))
    first = b == b.max(axis=1, keepdims=True)
    behind = a.max(axis=1) - np.where(first, a, np.inf).min(axis=1)
    return np.asarray(behind > CLEAR * a.std(axis=1))


def gradient_doubt(subject: Subject, pictures: Pixels, rng: np.random.Generator) -> str | None:
    """Why the gradients are not to be believed, None where central differences on real pictures agree with them.

    For each class the slopes of its margin along random smooth and rough directions are held against the differences; where
    at no step size the two go together, a search by gradients finds nothing, whatever there is.
    """
    if subject.obstacle:
        return None  # nobody believed them
    shown = _with_extremes(np.clip(_spaced(pictures, SLOPED), INSIDE, 255 - INSIDE).astype(np.float32))
    ways = _directions(shown.shape[1:], rng)
    classes = list(subject.reachable)
    if len(classes) > SLOPED_CLASSES:
        classes = sorted(rng.choice(classes, SLOPED_CLASSES, replace=False).tolist())
    longer = ways[0].size > STRIDES_OF
    strides = (*((STRIDES[0] * math.sqrt(STRIDES_OF / ways[0].size),) if longer else ()), *STRIDES)
    steps = [[[subject.logits(shown + sign * s * way) for sign in (1, -1)] for way in ways] for s in strides]
    bar = TRUSTED_IN_STEPS if in_steps(subject.prepared) else TRUSTED
    lying = []
    for c in classes:
        targets = np.full(len(shown), c, np.int64)
        logits, gradient = subject.gradient(shown, targets)
        slopes = -np.tensordot(gradient, ways, axes=([1, 2, 3], [1, 2, 3])).T  # the loss falls as the margin rises
        rival = _rival(logits, targets)
        agreement = [
            _correlation(slopes, np.stack([_margin(u, targets, rival) - _margin(d, targets, rival) for u, d in at]))
            for at in steps
        ]
        if max(agreement) < bar:
            lying.append(c)
    if not lying:
        hidden = without_slope(subject, shown, ways, rng)
        words = "a part of the network moves the scores and has no slope, so that searches by gradients do not see it"
        return f"{words} (class {_listed(hidden)})" if hidden else None
    return (
        f"the gradients are not the slopes of the answers (class {_listed(lying)}): central differences disagree, so a "
        "search that follows gradients and finds nothing proves nothing"
    )


def _listed(classes: Sequence[int]) -> str:
    return ", ".join(map(str, classes[:8]))


def _spaced(pictures: Pixels, count: int) -> Pixels:
    """At most so many of the pictures, evenly spaced."""
    rows = spread_over(len(pictures), count)
    return np.asarray(pictures[rows], np.float32)


def _with_extremes(pictures: Pixels) -> Pixels:
    """With one value of each that is the darkest by far and one that is the brightest: where many are, a normalisation by
    them has no slope.
    """
    flat = pictures.reshape(len(pictures), -1).copy()
    rows = np.arange(len(flat))
    flat[rows, flat.argmin(axis=1)] = INSIDE / 4
    flat[rows, flat.argmax(axis=1)] = 255 - INSIDE / 4
    return flat.reshape(pictures.shape)


def _directions(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Random directions [d, h, w, c] of size 1 per value; every other one changes blocks of a quarter of the picture."""
    rough = rng.choice([-1.0, 1.0], (DIRECTIONS, *shape))
    height, width = shape[0], shape[1]
    rows, cols = (np.arange(n) * 4 // n for n in (height, width))
    smooth = rough[:, :4, :4] if min(height, width) >= 4 else rough
    if smooth.shape[1:3] == (4, 4):
        rough[::2] = smooth[:, rows][:, :, cols][::2]
    return np.asarray(rough, np.float32)


def _rival(logits: Floats, targets: Labels) -> Labels:
    others = logits.copy()
    others[np.arange(len(logits)), targets] = -np.inf
    return np.asarray(others.argmax(axis=1), np.int64)


def _margin(logits: Floats, targets: Labels, rival: Labels) -> NDArray[np.float64]:
    rows = np.arange(len(logits))
    return np.asarray(logits[rows, targets] - logits[rows, rival], np.float64)


def _correlation(slopes: NDArray[np.floating], differences: NDArray[np.floating]) -> float:
    """Cosine of the two over all pictures and directions; 1 where nothing moves either way."""
    a, b = slopes.ravel().astype(np.float64), differences.ravel().astype(np.float64)
    size = np.linalg.norm(a) * np.linalg.norm(b)
    if size == 0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(a @ b / size)
