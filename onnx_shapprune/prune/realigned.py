"""Proposals that realign layers: the gentlest fit first that no known trigger gets through."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.progress import Progress
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.graph.linear import find_linears, with_products
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.families import COVERING
from onnx_shapprune.invert.scan import rounds_for, scan
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.accept import expected
from onnx_shapprune.prune.attack import named_alive
from onnx_shapprune.prune.lesson import Lesson
from onnx_shapprune.prune.proposal import Proposal, applied, edited
from onnx_shapprune.prune.propose import pruned
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.state import State, Task
from onnx_shapprune.prune.thresholds import (
    BESIDE,
    FITS_AT_ONE,
    LAST_RESORT,
    MARGIN_FIT,
    MARGIN_REACH,
    RESTARTS,
    RIDGE_LOOSE,
    STRENGTHS,
    STRONGER,
    TEACHERS,
)

Rows = NDArray[np.int64]


def realigned(
    task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None
) -> Generator[Proposal, None, None]:
    """Realign all linear layers on the triggers known so far, each time with clean pictures weighing less, until none of
    these triggers moves more pictures than chance does. Once a file holds, one more that goes as far as is cheap; not of a
    map, as a fold without one class's picture knows too little of the price.
    """
    base = Proposal(off=state.edited.proposal.off)
    without = _without_changes(task, state)
    found, _ = find_linears(applied(task.original, base), task.original.interface.output, without.prepared.model)
    linears = with_products(found)
    teachers = teachers_of(task, state, rng)
    of_map = any(g.kind == "all-to-all" for g in task.goals)
    if not linears or not teachers or state.holding > (0 if of_map else 1):
        return
    tried = [s.proposal.fit.strength for s in state.steps if s.proposal.fit]
    used = min(tried, default=np.inf)
    lesson = Lesson(shown_for_fit(task), without, linears, teachers, more=task.settings.more)
    if state.held is not None:
        least = max(LAST_RESORT, used / MARGIN_REACH if tried else 0.0)
        left = [s for s in STRENGTHS if least <= s < used]
    else:  # at the strength that did not hold once more, as what the adversary found there is taught as well
        left = [s for s in STRENGTHS if s < used or (s == used and tried.count(s) < FITS_AT_ONE)]
    spare: Proposal | None = None
    for strength in left:
        if progress:
            done = STRENGTHS.index(strength)
            progress("realigning", done, len(STRENGTHS), f"a clean row weighs {strength:g} times a triggered one")
        # Where clean rows weigh little, nothing else holds the weights.
        ridge = task.settings.ridge if strength >= LAST_RESORT else max(task.settings.ridge, RIDGE_LOOSE)
        fit = Fit(strength=strength, ridge=ridge)
        made = lesson.fitted(fit, rng)
        unseen = lesson.unseen(made)
        proposal = replace(base, changes=made.changes, fit=fit, unseen=unseen)
        if state.held is not None and unseen.lost > MARGIN_FIT * task.settings.clean_budget:
            break
        if state.held is None and (strength == left[-1] or not _alive(task, lesson.learnt(made.prepared), teachers)):
            yield proposal
        elif state.held is not None or expected(proposal) <= state.budget(task.settings):
            spare = proposal
    # The furthest that is cheap; or what beats more triggers costs too much, and the adversary may know better ones.
    if spare:
        yield spare


def _without_changes(task: Task, state: State) -> Subject:
    """The file with the units off that are off, and nothing realigned."""
    before = state.edited.proposal
    if not before.changes:
        return state.edited.subject
    return (
        edited(task.original, Proposal(off=before.off), task.shown.subject).subject
        if before.off
        else task.shown.subject
    )


def teachers_of(task: Task, state: State, rng: np.random.Generator) -> list[Trigger]:
    """Triggers to learn from: those that still work first, then those that were recovered first; where one that changes the
    whole picture works, before them more of its kind. Behind them one of each family that reached the class in the
    audit: the attacker's trigger is none of those found, and what all kinds have in common is more of it.
    """
    known = list({id(t): t for t in (*state.bank, *state.ever)}.values())[:TEACHERS]
    families = {t.family: t for t in state.bank if t.family in task.settings.families and t.family not in COVERING}
    of_kind = [t for t in known if t.family in families]
    for name, trigger in families.items():
        family = task.settings.families[name]
        rounds = rounds_for(family, task.settings.hunt.scan, task.settings.hunt.whole)
        for _ in range(RESTARTS if family.fixed is None else 0):
            of_kind += [f.trigger for f in scan(task.attacked, [trigger.goal], family, rounds, rng)][:1]
    if of_kind:
        stronger = [t.relearnt(np.asarray(STRONGER * t.learnt, np.float32)) for t in of_kind]
        known = [*of_kind, *stronger, *[t for t in known if t.family not in families][:BESIDE]]
    return list({id(t): t for t in (*known, *task.settings.kinds)}.values())


def shown_for_fit(task: Task) -> Shown:
    """The clean pictures, and those that triggers go on where these are others, in front of the original model."""
    if task.attacked is task.shown:
        return task.shown
    both = [task.shown, task.attacked]
    return Shown.to(
        task.shown.subject,
        np.concatenate([s.pictures for s in both]),
        np.concatenate([s.labels for s in both]),
    )


def _alive(task: Task, subject: Subject, triggers: Sequence[Trigger]) -> bool:
    """Whether a trigger that was taught still moves more of the pictures than chance does."""
    natural = task.settings.natural
    asr = rate(task.tried.on(subject), triggers).asr
    loud = any(a > natural[t.goal].chance(t) for a, t in zip(asr, triggers, strict=True) if natural[t.goal].tells(t))
    return loud or named_alive(task, subject)


def pruned_then_realigned(
    task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None
) -> Generator[Proposal, None, None]:
    """Switch off one group of units, then realign what is left."""
    yield from (realigned if state.edited.proposal.off else pruned)(task, state, rng, progress)
