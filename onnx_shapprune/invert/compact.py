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


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactSettings:
    """grid: positions per axis; rounds: (steps, pictures a step, share of arms kept afterwards) in order;
    step_size: first step in bytes, falling linearly to a tenth within a round.
    """

    grid: int = 5
    rounds: tuple[tuple[int, int, float], ...] = ((3, 2, 0.25), (4, 4, 0.3), (10, 9, 1.0))
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
    """The best square patch of `side` pixels for every target class, in the order of `targets`."""
    height, width, channels = pictures.shape[1:]
    corners = grid_corners(height, width, side, settings.grid)
    arms = np.repeat(np.asarray(targets, np.int64), len(corners))
    all_masks = square_masks(height, width, side, corners)
    place = np.tile(np.arange(len(corners)), len(targets))
    patterns = rng.uniform(0, 255, (len(arms), height, width, channels)).astype(np.float32)
    for number, (steps, batch, keep) in enumerate(settings.rounds):
        patterns, _ = ascend(
            subject, pictures, labels, all_masks[place], patterns, arms, steps=steps, batch=batch,
            step_size=settings.step_size, rng=rng,
        )  # fmt: skip
        everything = pair(arms, labels, limit=None if number == len(settings.rounds) - 1 else 2 * batch, rng=rng)
        scores = score(subject, pictures, all_masks[place], patterns, arms, everything)
        kept = _survivors(scores, arms, keep)
        arms, place, patterns = arms[kept], place[kept], patterns[kept]
        scores = Scores(scores.margin[kept], scores.asr[kept])
        if progress:
            progress(number + 1, len(settings.rounds))
    results = []
    for target in targets:
        mine = np.flatnonzero(arms == target)
        best = int(mine[np.argmax(scores.margin[mine])])
        trigger = Trigger(all_masks[place[best]], patterns[best] * all_masks[place[best]], int(target), "compact")
        results.append(CompactResult(trigger, side, float(scores.margin[best]), float(scores.asr[best])))
    return results


def _survivors(scores: Scores, arms: Labels, keep: float) -> Labels:
    """Arms for the next round: the best share overall, and the two best of every class."""
    count = max(1, round(keep * len(arms)))
    order = np.argsort(-scores.margin, kind="stable")
    kept = set(order[:count].tolist())
    for target in np.unique(arms):
        kept |= set([i for i in order.tolist() if arms[i] == target][:2])
    return np.array(sorted(kept), np.int64)
