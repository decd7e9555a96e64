"""Proposals that realign layers: the gentlest fit first that no known trigger gets through."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.graph.linear import Linear, find_linears
from onnx_shapprune.invert.arms import rate
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.augment import augmented
from onnx_shapprune.prune.proposal import Proposal, applied, edited
from onnx_shapprune.prune.propose import pruned
from onnx_shapprune.prune.realign import Fit, Realigned, Views, realign
from onnx_shapprune.prune.state import State, Task
from onnx_shapprune.prune.thresholds import (
    FIT_VIEWS,
    FOLDS,
    LOST_UNSEEN,
    MARGIN_FIT,
    MOST_VIEWS,
    RIDGE,
    STRENGTHS,
    TEACHERS,
    VIEWS_OF_TRIGGER,
)

Rows = NDArray[np.int64]


def realigned(
    task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None
) -> Generator[Proposal, None, None]:
    """Realign all linear layers on the triggers known so far, each time with clean pictures weighing less, until none of
    these triggers moves more pictures than chance does. Once a file holds, one more that goes as far as is cheap.
    """
    base = Proposal(off=state.edited.proposal.off)
    without = _without_changes(task, state)
    linears, _ = find_linears(applied(task.original, base), task.original.interface.output, without.prepared.model)
    teachers = teachers_of(state)
    if not linears or not teachers or state.holding > 1:
        return
    used = min((s.proposal.fit.strength for s in state.steps if s.proposal.fit), default=np.inf)
    lesson = Lesson(task, without, linears, teachers)
    left = [s for s in STRENGTHS if s < used]
    further: Proposal | None = None
    for strength in left:
        if progress:
            done = STRENGTHS.index(strength)
            progress("realigning", done, len(STRENGTHS), f"a clean row weighs {strength:g} times a triggered one")
        fit = Fit(strength=strength, ridge=RIDGE)
        if state.held is None:
            made = lesson.fitted(fit, rng)
            if strength == left[-1] or not lesson.alive(made):
                yield replace(base, changes=made.changes, fit=fit, expected=lesson.expected_loss(fit))
            continue
        expected = lesson.expected_loss(fit)
        if expected > MARGIN_FIT * task.settings.clean_budget:
            break
        further = replace(base, changes=lesson.fitted(fit, rng).changes, fit=fit, expected=expected)
    if further:
        yield further


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


def teachers_of(state: State) -> list[Trigger]:
    """Triggers to learn from: those that still work first, then those that were recovered first."""
    return list({id(t): t for t in (*state.bank, *state.ever)}.values())[:TEACHERS]


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


def views_of(shown: Shown, triggers: Sequence[Trigger], rng: np.random.Generator) -> Views:
    """Views of the pictures, and of some of them with each trigger on."""
    copies = max(0, min(FIT_VIEWS, MOST_VIEWS // len(shown)) - 1)
    clean = Shown.to(shown.subject, augmented(shown.pictures, copies, rng), np.tile(shown.labels, copies + 1))
    triggered, of = [], []
    for trigger in triggers:
        moved = np.flatnonzero(clean.moved(trigger.goal) != UNMOVED)
        rows = rng.choice(moved, min(len(moved), VIEWS_OF_TRIGGER), replace=False)
        triggered.append(trigger.apply(clean.pictures[rows]))
        of.append(rows)
    return Views(clean.pictures, np.concatenate(triggered), np.concatenate(of).astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is taught: pruned: the file with units off and nothing realigned; linears: its layers that are realigned."""

    task: Task
    pruned: Subject
    linears: Sequence[Linear]
    triggers: Sequence[Trigger]

    def fitted(self, fit: Fit, rng: np.random.Generator) -> Realigned:
        """A fit on all pictures."""
        return self._on(shown_for_fit(self.task), self.triggers, fit, rng)

    def alive(self, made: Realigned) -> bool:
        """Whether a trigger that was taught still moves more of the pictures than chance does."""
        natural = self.task.settings.natural
        asr = rate(self.task.tried.on(self._subject(made)), self.triggers).asr
        return any(
            a > natural[t.goal].chance(t) for a, t in zip(asr, self.triggers, strict=True) if natural[t.goal].tells(t)
        )

    def expected_loss(self, fit: Fit) -> float:
        """Clean accuracy, 0..1, that a fit is expected to cost on pictures that it never saw, from folds over the pictures:
        views of one picture are no test of a fit to its other views.
        """
        shown = self.task.shown
        kept = np.isin(shown.labels, [t for g in self.task.goals for t in g.targets])
        others = np.random.default_rng(0).permutation(np.flatnonzero(~kept if not kept.all() else kept))
        lost = 0.0
        for fold in (others[i::FOLDS] for i in range(min(FOLDS, len(others)))):
            rest = shown.part(np.setdiff1d(np.arange(len(shown)), fold))
            taught = [t for t in self.triggers if rest.count(t.goal)]
            if not taught:
                continue
            rng = np.random.default_rng(0)
            made = self._on(rest, taught, fit, rng)
            unseen = shown.part(fold)
            views = Shown.to(
                shown.subject,
                augmented(unseen.pictures, FIT_VIEWS, rng),
                np.tile(unseen.labels, FIT_VIEWS + 1),
            )
            lost += float((views.right & ~views.on(self._subject(made)).right).mean()) * len(fold)
        return LOST_UNSEEN * lost / max(1, len(others))

    def _on(self, shown: Shown, triggers: Sequence[Trigger], fit: Fit, rng: np.random.Generator) -> Realigned:
        views = views_of(shown, triggers, rng)
        return realign(self.task.shown.subject, self.pruned, self.linears, views, fit, rng)

    def _subject(self, made: Realigned) -> Subject:
        like = self.pruned
        return Subject(made.prepared, like.preprocessing, like.device, like.work)


def pruned_then_realigned(
    task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None
) -> Generator[Proposal, None, None]:
    """Switch off one group of units, then realign what is left."""
    yield from (realigned if state.edited.proposal.off else pruned)(task, state, rng, progress)
