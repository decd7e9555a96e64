"""Search at a fixed budget: the largest mean logit margin that a trigger of one family reaches for each goal.

Where Neural Cleanse's "how small a mask" fails (a free mask finds natural shortcuts, and misses a compact patch once the
easy way is cut; a blended trigger is no smaller than natural ones), this separates a planted target from a model's other
classes. All (goal, place) arms share one budget by successive halving (Jamieson & Talwalkar, AISTATS 2016): few steps for
all, more for the better ones, every goal keeping at least one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.progress import Ticks
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Floats, Labels, Pixels
from onnx_shapprune.invert.arms import Arms, Scores, pair, probed, rate, scores_of, slopes, tried
from onnx_shapprune.invert.families import Family, Move
from onnx_shapprune.invert.nudge import is_stamp, nudged
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.spread import spread_over

STRIDE = 0.25  # of the budget's width, the first step
# Goals that the arms which are kept are counted for, and the part of them that a single goal needs: of ten goals the leader
# holds no more. 2026-11-27, chosen.
GOALS, LEAST_SHARE = 10, 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """rounds: (steps, pictures a step, arms kept afterwards) in order; steps fall linearly to a tenth within a round; every
    goal keeps its best arm, in the last round only the best `leaders` goals.
    """

    rounds: tuple[tuple[int, int, int], ...] = ((3, 2, 64), (4, 4, 16), (10, 9, 16))
    leaders: int = 5

    def among(self, goals: int) -> "ScanSettings":
        """For so many goals: the arms that are kept share their number, and fewer goals than GOALS need a part of it."""
        share = min(1.0, max(goals / GOALS, LEAST_SHARE))
        return replace(
            self, rounds=tuple((steps, batch, math.ceil(share * kept)) for steps, batch, kept in self.rounds)
        )


# Where nothing is learnt: pictures on which every place is tried, places that are tried on all of them, and goals whose
# stamp is then nudged: the leader, and whoever is a rival. The five largest statistics of 112 clean networks are 4.7 to 8.5
# with it, and were 4.8 to 7.1. 2026-11-27, tests.benchmarks.population.
FIRST_TRIED, BEST_TRIED, NUDGED = 4, 24, 4
PART_BYTES = 96 << 20  # of the paints of arms that climb in one turn: all that climb at 32 x 32 pixels


@dataclass(frozen=True, slots=True)
class Found:
    """The best trigger of one arm. margin: mean logit margin; asr; least: as of Scores, all on the pictures that it has to
    move; 0 where nobody asked.
    """

    trigger: Trigger
    margin: float
    asr: float
    least: float = 0.0

    @classmethod
    def of(cls, trigger: Trigger, scores: Scores, arm: int) -> "Found":
        """A trigger with the scores of an arm."""
        return cls(trigger, float(scores.margin[arm]), float(scores.asr[arm]), float(scores.least[arm]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """An ascent. batch: pictures an arm and step; stride: the first step, as a share of the budget's width; it falls to a
    tenth.
    """

    steps: int
    batch: int
    stride: float = STRIDE


def ascend(
    shown: Shown, arms: Arms, move: Move, climb: Climb, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float64]]:
    """Climb the margin with the paints, or flows, of the arms; returns them, and the mean margins [arms] before the last
    step.
    """
    margin = np.zeros(len(arms.goals))
    for step in range(climb.steps):
        pairs = pair(shown, arms.goals, limit=climb.batch, rng=rng)
        if shown.subject.obstacle:
            margin, slope = probed(shown, arms, pairs, rng)
        else:
            logits, slope, _ = slopes(shown, arms, pairs)
            if step == climb.steps - 1:
                margin = scores_of(logits, pairs).margin
        stride = climb.stride * (1 - 0.9 * step / max(1, climb.steps - 1))
        arms = arms.painted(move(arms.paints, arms.masks, slope, stride))
    return arms.paints, margin


def scan(
    shown: Shown,
    goals: Sequence[Goal],
    family: Family,
    settings: ScanSettings,
    rng: np.random.Generator,
    *,
    progress: Ticks | None = None,
) -> list[Found]:
    """The best arms, largest margin first, after the last of `rounds_of`."""
    found, rounds = list[Found](), count_of(family, settings)
    for number, so_far in enumerate(rounds_of(shown, goals, family, settings, rng)):
        found = so_far
        if progress:
            progress(number + 1, rounds)
    return found


def count_of(family: Family, settings: ScanSettings) -> int:
    """How many rounds there are; where nothing is learnt, one."""
    return len(settings.rounds) if family.fixed is None else 1


def rounds_of(
    shown: Shown, goals: Sequence[Goal], family: Family, settings: ScanSettings, rng: np.random.Generator
) -> Iterator[list[Found]]:
    """After each round the best arms so far, largest margin first: of every goal one, after the last round all that it kept.
    Goals that are not among the `leaders` before the last round stay as they were then, measured on fewer pictures.
    """
    if family.fixed is not None:
        yield tried_out(shown, goals, family)
        return
    places = np.repeat(np.arange(len(family.masks)), family.tries)
    arm = np.repeat(np.arange(len(goals)), len(places))
    place = np.tile(places, len(goals))
    paints: Pixels | None = None
    done: list[Found] = []
    for number, (steps, batch, keep) in enumerate(settings.rounds):
        last = number == len(settings.rounds) - 1
        many = Many([goals[a] for a in arm.tolist()], arm, place, paints)
        limit = None if last else 2 * batch
        scores, learnt = climbed(shown, many, family, Climb(steps=steps, batch=batch), rng, keep=keep, limit=limit)
        leaders = settings.leaders if number == len(settings.rounds) - 2 else None
        kept = survivors(scores, arm, keep, leaders)
        best = survivors(scores, arm, 0)
        made = {i: Found.of(many.trigger(family, i, learnt[i]), scores, i) for i in (kept if last else best).tolist()}
        yield sorted([*done, *made.values()], key=lambda f: -f.margin)
        done += [made[i] for i in np.setdiff1d(best, survivors(scores, arm, 0, leaders)).tolist()]
        arm, place, paints = arm[kept], place[kept], np.stack([learnt[i] for i in kept.tolist()])


@dataclass(frozen=True, slots=True, eq=False)
class Many:
    """Arms of one family before a round: the goal of each, which of a list of goals that is [arms], at which place of the
    family they are [arms], and their paints, None where they begin. aims: where they begin, slopes of the list's goals
    [goals, h, w, c]: arms start as these say, and not at random.
    """

    goals: Sequence[Goal]
    arm: Labels
    place: Labels
    paints: Pixels | None
    aims: Floats | None = None

    def begun(self, some: slice, family: Family, channels: int, rng: np.random.Generator) -> Pixels:
        """Paints of some arms before the round."""
        if self.paints is not None:
            return self.paints[some]
        if self.aims is None:
            return family.starts(self.place[some], channels, rng)
        slope = self.aims[self.arm[some]]
        return family.move(np.zeros_like(slope), family.covered(self.place[some]), slope, 1.0)

    def trigger(self, family: Family, k: int, paint: Pixels) -> Trigger:
        """What an arm has learnt."""
        return family.trigger(int(self.place[k]), paint, self.goals[k])


def climbed(
    shown: Shown,
    many: Many,
    family: Family,
    climb: Climb,
    rng: np.random.Generator,
    *,
    keep: int,
    limit: int | None,
) -> tuple[Scores, dict[int, Pixels]]:
    """Scores of all arms after an ascent, each on at most `limit` pictures, and the paints of those that may be among the
    `keep` best ones or are the best of their goal. Arms climb in turns: a thousand of 224 x 224 pixels are gigabytes.
    """
    (margin, asr, least), learnt = np.empty((3, len(many.goals))), dict[int, Pixels]()
    together = max(1, PART_BYTES // (4 * math.prod(shown.size)))
    for start in range(0, len(many.goals), together):
        some = slice(start, start + together)
        goals, place = many.goals[some], many.place[some]
        begun = many.begun(some, family, shown.size[2], rng)
        paints, _ = ascend(shown, Arms(family.covered(place), begun, goals, family.warps), family.move, climb, rng)
        everything = pair(shown, goals, limit=limit, rng=rng)
        triggers = [many.trigger(family, start + k, paint) for k, paint in enumerate(paints)]
        scores = tried(shown, triggers, everything)
        margin[some], asr[some], least[some] = scores.margin, scores.asr, scores.least
        learnt |= {start + k: paints[k].copy() for k in survivors(scores, many.arm[some], keep).tolist()}
    return Scores(margin, asr, least), learnt


def aims_of(shown: Shown, goals: Sequence[Goal], rng: np.random.Generator) -> Floats:
    """Mean slope of the pictures that each goal moves, as they are, [goals, h, w, c]: it says of all places at once where a
    patch should go. What waits behind a Relu has none.
    """
    masks, paints = (np.zeros((len(goals), *shown.size[:2], c), np.float32) for c in (1, shown.size[2]))
    return slopes(shown, Arms(masks, paints, goals), pair(shown, goals, limit=None, rng=rng))[1]


def tried_out(shown: Shown, goals: Sequence[Goal], family: Family) -> list[Found]:
    """The best place for each goal where nothing is learnt, largest margin first. A forward pass says so about all goals at
    once: all places on a few of the pictures, then the best ones on all. The leaders' best stamps are nudged.
    """
    few = shown.part(spread_over(len(shown), FIRST_TRIED))
    every = np.arange(len(family.masks))
    margin = _of_places(few, goals, family, every).margin
    kept = np.union1d(np.argsort(-margin.max(axis=1), kind="stable")[:BEST_TRIED], margin.argmax(axis=0))
    scores = _of_places(shown, goals, family, kept)
    margin = scores.margin
    paints = family.starts(kept, shown.size[2], np.random.default_rng(0))

    def at(place: int, k: int) -> Found:
        trigger = family.trigger(int(kept[place]), paints[place], goals[k])
        return Found(trigger, *(float(s[place, k]) for s in (margin, scores.asr, scores.least)))

    found = [at(i, k) for k, i in enumerate(margin.argmax(axis=0).tolist())]
    stamps = np.flatnonzero(is_stamp(family.covered(kept)))
    if len(stamps):
        best = stamps[margin[stamps].argmax(axis=0)]
        leaders = np.argsort(-margin[best, np.arange(len(goals))], kind="stable")[:NUDGED].tolist()
        better = [nudged(shown, at(int(best[k]), k).trigger) for k in leaders]
        rated = rate(shown, better)
        for i, k in enumerate(leaders):
            found[k] = max(found[k], Found.of(better[i], rated, i), key=lambda f: f.margin)
    return sorted(found, key=lambda f: -f.margin)


def _of_places(shown: Shown, goals: Sequence[Goal], family: Family, places: Labels) -> Scores:
    """Scores of every place for every goal, each [places, goals]."""
    pairs = pair(shown, goals, limit=None, rng=np.random.default_rng(0))

    def scored(s: slice) -> list[Scores]:
        some = places[s]
        masks = family.covered(some)[:, None]
        paints = family.starts(some, shown.size[2], np.random.default_rng(0))[:, None]
        stamped = np.clip(shown.pictures * (1 - masks) + paints, 0, 255, dtype=np.float32)
        logits = shown.subject.logits(stamped.reshape(-1, *shown.size))
        return [scores_of(z[pairs.picture], pairs) for z in logits.reshape(len(some), len(shown), -1)]

    scores = [s for part in shown.subject.in_batches(len(places), scored, each=len(shown)) for s in part]
    return Scores(*(np.stack([getattr(s, name) for s in scores]) for name in ("margin", "asr", "least")))


def best_of(results: Sequence[Found], goal: Goal) -> Found:
    """The result with the largest margin for one goal; results must hold one."""
    return max((r for r in results if r.trigger.goal == goal), key=lambda r: r.margin)


def survivors(scores: Scores, arm: Labels, keep: int, leaders: int | None = None) -> Labels:
    """Arms for the next round: the best `keep` overall, and the best of every goal, or of the `leaders` best goals."""
    order = np.argsort(-scores.margin, kind="stable")
    _, first = np.unique(arm[order], return_index=True)
    return np.unique(np.concatenate([order[:keep], order[np.sort(first)[:leaders]]])).astype(np.int64)


def rounds_for(family: Family, scan: ScanSettings, whole: ScanSettings) -> ScanSettings:
    """Which rounds a family is searched in: `scan` where it has many places, `whole` where it changes the whole picture."""
    return whole if len(family.masks) == 1 else scan
