"""Many searches in one batch: an arm is one trigger for one goal on the pictures that this goal is about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats, Labels, Pixels, margins
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.warping import bend

# Where there is no gradient: pairs of trials a step, and how far each goes, in bytes of a pixel that the trigger covers.
DIRECTIONS, REACH = 12, 24.0
# Median margins that a single picture's counts for at most: a network that behaves well stays under it.
STEADY = 5.0
# Share of the pictures that may be more reluctant than the one whose margin is the least: of a good many one is a bad one.
RELUCTANT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Arms:
    """Triggers that are learnt side by side. masks: float32 [arms, h, w, 1]; paints: [arms, h, w, c], or flows [arms, h, w,
    2] where they are `warps`; goals: one for each arm.
    """

    masks: Pixels
    paints: Pixels
    goals: Sequence[Goal]
    warps: bool = False

    def painted(self, paints: Pixels) -> "Arms":
        """The same arms with other paints, or flows."""
        return replace(self, paints=paints)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which picture is shown to which arm, sorted by arm, and where it should go. arm, picture, target: int64 [m];
    counts: pictures per arm [arms]; moves: whether the arm's goal moves these pictures, bool [arms].
    """

    arm: Labels
    picture: Labels
    target: Labels
    counts: Labels
    moves: NDArray[np.bool_]

    @property
    def starts(self) -> Labels:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean over the pictures of each arm: [m, ...] -> float64 [arms, ...]."""
        shape = (-1, *[1] * (values.ndim - 1))
        return np.add.reduceat(values.astype(np.float64), self.starts, axis=0) / self.counts.reshape(shape)


def pair(shown: Shown, goals: Sequence[Goal], *, limit: int | None, rng: np.random.Generator) -> Pairs:
    """Every arm with the pictures that its goal moves (`Shown.moved`); at most `limit` of them, drawn by `rng`.

    An arm whose goal moves none of the pictures is learnt on all of them, for want of others; its rate stays 0.
    """
    known: dict[Goal, tuple[Labels, Labels, bool]] = {}
    rows: list[Labels] = []
    targets: list[Labels] = []
    for goal in goals:
        if goal not in known:
            to = shown.moved(goal)
            moved = np.flatnonzero(to != UNMOVED)
            known[goal] = moved, to, True
            if not len(moved):
                known[goal] = np.arange(len(shown)), np.full(len(shown), goal.target, np.int64), False
        allowed, to, _ = known[goal]
        if limit is not None and len(allowed) > limit:
            allowed = np.sort(rng.choice(allowed, limit, replace=False))
        rows.append(allowed)
        targets.append(to[allowed])
    counts = np.array([len(r) for r in rows], np.int64)
    moves = np.array([known[goal][2] for goal in goals], np.bool_)
    return Pairs(np.repeat(np.arange(len(rows)), counts), np.concatenate(rows), np.concatenate(targets), counts, moves)


def stamp(pictures: Pixels, masks: Pixels, paints: Pixels, arm: Labels, picture: Labels) -> Pixels:
    """Triggered pictures [m, h, w, c]: picture[i] with the trigger of arm[i]. masks: [arms, h, w, 1]; paints: [arms, h, w,
    c].
    """
    stamped: Pixels = pictures[picture]
    stamped *= 1 - masks[arm]
    stamped += paints[arm]
    return np.clip(stamped, 0, 255, out=stamped)


def slopes(
    shown: Shown, arms: Arms, pairs: Pairs, *, w_ce: float = 0.0, w_margin: float = 1.0, below: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Logits [m, classes], and per arm the mean gradient of the loss in the triggered picture [arms, h, w, c] and of that
    times the picture underneath, which is what a mask's gradient needs; without `below` that has no arms. Of warps the
    first gradient is the flows', [arms, h, w, 2].
    """
    pictures, masks, paints = shown.pictures, arms.masks, arms.paints
    slope = np.zeros(paints.shape, np.float32)
    under = np.zeros((len(paints) if below else 0, *pictures.shape[1:]), np.float32)

    def learnt(s: slice) -> tuple[Floats, Labels, Floats, Floats | None]:
        arm, picture = pairs.arm[s], pairs.picture[s]
        clean = pictures[picture]
        bent = bend(clean, paints[arm]) if arms.warps else None
        on = bent.pictures if bent else stamp(pictures, masks, paints, arm, picture)
        z, g = shown.subject.gradient(on, pairs.target[s], w_ce=w_ce, w_margin=w_margin)
        first = np.flatnonzero(np.diff(arm, prepend=-1))
        more = np.add.reduceat(g * clean, first, axis=0) if below else None
        return z, arm[first], np.add.reduceat(bent.in_flow(g) if bent else g, first, axis=0), more

    logits = []
    for z, some, more, more_under in shown.subject.in_batches(len(pairs.arm), learnt):
        logits.append(z)
        slope[some] += more
        if more_under is not None:
            under[some] += more_under
    share = np.float32(1) / pairs.counts[:, None, None, None].astype(np.float32)
    slope *= share
    under *= share[: len(under)]
    return np.concatenate(logits), slope, under


