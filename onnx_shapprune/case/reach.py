"""Which of a model's classes statistics are about: told by how the scores behave, on clean pictures and on noise.

Ten classes that are always -1,000, or the target's score written twice, change no answer and every median: the first make
any other class unusual, a class that is its own runner-up never leads. Such classes leave the search, and are reported.
"""

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject, margins
from onnx_shapprune.case.thresholds import (
    ALIKE,
    ASKED,
    FAR,
    FEATURES,
    NOISE,
    PUSHED,
    ROUNDED,
    SHOWN,
    SPREAD,
    STEPS,
    STILL,
    STRIDE,
    USUAL,
)
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.canonical import Reach, from_the_last_layers
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.session import Session


def reach_of(subject: Subject, pictures: Pixels, labels: Labels) -> Reach | None:
    """The classes that anything reaches and the scale of their scores; None where that is all of them, as they are.

    pictures: float32 [n, h, w, c] in 0..255; labels: int64 [n]: their classes stay.
    """
    rng = np.random.default_rng(0)
    chosen = spread_over(len(pictures), SHOWN)
    noise = rng.uniform(0, 255, (NOISE, *pictures.shape[1:])).astype(np.float32)
    z = subject.logits(np.concatenate([pictures[chosen], noise])).astype(np.float64)
    answered = np.union1d(np.unique(labels), np.unique(z.argmax(1)))
    answered = answered[(answered >= 0) & (answered < z.shape[1])]
    deviation = z.std(axis=0)
    spread = float(np.median(deviation[answered]))
    if not np.isfinite(z).all() or spread <= 0 or len(answered) < 2:
        return None  # nothing to compare with
    away = z.max(axis=1, keepdims=True) - z
    usual = max(float(np.median(away[:, answered].mean(axis=0))), spread)
    copies = _copies(z, answered, spread)
    still = [c for c in range(z.shape[1]) if c not in answered and c not in copies and deviation[c] <= STILL * spread]
    far = [
        c
        for c in range(z.shape[1])
        if c not in answered and c not in copies and c not in still and away[:, c].min() > FAR * usual
    ]
    far = [c for c, reached in zip(far, _climbed(subject, pictures[chosen][:4], far), strict=True) if not reached]
    left_out = {*copies, *still, *far}
    scale = _scale(z[:, [c for c in range(z.shape[1]) if c not in left_out]])
    if not left_out and scale == 1:
        return None
    offset = np.zeros(z.shape[1])
    offset[list(copies)] = -PUSHED * usual * scale
    return Reach(
        tuple(c for c in range(z.shape[1]) if c not in left_out),
        tuple(offset.tolist()),
        scale,
        tuple(_notes(copies, still, far)),
        tuple(_waits(subject, copies, still)),
    )


def _waits(subject: Subject, copies: dict[int, int], still: list[int]) -> list[int]:
    """Classes whose score does not move, or repeats another's, on pictures, and does otherwise where the last layers are
    given whatever there is: somebody may have made them wait. All of them where that cannot be asked.
    """
    if not (copies or still):
        return []
    tail, entries = from_the_last_layers(subject.prepared)
    infos, rng = subject.prepared.infos, np.random.default_rng(0)
    waits, asked = set[int](), 0
    try:
        shapes = {n: (1, *(d or 1 for d in infos[n].shape[1:])) for n in entries}
        session = Session(tail, subject.device)
        for size in FEATURES:
            fed = [
                {n: np.float32(size) * rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
                for _ in range(ASKED)
            ]
            z = np.stack([session.run(each)[0].reshape(-1) for each in fed]).astype(np.float64)
            if not np.isfinite(z).all():
                continue
            asked += 1
            centred, spread = z - z.mean(axis=0), float(np.median(z.std(axis=0)))
            least = ROUNDED * np.maximum(spread, np.abs(z).max(axis=0))
            waits |= {c for c in still if np.ptp(z[:, c]) > least[c]}
            waits |= {c for c, leader in copies.items() if _beside(centred[:, c], centred[:, leader])[1] > least[c]}
    except (ModelError, ValueError, LookupError):
        asked = 0
    return sorted(waits) if asked else sorted([*copies, *still])


def _beside(score: NDArray[np.float64], leader: NDArray[np.float64]) -> tuple[float, float]:
    """How many times another one a score is, and the most that is left of it beside that."""
    gain = float(score @ leader) / max(float(leader @ leader), 1e-300)
    return gain, float(np.abs(score - gain * leader).max())


def _copies(z: NDArray[np.float64], answered: Labels, spread: float) -> dict[int, int]:
    """Class -> the one whose score it repeats, shifted at most: the lower of the two, or the later of equals."""
    found: dict[int, int] = {}
    order = sorted(range(z.shape[1]), key=lambda c: (-z[:, c].mean(), c))
    centred = z - z.mean(axis=0)
    for place, c in enumerate(order):
        for leader in order[:place]:
            same = float(np.abs(centred[:, c] - centred[:, leader]).max()) <= ALIKE * spread
            if same and leader not in found and centred[:, leader].std() > STILL * spread:
                found[c] = leader
                break
        else:
            followed = None if c in answered else _follows(centred, c, answered, spread)
            if followed is not None:
                found[c] = followed
    return found


def _follows(centred: NDArray[np.float64], c: int, answered: Labels, spread: float) -> int | None:
    """The class of which a score that never leads is a multiple."""
    power = (centred**2).sum(axis=0)
    for leader in answered.tolist():
        if leader == c or power[leader] <= 0 or power[c] <= 0:
            continue
        gain, rest = _beside(centred[:, c], centred[:, leader])
        if gain > 0 and rest <= ALIKE * spread * min(1.0, gain) and gain > STILL:
            return int(leader)
    return None


def _climbed(subject: Subject, pictures: Pixels, classes: list[int]) -> list[bool]:
    """Whether gradients lead some picture to each class, or half of the way; yes where there are none to ask."""
    if subject.obstacle:
        return [True] * len(classes)
    reached = []
    for c in classes:
        targets = np.full(len(pictures), c, np.int64)
        shown = pictures.copy()
        start = margins(subject.logits(shown), targets).max()
        best = start
        for _ in range(STEPS):
            logits, gradient = subject.gradient(shown, targets)
            best = max(best, float(margins(logits, targets).max()))
            shown = np.clip(shown - STRIDE * np.sign(gradient), 0, 255).astype(np.float32)
        reached.append(bool(best > start / 2))
    return reached


def _scale(z: NDArray[np.float64] | Floats) -> float:
    """What brings the scores' usual spread within a picture to where searches work; 1 where it is there."""
    spread = float(np.median(z.std(axis=1)))
    return 1.0 if USUAL[0] <= spread <= USUAL[1] or spread <= 0 else SPREAD / spread


def _notes(copies: dict[int, int], still: list[int], far: list[int]) -> list[str]:
    told = [f"class {c}: its score is that of class {leader}, shifted at most" for c, leader in sorted(copies.items())]
    if still:
        told.append(f"{_classes(still)}: no picture changes the score")
    if far:
        told.append(f"{_classes(far)}: no picture and no search comes near")
    return told


def _classes(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"class {listed}" if len(numbers) == 1 else f"classes {listed}"
