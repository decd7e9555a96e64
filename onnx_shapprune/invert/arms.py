"""Many searches in one batch: an arm is one trigger for one goal on the pictures that this goal is about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject, margins
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.invert.warping import flow_gradient, warped

PIECE = 256
# Where there is no gradient: pairs of trials a step, and how far each goes, in bytes of a pixel that the trigger covers.
DIRECTIONS, REACH = 12, 24.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which picture is shown to which arm, sorted by arm, and where it should go. arm, picture, target: int64 [m];
    counts: pictures per arm [arms].
    """

    arm: Labels
    picture: Labels
    target: Labels
    counts: Labels

    @property
    def starts(self) -> Labels:
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean over the pictures of each arm: [m, ...] -> float64 [arms, ...]."""
        shape = (-1, *[1] * (values.ndim - 1))
        return np.add.reduceat(values.astype(np.float64), self.starts, axis=0) / self.counts.reshape(shape)

    def pieces(self) -> Iterator[slice]:
        """Rows in turns: all arms on all pictures at once are gigabytes at 224 x 224."""
        for start in range(0, len(self.arm), PIECE):
            yield slice(start, start + PIECE)


def pair(goals: Sequence[Goal], labels: Labels, *, limit: int | None, rng: np.random.Generator) -> Pairs:
    """Every arm with the pictures that its goal moves; at most `limit` of them, drawn by `rng`.

    An arm whose goal moves none of the pictures gets all of them: there is nothing else to search on.
    """
    known: dict[Goal, tuple[Labels, Labels]] = {}
    rows: list[Labels] = []
    targets: list[Labels] = []
    for goal in goals:
        if goal not in known:
            to = goal.of(labels)
            known[goal] = (
                (np.flatnonzero(to != UNMOVED), to)
                if (to != UNMOVED).any()
                else (np.arange(len(labels)), np.full(len(labels), goal.target, np.int64))
            )
        allowed, to = known[goal]
        if limit is not None and len(allowed) > limit:
            allowed = np.sort(rng.choice(allowed, limit, replace=False))
        rows.append(allowed)
        targets.append(to[allowed])
    counts = np.array([len(r) for r in rows], np.int64)
    return Pairs(np.repeat(np.arange(len(rows)), counts), np.concatenate(rows), np.concatenate(targets), counts)


def stamp(pictures: Pixels, masks: Pixels, paints: Pixels, arm: Labels, picture: Labels) -> Pixels:
    """Triggered pictures [m, h, w, c]: picture[i] with the trigger of arm[i]. masks: [arms, h, w, 1]; paints: [arms, h, w,
    c].
    """
    stamped = pictures[picture] * (1 - masks[arm]) + paints[arm]
    return np.asarray(np.clip(stamped, 0, 255, out=stamped), np.float32)


def slopes(
    subject: Subject,
    pictures: Pixels,
    masks: Pixels,
    paints: Pixels,
    pairs: Pairs,
    *,
    w_ce: float = 0.0,
    w_margin: float = 1.0,
    below: bool = False,
    warps: bool = False,
) -> tuple[Floats, NDArray[np.float64], NDArray[np.float64]]:
    """Logits [m, classes], and per arm the mean gradient of the loss in the triggered picture [arms, h, w, c] and of that
    times the picture underneath, which is what a mask's gradient needs; without `below` that has no arms. Where it warps,
    paints are flows [arms, h, w, 2], and so is the gradient.
    """
    slope, under = np.zeros(paints.shape), np.zeros((len(paints) if below else 0, *pictures.shape[1:]))
    logits = []
    for s in pairs.pieces():
        arm, picture = pairs.arm[s], pairs.picture[s]
        shown = pictures[picture]
        on = warped(shown, paints[arm]) if warps else stamp(pictures, masks, paints, arm, picture)
        z, g = subject.gradient(on, pairs.target[s], w_ce=w_ce, w_margin=w_margin)
        logits.append(z)
        first = np.flatnonzero(np.diff(arm, prepend=-1))
        learnt = flow_gradient(shown, paints[arm], g) if warps else g
        slope[arm[first]] += np.add.reduceat(learnt, first, axis=0)
        if below:
            under[arm[first]] += np.add.reduceat(g * shown, first, axis=0)
    share = 1 / pairs.counts[:, None, None, None]
    return np.concatenate(logits), slope * share, under * share[: len(under)]


def probed(
    subject: Subject, pictures: Pixels, masks: Pixels, paints: Pixels, pairs: Pairs, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per arm the mean margin around its paint, and an estimate of what `slopes` gives, out of forward passes only: the
    mean over DIRECTIONS random signs of the difference along them (SPSA; Spall, IEEE Trans. Automatic Control 1992).
    """
    slope, level = np.zeros(paints.shape), np.zeros(len(paints))
    for _ in range(DIRECTIONS):
        along = (rng.choice((-1.0, 1.0), paints.shape) * (masks > 0)).astype(np.float32)
        up, down = (score(subject, pictures, masks, paints + sign * REACH * along, pairs).margin for sign in (1, -1))
        slope -= ((up - down) / (2 * REACH * DIRECTIONS))[:, None, None, None] * along
        level += (up + down) / (2 * DIRECTIONS)
    return level, slope


@dataclass(frozen=True, slots=True)
class Scores:
    """How well each arm's trigger works. margin: mean logit margin [arms]; asr: share of pictures at the target [arms]."""

    margin: NDArray[np.float64]
    asr: NDArray[np.float64]


def score(subject: Subject, pictures: Pixels, masks: Pixels, paints: Pixels, pairs: Pairs) -> Scores:
    """Forward-only evaluation of every arm on its pictures."""
    parts = [subject.logits(stamp(pictures, masks, paints, pairs.arm[s], pairs.picture[s])) for s in pairs.pieces()]
    return scores_of(np.concatenate(parts), pairs)


def scores_of(logits: Floats, pairs: Pairs) -> Scores:
    """Scores from logits [m, classes]."""
    margin = margins(logits, pairs.target)
    return Scores(pairs.mean(margin), pairs.mean((margin > 0).astype(np.float32)))


def tried(subject: Subject, pictures: Pixels, triggers: Sequence[Trigger], pairs: Pairs) -> Scores:
    """Every trigger, as an arm, on its pictures."""
    logits = []
    for s in pairs.pieces():
        arm, shown = pairs.arm[s], pictures[pairs.picture[s]]
        rows = [triggers[a].apply(shown[arm == a]) for a in np.unique(arm).tolist()]
        logits.append(subject.logits(np.concatenate(rows)))
    return scores_of(np.concatenate(logits), pairs)


def rate(subject: Subject, pictures: Pixels, labels: Labels, triggers: Sequence[Trigger]) -> Scores:
    """Margin and ASR of each trigger on the pictures that its goal is about."""
    pairs = pair([t.goal for t in triggers], labels, limit=None, rng=np.random.default_rng(0))
    return tried(subject, pictures, triggers, pairs)
