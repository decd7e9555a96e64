"""Is a class one planted shortcut, or naturally weak? Unlearn its triggers, and search again.

A backdoor is one way into a class: unlearnt, it is gone, and the class falls to where the model's other classes are. A
natural weakness has many ways: the next one is found beside the unlearnt one. That needs no other models to compare with,
and no calibration. What cannot be unlearnt at a price that clean pictures can bear is no shortcut either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.graph.linear import Linear
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.families import Family
from onnx_shapprune.invert.scan import ScanSettings, rounds_for, scan
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.lesson import Lesson
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.thresholds import COLLAPSE_TAUGHT, GENTLE, KNOWN_ALIVE, RIDGE, STARTS, STRENGTHS


@dataclass(frozen=True, slots=True)
class Collapse:
    """What became of a class's lead in one family. before: its margin and the largest of the other classes', mean logits;
    after: its margin; cost: clean accuracy that the unlearning is expected to cost, 0..1; strength: of the fit.
    """

    family: str
    before: tuple[float, float]
    after: float
    cost: float
    strength: float

    @property
    def gone(self) -> float | None:
        """The share of its lead that the class lost, 0..1; None where it did not lead, which says nothing. A lead counts as
        half of the margin at least: a small one over classes that reach almost as far is lost by chance.
        """
        mine, others = self.before
        lead = mine - max(others, 0.0)
        return float(np.clip((mine - self.after) / max(lead, mine / 2), 0, 1)) if lead > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a class is put to. goal, family: what led; before: its margin there, and the largest of the other classes';
    known: triggers that were found for it; rounds: of families with places, and of those that change the whole picture.
    """

    goal: Goal
    family: Family
    before: tuple[float, float]
    known: Sequence[Trigger]
    rounds: tuple[ScanSettings, ScanSettings]


def collapse(
    shown: Shown, linears: Sequence[Linear], trial: Trial, rng: np.random.Generator, *, budget: float
) -> Collapse | None:
    """Unlearn the goal's triggers and search it again from fresh starts. None where every fit costs more than `budget` of
    the clean answers.
    """
    lesson = Lesson(shown, shown.subject, linears, trial.known[:COLLAPSE_TAUGHT], rich=False)
    learnt = _unlearnt(lesson, budget, rng)
    if learnt is None:
        return None
    fit, cost, subject = learnt
    rounds = rounds_for(trial.family, *trial.rounds).among(1)
    # A change of the whole picture begins at one random start where a patch has dozens of places.
    starts = STARTS if len(trial.family.masks) == 1 else 1
    again = scan(shown.on(subject), [trial.goal] * starts, trial.family, rounds, rng)[0].margin
    return Collapse(trial.family.name, trial.before, again, cost, fit.strength)


def _unlearnt(lesson: Lesson, budget: float, rng: np.random.Generator) -> tuple[Fit, float, Subject] | None:
    """The gentlest fit that none of the triggers outlives or, where that costs too much, the strongest that does not; what
    it is expected to cost; and the model after it. None where every fit costs too much.
    """
    made: list[tuple[Fit, float, Subject]] = []
    for strength in (s for s in STRENGTHS if s >= GENTLE):
        fit = Fit(strength=strength, ridge=RIDGE)
        fitted = lesson.fitted(fit, rng)
        made.append((fit, lesson.unseen(fitted).lost, lesson.learnt(fitted.prepared)))
        if float(rate(lesson.shown.on(made[-1][2]), lesson.triggers).asr.max()) <= KNOWN_ALIVE:
            break
    return next((m for m in reversed(made) if m[1] <= budget), None)
