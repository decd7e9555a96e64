"""Proposals that realign layers: the gentlest fit first that no known trigger gets through."""

from collections.abc import Generator, Sequence
from dataclasses import replace

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
from onnx_shapprune.prune.realign import Fit, Realigned, Views, realign
from onnx_shapprune.prune.state import State, Task
from onnx_shapprune.prune.thresholds import (
    FIT_VIEWS,
    FOLDS,
    LOST_UNSEEN,
    MARGIN_BUDGET,
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
    these triggers moves more pictures than chance does. Once a file holds, one step further where that is cheap.
    """
    before = state.edited.proposal
    used = min((s.proposal.fit.strength for s in state.steps if s.proposal.fit), default=np.inf)
    base = Proposal(off=before.off)
    pruned = _without_changes(task, state)
    linears, _ = find_linears(applied(task.original, base), task.original.interface.output, pruned.prepared.model)
    teachers = teachers_of(state)
    if not linears or not teachers or state.holding > 1:
        return
    taught = shown_for_fit(task)
    left = [s for s in STRENGTHS if s < used]
    for strength in left[:1] if state.held else left:
        fit = Fit(strength=strength, ridge=RIDGE)
        if progress:
            progress("realigning", len(STRENGTHS) - len(left), len(STRENGTHS), f"clean pictures weigh {strength:g}")
        made = realign(task.shown.subject, pruned, linears, views_of(taught, teachers, rng), fit, rng)
        if strength != left[-1] and not state.held and _alive(task, made, teachers):
            continue
        expected = expected_loss(task, pruned, linears, teachers, fit)
        if state.held and expected > MARGIN_BUDGET * task.settings.clean_budget:
            return
        yield replace(base, changes=made.changes, fit=fit, expected=expected)


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


def _alive(task: Task, made: Realigned, triggers: Sequence[Trigger]) -> bool:
    """Whether a known trigger still moves more of the pictures than chance does."""
    natural, subject = task.settings.natural, task.shown.subject
    tried = task.tried.on(Subject(made.prepared, subject.preprocessing, subject.device, subject.work))
    asr = rate(tried, triggers).asr
    return any(a > natural[t.goal].chance(t) for a, t in zip(asr, triggers, strict=True) if natural[t.goal].tells(t))


def expected_loss(
    task: Task, pruned: Subject, linears: Sequence[Linear], triggers: Sequence[Trigger], fit: Fit
) -> float:
    """Clean accuracy, 0..1, that a fit is expected to cost on pictures that it never saw, from folds over the pictures:
    views of one picture are no test of a fit to its other views.
    """
    shown = task.shown
    kept = np.isin(shown.labels, [t for g in task.goals for t in g.targets])
    others = np.random.default_rng(0).permutation(np.flatnonzero(~kept if not kept.all() else kept))
    lost: list[float] = []
    for fold in (others[i::FOLDS] for i in range(min(FOLDS, len(others)))):
        rest = shown.part(np.setdiff1d(np.arange(len(shown)), fold))
        if not any(rest.count(t.goal) for t in triggers):
            continue
        teaching = [t for t in triggers if rest.count(t.goal)]
        rng = np.random.default_rng(0)
        made = realign(shown.subject, pruned, linears, views_of(rest, teaching, rng), fit, rng)
        pictures = augmented(shown.pictures[fold], FIT_VIEWS, rng)
        subject = Subject(made.prepared, pruned.preprocessing, pruned.device, pruned.work)
        was, now = (s.logits(pictures).argmax(1) for s in (shown.subject, subject))
        truth = np.tile(shown.labels[fold], FIT_VIEWS + 1)
        lost.append(float(((was == truth) & (now != truth)).mean()) * len(fold))
    return LOST_UNSEEN * sum(lost) / max(1, len(others))
