"""Search at a fixed budget: the largest mean logit margin that a trigger of one family reaches for each goal.

Where Neural Cleanse's "how small a mask" fails (a free mask finds natural shortcuts, and misses a compact patch once the
easy way is cut; a blended trigger is no smaller than natural ones), this separates a planted target from a model's other
classes. All (goal, place) arms share one budget by successive halving (Jamieson & Talwalkar, AISTATS 2016): few steps for
all, more for the better ones, every goal keeping at least one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED, Goal
from onnx_shapprune.case.subject import Floats, Labels, Pixels, Subject, margins
from onnx_shapprune.invert.arms import Scores, pair, probed, scores_of, slopes, tried
from onnx_shapprune.invert.families import Family, Move
from onnx_shapprune.invert.trigger import Trigger

Progress = Callable[[int, int], None]
STRIDE = 0.25  # of the budget's width, the first step


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """rounds: (steps, pictures a step, arms kept afterwards) in order; steps fall linearly to a tenth within a round; every
    goal keeps its best arm, in the last round only the best `leaders` goals.
    """

    rounds: tuple[tuple[int, int, int], ...] = ((3, 2, 64), (4, 4, 16), (10, 9, 16))
    leaders: int = 5


# Where nothing is learnt, the rounds only choose among the places.
FIXED = ScanSettings(rounds=((0, 1, 64), (0, 4, 16), (0, 9, 16)))


@dataclass(frozen=True, slots=True)
class Found:
    """The best trigger of one arm. margin: mean logit margin; asr: both on all pictures that the goal is about."""

    trigger: Trigger
    margin: float
    asr: float


def ascend(
    subject: Subject,
    pictures: Pixels,
    labels: Labels,
    masks: Pixels,
    paints: Pixels,
    goals: Sequence[Goal],
    move: Move,
    *,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    stride: float = STRIDE,
    warps: bool = False,
) -> tuple[Pixels, NDArray[np.float64]]:
    """Climb the margin with the paints [arms, h, w, c], or flows [arms, h, w, 2] where it warps; returns them, and the mean
    margins before the last step.
    """
    margin = np.zeros(len(goals))
    for step in range(steps):
        pairs = pair(goals, labels, limit=batch, rng=rng)
        if subject.obstacle:
            margin, slope = probed(subject, pictures, masks, paints, pairs, rng)
        else:
            logits, slope, _ = slopes(subject, pictures, masks, paints, pairs, warps=warps)
            margin = scores_of(logits, pairs).margin
        paints = move(paints, masks, slope, stride * (1 - 0.9 * step / max(1, steps - 1)))
    return paints, margin


def scan(
    subject: Subject,
    pictures: Pixels,
    labels: Labels,
    goals: Sequence[Goal],
    family: Family,
    settings: ScanSettings,
    rng: np.random.Generator,
    *,
    progress: Progress | None = None,
) -> list[Found]:
    """The best arms, largest margin first; every goal has at least one. Goals that are not among the `leaders` before the
    last round stay as they were then, measured on fewer pictures.
    """
    places = np.repeat(np.arange(len(family.masks)), family.tries)
    arm = np.repeat(np.arange(len(goals)), len(places))
    place = np.tile(places, len(goals))
    paints = family.starts(place, pictures.shape[3], rng)
    done: list[Found] = []
    for number, (steps, batch, keep) in enumerate(settings.rounds):
        last = number == len(settings.rounds) - 1
        wanted = [goals[a] for a in arm.tolist()]
        paints, _ = ascend(
            subject,
            pictures,
            labels,
            family.masks[place],
            paints,
            wanted,
            family.move,
            steps=steps,
            batch=batch,
            rng=rng,
            warps=family.warps,
        )
        everything = pair(wanted, labels, limit=None if last else 2 * batch, rng=rng)
        triggers = [family.trigger(*arm) for arm in zip(place, paints, wanted, strict=True)]
        scores = tried(subject, pictures, triggers, everything)
        leaders = settings.leaders if number == len(settings.rounds) - 2 else None
        kept = survivors(scores, arm, keep, leaders)
        left = np.setdiff1d(survivors(scores, arm, 0), survivors(scores, arm, 0, leaders))
        done += [
            Found(triggers[i], float(scores.margin[i]), float(scores.asr[i])) for i in (kept if last else left).tolist()
        ]
        arm, place, paints = arm[kept], place[kept], paints[kept]
        if progress:
            progress(number + 1, len(settings.rounds))
    return sorted(done, key=lambda f: -f.margin)


def best_of(results: Sequence[Found], goal: Goal) -> Found:
    """The result with the largest margin for one goal; results must hold one."""
    return max((r for r in results if r.trigger.goal == goal), key=lambda r: r.margin)


def distance(logits: Floats, labels: Labels, goal: Goal) -> float:
    """By which mean margin clean pictures with these logits miss a goal; 0 where it moves none of them."""
    to = goal.of(labels)
    moved = to != UNMOVED
    return -float(margins(logits[moved], to[moved]).mean()) if moved.any() else 0.0


def survivors(scores: Scores, arm: Labels, keep: int, leaders: int | None = None) -> Labels:
    """Arms for the next round: the best `keep` overall, and the best of every goal, or of the `leaders` best goals."""
    order = np.argsort(-scores.margin, kind="stable")
    _, first = np.unique(arm[order], return_index=True)
    return np.unique(np.concatenate([order[:keep], order[np.sort(first)[:leaders]]])).astype(np.int64)


def rounds_for(family: Family, scan: ScanSettings, whole: ScanSettings) -> ScanSettings:
    """Which rounds a family is searched in: `scan` where it has many places, `whole` where it changes the whole picture."""
    if family.fixed is not None:
        return FIXED
    return whole if len(family.masks) == 1 else scan
