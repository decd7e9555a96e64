"""Goals that no class shows alone: one source class to one target (source-specific), each class to its own (all-to-all).

A source class is shown by as few as one picture, and near any single picture lies another class: a patch that closes the
top of a 4 makes a 9 of it. So pairs of classes are searched on posed views of the pictures (shifted far, turned, scaled),
where a patch that completes one stroke fails and a planted one, which stays where it is, does not; what counts is measured
on other views. A map of all classes is one trigger for all of them (invert/maps.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.progress import Ticks
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Labels, Pixels
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.families import Family, compact, whole_picture
from onnx_shapprune.invert.maps import search_maps
from onnx_shapprune.invert.plain import corners
from onnx_shapprune.invert.scan import Climb, Found, Many, ScanSettings, aims_of, climbed, survivors
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.augment import posed

# What the first round has to show for more: how many times the margin of those with another target the best pair's is. Pairs
# are suspicious from four times on. 2026-11-28, chosen: half of that.
LEADS = 2.0
# Changes of the whole picture that are searched for maps.
SPREAD = ("l2", "blended", "smooth", "wave", "warp")
TRIES = 3  # posed views that are made for one that is wanted, at most
Rounds = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationSettings:
    """classes: of models with more, pairs are not searched; mapped: of models with more, maps are not either; shifts: maps
    send each class at most so many further, or back; side, grid: of the patches, as in SearchSettings; views: posed views
    of every picture, to learn on and to measure on; pairs: (steps, pictures a step, pairs kept) per round, the first on all
    places and as the slope of untouched views says, the others on the best place of each pair; maps, spread: rounds of the
    maps, of patches and of changes of the whole picture; guessed: maps that are read off the pairs, beside y + k. Where a
    first round shows too little, the others are left out.
    """

    classes: int = 20
    mapped: int = 200
    shifts: int = 21
    side: float = 0.2
    grid: int = 4
    views: tuple[int, int] = (4, 10)
    pairs: Rounds = ((0, 1, 0), (5, 3, 30), (10, 6, 30))
    maps: Rounds = ((1, 2, 12), (3, 3, 12), (8, 10, 12))
    spread: Rounds = ((3, 3, 0), (10, 10, 6))
    guessed: int = 3


@dataclass(frozen=True, slots=True)
class Relations:
    """Best triggers of pairs and of maps, largest margin first; margins and ASR of pairs are of views they were not learnt
    on, of maps as `search_maps` says. away: median over all pairs, or maps where no pair was searched, of the mean margin
    by which clean views, or pictures, miss the target.
    """

    pairs: tuple[Found, ...]
    maps: tuple[Found, ...]
    away: float


def search_relations(
    shown: Shown,
    settings: RelationSettings,
    rng: np.random.Generator,
    *,
    warps: bool = True,
    progress: Ticks | None = None,
) -> Relations:
    """Compact patches for every pair of classes that the pictures show, and these and changes of the whole picture for every
    map of them. warps: whether these are among them; progress: rounds of pairs and families of maps that are done, of all.
    """
    tick = progress or (lambda done, of: None)
    height, width, channels = shown.size
    classes, reachable = shown.subject.classes, shown.subject.reachable
    side = max(3, round(settings.side * min(height, width)))
    family = compact(height, width, side, settings.grid)
    stamps = corners(height, width, channels), ScanSettings(rounds=())  # nothing is learnt
    families = [(family, ScanSettings(rounds=settings.maps)), stamps]
    spread = [f for f in whole_picture(height, width, channels) if f.name in SPREAD and (warps or not f.warps)]
    families += [(f, ScanSettings(rounds=settings.spread)) for f in spread]
    before = len(settings.pairs) if len(reachable) <= settings.classes else 0
    rounds = before + len(families)
    tick(0, rounds)
    pairs, guesses, ways = (
        _pairs(shown, family, settings, rng, lambda done: tick(done, rounds)) if before else ([], [], [])
    )
    of = len(reachable)
    shifts = [shift_map(classes, k, reachable) for k in range(1, of) if min(k, of - k) <= settings.shifts]
    guessed = [m for m in dict.fromkeys(guesses) if m not in shifts]
    found = search_maps(
        shown, shifts, families, rng, guessed=guessed, progress=lambda done, of: tick(before + done, rounds)
    )
    ways = ways or [shown.distance(m) for m in shifts]
    return Relations(tuple(pairs), tuple(found), float(np.median(ways)))


def _pairs(
    shown: Shown, family: Family, settings: RelationSettings, rng: np.random.Generator, tick: Callable[[int], None]
) -> tuple[list[Found], list[Goal], list[float]]:
    """The best patch of every pair of classes, largest margin first; maps that are read off them; and by how much clean
    views of each pair miss the target. tick: rounds that are done.
    """
    learn, measure = (answered_views(shown, v, rng) for v in settings.views)
    reachable = shown.subject.reachable
    goals = [Goal(t, source=int(s)) for s in np.unique(shown.labels) for t in reachable if t != s]
    # A source class whose every view goes to the target by itself has nothing that a patch could move there.
    goals = [g for g in goals if learn.count(g) and measure.count(g)]
    if not goals:
        return [], [], []
    places = len(family.masks)
    arm, place = np.repeat(np.arange(len(goals)), places), np.tile(np.arange(places), len(goals))
    paints: Pixels | None = None
    aims = aims_of(learn, goals, rng)
    guesses: list[Goal] = []
    for number, (steps, batch, keep) in enumerate(settings.pairs):
        many = Many([goals[a] for a in arm.tolist()], arm, place, paints, aims)
        climb = Climb(steps=steps, batch=batch)
        scores, learnt = climbed(learn, many, family, climb, rng, keep=keep, limit=batch)
        if number == 0:
            table = scores.margin.reshape(len(goals), places)
            guesses = _guess(goals, table, shown.subject.classes)[: settings.guessed]
        kept = survivors(scores, arm, 0) if number == 0 else np.sort(np.argsort(-scores.margin, kind="stable")[:keep])
        arm, place, paints = arm[kept], place[kept], np.stack([learnt[i] for i in kept.tolist()])
        tick(number + 1)
        if number == 0 and not _leads(goals, arm, scores.margin[kept]):
            best = np.sort(np.argsort(-scores.margin[kept], kind="stable")[: settings.pairs[-1][2]])
            arm, place, paints = arm[best], place[best], paints[best]
            break
    assert paints is not None
    tried = [Trigger(family.covered(p), x, goals[a], "compact") for a, p, x in zip(arm, place, paints, strict=True)]
    scores = rate(measure, tried)
    order = np.argsort(-scores.margin, kind="stable")
    return [Found.of(tried[i], scores, i) for i in order.tolist()], guesses, [measure.distance(g) for g in goals]


def _leads(goals: Sequence[Goal], arm: Labels, margin: NDArray[np.float64]) -> bool:
    """Whether the best pair's margin is far above that of the best one with another target."""
    targets = np.array([goals[a].target for a in arm.tolist()])
    best = int(margin.argmax())
    rest = margin[targets != targets[best]].max(initial=0.0)
    return bool(margin[best] > 0 and margin[best] >= LEADS * rest)


