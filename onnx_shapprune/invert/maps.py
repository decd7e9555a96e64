"""Maps of classes: one trigger sends each class to its own target (all-to-all).

Ten pictures can be sent to ten classes of one's choice by nature. What is planted is a rule, which holds for classes that a
trigger was not learnt on as well: so it is learnt on the pictures of half of the classes, and measured on the others'.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.progress import Ticks
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.families import Family
from onnx_shapprune.invert.scan import Found, ScanSettings, best_of, count_of, rounds_of, scan

# What all rounds but the last have to show for more, on classes that a trigger was not learnt on: the share of pictures
# that it sends where the map says, and how far it carries them on average, of their usual way. 2026-11-28, chosen.
MOVES, CARRIES = 0.25, 0.5
LOOKED = 3  # maps of a family that get the other rounds


def search_maps(
    shown: Shown,
    maps: Sequence[Goal],
    families: Sequence[tuple[Family, ScanSettings]],
    rng: np.random.Generator,
    *,
    guessed: Sequence[Goal] = (),
    progress: Ticks | None = None,
) -> list[Found]:
    """The best trigger of every family for every map, largest margin first; margins and ASR are of pictures of classes that
    it was not learnt on. All but the last of a family's rounds on one half of the classes and, where these show something,
    all of them on both halves; then the trigger itself is learnt on all pictures. Where nothing is learnt, all are tried on
    all pictures, but not for `guessed` maps, which were read off these pictures. progress: families that are done. Empty
    where the pictures show one class.
    """
    halves = list(_halves(shown, rng))
    found: list[Found] = []
    for number, (family, rounds) in enumerate(families if halves else ()):
        if family.fixed is not None:  # nothing is learnt, and every class is one of the others
            found += next(rounds_of(shown, maps, family, rounds, rng))
        else:
            found += _learnt_on_halves(shown, halves, [*maps, *guessed], (family, rounds), rng)
        if progress:
            progress(number + 1, len(families))
    return sorted(found, key=lambda f: -f.margin)


def _learnt_on_halves(
    shown: Shown,
    halves: Sequence[tuple[Shown, Shown]],
    maps: Sequence[Goal],
    searched: tuple[Family, ScanSettings],
    rng: np.random.Generator,
) -> Iterator[Found]:
    """The best trigger of one family for every map."""
    family, rounds = searched
    learn, others = halves[0]
    *_, last = islice(rounds_of(learn, maps, family, rounds, rng), count_of(family, rounds) - 1)
    first = _on(others, last)
    leading = [f.trigger.goal for f in first if _goes(shown, f)][:LOOKED]
    yield from (f for f in first if f.trigger.goal not in leading)
    if leading:
        measured = [_on(others, _learnt(learn, leading, family, rounds, rng)) for learn, others in halves]
        for trigger in (f.trigger for f in _learnt(shown, leading, family, rounds, rng)):
            both = [best_of(m, trigger.goal) for m in measured]
            yield Found(trigger, _mean(f.margin for f in both), _mean(f.asr for f in both))


def _halves(shown: Shown, rng: np.random.Generator) -> Iterator[tuple[Shown, Shown]]:
    """The pictures of half of the classes and those of the others, both ways round; nothing where there is one class."""
    classes = rng.permutation(np.unique(shown.labels))
    first = np.isin(shown.labels, classes[: len(classes) // 2])
    if first.any():
        parts = [shown.part(np.flatnonzero(rows)) for rows in (first, ~first)]
        yield from ((parts[0], parts[1]), (parts[1], parts[0]))


def _learnt(
    shown: Shown, goals: Sequence[Goal], family: Family, rounds: ScanSettings, rng: np.random.Generator
) -> list[Found]:
    """The best trigger for each goal after all rounds."""
    found = scan(shown, goals, family, rounds, rng)
    return [best_of(found, g) for g in goals]


def _on(others: Shown, found: Sequence[Found]) -> list[Found]:
    """Triggers as they are on other pictures, largest margin first."""
    scores = rate(others, [f.trigger for f in found])
    rated = [Found.of(f.trigger, scores, i) for i, f in enumerate(found)]
    return sorted(rated, key=lambda f: -f.margin)


def _goes(shown: Shown, found: Found) -> bool:
    way = shown.distance(found.trigger.goal)
    return found.asr >= MOVES and found.margin >= (CARRIES - 1) * way


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))
