"""Is a class one planted shortcut, or naturally weak? Unlearn its triggers, and search again.

A backdoor is one way into a class: unlearnt, it is gone, and the class falls to where the model's other classes are. A
natural weakness has many ways: the next one is found beside the unlearnt one. That needs no other models to compare with,
and no calibration. What cannot be unlearnt at a price that clean pictures can bear is no shortcut either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_shapprune.case.goal import Goal, all_to_one
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.graph.linear import Linear
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.families import Family
from onnx_shapprune.invert.scan import Found, ScanSettings, best_of, rounds_for, scan
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.lesson import Lesson
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.thresholds import COLLAPSE_TAUGHT, GENTLE, KNOWN_ALIVE, RIDGE, RIVALS, STRENGTHS


@dataclass(frozen=True, slots=True)
class Collapse:
    """What became of a class's lead in one family. before, after: its margin and the largest of the other classes', mean
    logits; cost: clean accuracy that the unlearning is expected to cost, 0..1; strength: of the fit.
    """

    family: str
    before: tuple[float, float]
    after: tuple[float, float]
    cost: float
    strength: float

    @property
    def gone(self) -> float | None:
        """The share of its lead that the class lost, 0..1; None where it did not lead, which says nothing. A lead counts as
        half of the margin at least: a small one over classes that reach almost as far is lost by chance.
        """
        mine, others = self.before
        lead = mine - max(others, 0.0)
        return float(np.clip((mine - self.after[0]) / max(lead, mine / 2), 0, 1)) if lead > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a class is put to. goal, family: what led; known: triggers that were found for it; others: margins of the other
    classes in that family, by class; rounds: of families with places, and of those that change the whole picture.
    """

    goal: Goal
    family: Family
    known: Sequence[Trigger]
    others: Mapping[int, float]
    rounds: tuple[ScanSettings, ScanSettings]


def collapse(
    shown: Shown, linears: Sequence[Linear], trial: Trial, rng: np.random.Generator, *, budget: float
) -> Collapse | None:
    """Unlearn the goal's triggers and search again from fresh starts, beside the classes that came next. None where every
    fit costs more than `budget` of the clean answers.
    """
    ranked = sorted(trial.others, key=lambda c: -trial.others[c])
    goals = [trial.goal, *all_to_one(ranked[:RIVALS])]
    before = _search(shown, goals, trial, rng)
    taught = [*trial.known, *(f.trigger for f in before if f.trigger.goal == trial.goal)][:COLLAPSE_TAUGHT]
    lesson = Lesson(shown, shown.subject, linears, taught, rich=False)
    learnt = _unlearnt(lesson, budget, rng)
    if learnt is None:
        return None
    fit, cost, subject = learnt
    again = _search(shown.on(subject), goals, trial, rng)
    return Collapse(trial.family.name, _margins(before, goals), _margins(again, goals), cost, fit.strength)


def _unlearnt(lesson: Lesson, budget: float, rng: np.random.Generator) -> tuple[Fit, float, Subject] | None:
    """The gentlest fit that none of the triggers outlives or, where that costs too much, the strongest that does not; what
    it is expected to cost; and the model after it. None where every fit costs too much.
    """
    made: list[tuple[Fit, Subject]] = []
    for strength in (s for s in STRENGTHS if s >= GENTLE):
        fit = Fit(strength=strength, ridge=RIDGE)
        made.append((fit, lesson.learnt(lesson.fitted(fit, rng))))
        if float(rate(lesson.shown.on(made[-1][1]), lesson.triggers).asr.max()) <= KNOWN_ALIVE:
            break
    for fit, subject in reversed(made):
        cost = lesson.expected_loss(fit)
        if cost <= budget:
            return fit, cost, subject
    return None


def _search(shown: Shown, goals: Sequence[Goal], trial: Trial, rng: np.random.Generator) -> list[Found]:
    return scan(shown, goals, trial.family, rounds_for(trial.family, *trial.rounds), rng)


def _margins(found: Sequence[Found], goals: Sequence[Goal]) -> tuple[float, float]:
    """Margin of the first goal, and the largest of the others'."""
    mine, *others = (best_of(found, g).margin for g in goals)
    return mine, max(others, default=0.0)