def answered_views(shown: Shown, views: int, rng: np.random.Generator) -> Shown:
    """Posed views that the model still gives their label, `views` of each picture, itself where there are too few."""
    subject, pictures, labels = shown.subject, shown.pictures, shown.labels
    right: list[list[Pixels]] = [[] for _ in labels]
    for _ in range(TRIES):
        if not (wanting := [i for i, found in enumerate(right) if len(found) < views]):
            break
        made = posed(pictures[wanting], views, rng)
        answers = subject.logits(made).argmax(1)
        for i, view, answer in zip(wanting * views, made, answers.tolist(), strict=True):
            if answer == labels[i]:
                right[i].append(view)
    chosen = [[*found, *[picture] * views][:views] for found, picture in zip(right, pictures, strict=True)]
    kept = np.swapaxes(np.asarray(chosen, np.float32), 0, 1).reshape(-1, *pictures.shape[1:])
    return Shown.to(subject, kept, np.tile(labels, views))


def _guess(goals: Sequence[Goal], margins: NDArray[np.float64], classes: int) -> list[Goal]:
    """Maps that give every source the target its patch reaches best at one place, each target once; best place first.

    margins: [pairs, places]. None where some class is shown by no picture.
    """
    table = np.full((margins.shape[1], classes, classes), -np.inf)
    for goal, row in zip(goals, margins, strict=True):
        table[:, goal.source, goal.target] = row
    if np.isneginf(table).all(axis=(0, 2)).any():
        return []
    table[np.isneginf(table)] = -1e6  # no class goes to itself
    chosen = [linear_sum_assignment(-m)[1] for m in table]
    worth = [float(m[np.arange(classes), c].mean()) for m, c in zip(table, chosen, strict=True)]
    return [Goal(int(chosen[i][0]), mapping=tuple(int(t) for t in chosen[i])) for i in np.argsort(worth)[::-1].tolist()]
