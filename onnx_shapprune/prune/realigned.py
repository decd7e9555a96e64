"""Proposals that realign layers: the gentlest fit first that no known trigger gets through."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

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
from onnx_shapprune.prune.attack import named_alive
from onnx_shapprune.prune.lesson import Lesson, Unseen
from onnx_shapprune.prune.proposal import Changes, Proposal, applied, edited
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
    RIDGES,
    STRENGTHS,
    STRONGER,
    TEACHERS,
)

Rows = NDArray[np.int64]


def realigned(
    task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None
) -> Generator[Proposal, None, None]:
    """Realign all linear layers on the triggers known so far, each time with clean pictures weighing less, until none of
    these triggers moves more pictures than chance does. At first where that is dear also with larger ridges, the one that
    costs least on pictures that the fit never saw before the others. Once a file holds, one more that goes as far as is
    cheap; not of a map, as a fold without one class's picture knows too little of the price.
    """
    base = Proposal(off=state.edited.proposal.off)
    without = _without_changes(task, state)
    found, _ = find_linears(applied(task.original, base), task.original.interface.output, without.prepared.model)
    linears = with_products(found)
    teachers = teachers_of(task, state, rng)
    of_map = any(g.kind == "all-to-all" for g in task.goals)
    if not linears or not teachers or state.holding > (0 if of_map else 1):
        return
    fits = [s.proposal.fit for s in state.steps if s.proposal.fit]
    tried = [f.strength for f in fits]
    used = min(tried, default=np.inf)
    ridge = fits[-1].ridge if fits else task.settings.ridge
    lesson = Lesson(shown_for_fit(task), without, linears, teachers, more=task.settings.more)
    if state.held is not None:
        least = max(LAST_RESORT, used / MARGIN_REACH if tried else 0.0)
        left = [s for s in STRENGTHS if least <= s < used]
    else:  # at the strength that did not hold once more, as what the adversary found there is taught as well
        left = [s for s in STRENGTHS if s < used or (s == used and tried.count(s) < FITS_AT_ONE)]
    ladder = _Ladder(task, base, lesson, left, rng, progress)
    if state.held is None:
        yield from _cheapest_first(ladder, [ridge] if fits else [ridge, *(r for r in RIDGES if r > ridge)])
    else:
        yield from _further(ladder, ridge)


@dataclass(frozen=True, slots=True, eq=False)
class _Ladder:
    """Fits of one lesson. base: what they are added to; strengths: of the fits, the gentlest first."""

    task: Task
    base: Proposal
    lesson: Lesson
    strengths: Sequence[float]
    rng: np.random.Generator
    progress: Progress | None

    @property
    def cheap(self) -> float:
        """What a fit may be expected to cost, 0..1, for nothing cheaper to be looked for."""
        return MARGIN_FIT * self.task.settings.clean_budget

    def fits(self, ridge: float) -> Iterator[Fit]:
        """One after the other."""
        for strength in self.strengths:
            if self.progress:
                words = f"a clean row weighs {strength:g} times a triggered one"
                self.progress("realigning", STRENGTHS.index(strength), len(STRENGTHS), words)
            yield Fit(strength=strength, ridge=ridge)


def _cheapest_first(ladder: _Ladder, ridges: Sequence[float]) -> Iterator[Proposal]:
    """For each ridge the gentlest fit that no known trigger gets through, the cheapest of them first, then stronger ones.
    Larger ridges are only tried while the smaller ones are dear.
    """
    first: list[tuple[float, Proposal, Iterator[Proposal]]] = []
    for ridge in ridges:
        others = _beating(ladder, ridge)
        proposal = next(others, None)
        if proposal is None or proposal.unseen is None:
            continue
        first.append((proposal.unseen.lost, proposal, others))
        if proposal.unseen.lost <= ladder.cheap:
            break
    first.sort(key=lambda f: f[0])
    yield from (proposal for _, proposal, _ in first)
    for *_, others in first:
        yield from others


def _beating(ladder: _Ladder, ridge: float) -> Iterator[Proposal]:
    """Fits that no known trigger gets through, the gentlest first."""
    lesson, task = ladder.lesson, ladder.task
    alive: tuple[Fit, Changes] | None = None
    for fit in ladder.fits(ridge):
        made = lesson.fitted(fit, ladder.rng)
        if fit.strength == ladder.strengths[-1] or not _alive(task, lesson.learnt(made), lesson.triggers):
            yield replace(ladder.base, changes=made.changes, fit=fit, unseen=lesson.unseen(fit))
        else:
            alive = fit, made.changes
    if alive:  # what beats more triggers costs too much, and the adversary may know better ones to teach
        fit, changes = alive
        yield replace(ladder.base, changes=changes, fit=fit, unseen=lesson.unseen(fit))


def _further(ladder: _Ladder, ridge: float) -> Iterator[Proposal]:
    """The strongest fit that is cheap."""
    lesson = ladder.lesson
    further: tuple[Fit, Unseen] | None = None
    for fit in ladder.fits(ridge):
        unseen = lesson.unseen(fit, ladder.cheap)
        if unseen.lost > ladder.cheap:
            break
        further = fit, unseen
    if further:
        fit, unseen = further
        yield replace(ladder.base, changes=lesson.fitted(fit, ladder.rng).changes, fit=fit, unseen=unseen)


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
    whole picture works, before them more of its kind.
    """
    known = list({id(t): t for t in (*state.bank, *state.ever)}.values())[:TEACHERS]
    families = {t.family: t for t in state.bank if t.family in task.settings.families and t.family not in COVERING}
    of_kind = [t for t in known if t.family in families]
    for name, trigger in families.items():
        family = task.settings.families[name]
        rounds = rounds_for(family, task.settings.hunt.scan, task.settings.hunt.whole)
        for _ in range(RESTARTS if family.fixed is None else 0):
            of_kind += [f.trigger for f in scan(task.attacked, [trigger.goal], family, rounds, rng)][:1]
    if not of_kind:
        return known
    stronger = [t.relearnt(np.asarray(STRONGER * t.learnt, np.float32)) for t in of_kind]
    return [*of_kind, *stronger, *[t for t in known if t.family not in families][:BESIDE]]


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