def probed(shown: Shown, arms: Arms, pairs: Pairs, rng: np.random.Generator) -> tuple[NDArray[np.float64], Floats]:
    """Per arm the mean margin around its paint, and an estimate of what `slopes` gives, out of forward passes only: the
    mean over DIRECTIONS random signs of the difference along them (SPSA; Spall, IEEE Trans. Automatic Control 1992).
    """
    slope, level = np.zeros(arms.paints.shape, np.float32), np.zeros(len(arms.paints))
    for _ in range(DIRECTIONS):
        along = (rng.choice((-1.0, 1.0), arms.paints.shape) * (arms.masks > 0)).astype(np.float32)
        up, down = (score(shown, arms.painted(arms.paints + sign * REACH * along), pairs).margin for sign in (1, -1))
        rise = ((up - down) / (2 * REACH * DIRECTIONS)).astype(np.float32)
        slope -= rise[:, None, None, None] * along
        level += (up + down) / (2 * DIRECTIONS)
    return level, slope


@dataclass(frozen=True, slots=True)
class Scores:
    """How well each arm's trigger works. margin: mean logit margin [arms]; asr: share of the pictures to be moved that go to
    their target [arms], 0 where there are none; least: margin of the most reluctant picture, but for RELUCTANT of them
    [arms], at most 0 where there are none to be moved.
    """

    margin: NDArray[np.float64]
    asr: NDArray[np.float64]
    least: NDArray[np.float64]


def score(shown: Shown, arms: Arms, pairs: Pairs) -> Scores:
    """Forward-only evaluation of every arm on its pictures; not of warps."""

    def scored(s: slice) -> Floats:
        return shown.subject.logits(stamp(shown.pictures, arms.masks, arms.paints, pairs.arm[s], pairs.picture[s]))

    return _all_scored(shown, pairs, scored)


def _all_scored(shown: Shown, pairs: Pairs, scored: Callable[[slice], Floats]) -> Scores:
    return scores_of(np.concatenate(list(shown.subject.in_batches(len(pairs.arm), scored))), pairs)


def scores_of(logits: Floats, pairs: Pairs) -> Scores:
    """Scores from logits [m, classes]."""
    margin = margins(logits, pairs.target)
    least = margin[np.lexsort((margin, pairs.arm))][pairs.starts + (RELUCTANT * pairs.counts).astype(np.int64)]
    asr = pairs.mean((margin > 0).astype(np.float32)) * pairs.moves
    return Scores(steady(margin, pairs), asr, np.where(pairs.moves, least, np.minimum(least, 0)).astype(np.float64))


def steady(margin: Floats, pairs: Pairs) -> NDArray[np.float64]:
    """Mean margin of each arm [arms] from that of each picture [m]: one picture counts for no more than STEADY times the
    median size, so that what moves a single picture by thousands of logits is no large margin of all.
    """
    size = np.abs(margin)
    size = size[np.lexsort((size, pairs.arm))]  # within each arm, smallest first
    median = (size[pairs.starts + (pairs.counts - 1) // 2] + size[pairs.starts + pairs.counts // 2]) / 2
    most = np.repeat(STEADY * median, pairs.counts)
    return pairs.mean(np.clip(margin, -most, most))


def tried(shown: Shown, triggers: Sequence[Trigger], pairs: Pairs) -> Scores:
    """Every trigger, as an arm, on its pictures."""

    def scored(s: slice) -> Floats:
        arm, clean = pairs.arm[s], shown.pictures[pairs.picture[s]]
        return shown.subject.logits(
            np.concatenate([triggers[a].apply(clean[arm == a]) for a in np.unique(arm).tolist()])
        )

    return _all_scored(shown, pairs, scored)


def rate(shown: Shown, triggers: Sequence[Trigger]) -> Scores:
    """Margin and ASR of each trigger on the pictures that it has to move."""
    pairs = pair(shown, [t.goal for t in triggers], limit=None, rng=np.random.default_rng(0))
    return tried(shown, triggers, pairs)


def recovered(shown: Shown, trigger: Trigger) -> float | None:
    """R-Acc, 0..1: the share of the pictures to be moved that keep their label with the trigger on; None without any."""
    rows = np.flatnonzero(shown.moved(trigger.goal) != UNMOVED)
    if not len(rows):
        return None
    answers = shown.subject.logits(trigger.apply(shown.pictures[rows])).argmax(1)
    return float((answers == shown.labels[rows]).mean())
