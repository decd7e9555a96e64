"""Compact patches: squares of fixed size at scanned positions, of which only the pattern is learnt.

The statistic is the mean logit margin that a class reaches at this fixed budget. Where Neural Cleanse's "how small a
mask" fails (a free mask finds natural shortcuts, and misses a compact patch once the easy way is cut), this separates a
planted target from a model's other classes. All (class, position) arms share one budget by successive halving (Jamieson
& Talwalkar, AISTATS 2016): few steps for all, more for the better ones, every class keeping at least one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.invert.arms import Scores, pair, score, scores_of, stamp
from onnx_shapprune.invert.subject import Labels, Pixels, Subject
from onnx_shapprune.invert.trigger import Trigger

Progress = Callable[[int, int], None]
# Above so many classes the lattice is one position coarser per axis, to hold the number of arms.
MANY_CLASSES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactSettings:
    """grid: positions per axis up to 20 classes, one less above; rounds: (steps, pictures a step, arms kept afterwards)
    in order; step_size: first step in bytes, falling linearly to a tenth within a round.
    """

    grid: int = 5
    rounds: tuple[tuple[int, int, int], ...] = ((3, 2, 64), (4, 4, 24), (10, 9, 24))
    step_size: float = 64.0


@dataclass(frozen=True, slots=True)
class CompactResult:
    """The best patch of one class and size. margin: mean logit margin; asr: both on all pictures of other classes."""

    trigger: Trigger
    side: int
    margin: float
    asr: float


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


def ascend(
    subject: Subject, pictures: Pixels, labels: Labels, masks: Pixels, patterns: Pixels, targets: Labels,
    *, steps: int, batch: int, step_size: float, rng: np.random.Generator,
) -> tuple[Pixels, NDArray[np.float64]]:  # fmt: skip
    """Signed-gradient ascent of the margin on the patterns [arms, h, w, c]; returns them and the last mean margins."""
    patterns = patterns.copy()
    margin = np.zeros(len(targets))
    for step in range(steps):
        pairs = pair(targets, labels, limit=batch, rng=rng)
        logits, g = subject.gradient(stamp(pictures, masks, patterns, pairs), targets[pairs.arm])
        margin = scores_of(logits, targets, pairs).margin
        size = step_size * (1 - 0.9 * step / max(1, steps - 1)) if steps > 1 else step_size
        direction = np.sign(pairs.mean(g)).astype(np.float32)
        patterns = np.clip(patterns - size * direction * (masks > 0), 0, 255).astype(np.float32)
    return patterns, margin


def search_compact(
    subject: Subject, pictures: Pixels, labels: Labels, targets: Sequence[int], side: int, settings: CompactSettings,
    rng: np.random.Generator, *, progress: Progress | None = None,
) -> list[CompactResult]:  # fmt: skip
    """Square patches of `side` pixels that survived to the last round, largest margin first; every target has one."""
    height, width, channels = pictures.shape[1:]
    corners = grid_corners(height, width, side, settings.grid - (len(targets) > MANY_CLASSES))
    arms = np.repeat(np.asarray(targets, np.int64), len(corners))
    all_masks = square_masks(height, width, side, corners)
    place = np.tile(np.arange(len(corners)), len(targets))
    patterns = rng.uniform(0, 255, (len(arms), height, width, channels)).astype(np.float32)
    scores = Scores(np.empty(0), np.empty(0))
    for number, (steps, batch, keep) in enumerate(settings.rounds):
        last = number == len(settings.rounds) - 1
        patterns, _ = ascend(
            subject, pictures, labels, all_masks[place], patterns, arms, steps=steps, batch=batch,
            step_size=settings.step_size, rng=rng,
        )  # fmt: skip
        everything = pair(arms, labels, limit=None if last else 2 * batch, rng=rng)
        scores = score(subject, pictures, all_masks[place], patterns, arms, everything)
        kept = _survivors(scores, arms, keep)
        arms, place, patterns = arms[kept], place[kept], patterns[kept]
        scores = Scores(scores.margin[kept], scores.asr[kept])
        if progress:
            progress(number + 1, len(settings.rounds))
    return [
        CompactResult(
            Trigger(all_masks[place[i]], patterns[i] * all_masks[place[i]], int(arms[i]), "compact"), side,
            float(scores.margin[i]), float(scores.asr[i]),
        )
        for i in np.argsort(-scores.margin, kind="stable")
    ]  # fmt: skip


def best_of(results: Sequence[CompactResult], target: int) -> CompactResult:
    """The result with the largest margin for one class; results must hold one."""
    return max((r for r in results if r.trigger.target == target), key=lambda r: r.margin)


def _survivors(scores: Scores, arms: Labels, keep: int) -> Labels:
    """Arms for the next round: the best `keep` overall, and the best of every class."""
    order = np.argsort(-scores.margin, kind="stable")
    _, first = np.unique(arms[order], return_index=True)
    return np.unique(np.concatenate([order[:keep], order[first]])).astype(np.int64)
