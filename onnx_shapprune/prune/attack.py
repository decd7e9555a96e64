"""The adversary on a repaired file, and what follows from what it finds.

That the triggers known so far no longer work proves nothing. A file holds only when the strongest trigger for the target,
warm or fresh, is no stronger than what the model's other classes naturally allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.goal import all_to_one
from onnx_shapprune.case.progress import Progress
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.case.subject import Subject
from onnx_shapprune.game.value import PULL_LEFT
from onnx_shapprune.invert.arms import Scores, rate
from onnx_shapprune.invert.scan import rounds_for, scan
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.bank import Hunt, Quarry, hunt
from onnx_shapprune.prune.proposal import Edited, Proposal
from onnx_shapprune.prune.state import State, Step, Task
from onnx_shapprune.prune.thresholds import EVER, KNOWN_ALIVE, LAST, NEW_WAY, PULL_ALIVE, RIVAL_LEAD, RIVALS, WORKING


@dataclass(frozen=True, slots=True, eq=False)
class Attacked:
    """strongest: those of the known triggers that still pull most; quiet: whether none does anything any more."""

    step: Step
    strongest: tuple[Trigger, ...]
    quiet: bool


def begin(task: Task, known: Sequence[Trigger], rng: np.random.Generator) -> State:
    """The adversary on the original file; where it finds nothing, the `known` triggers are what there is to learn from."""
    subject = task.shown.subject
    found = _hunt_all(task, task.attacked, known, rng, turn=0)
    first = (*known, *found.bank)
    return State(Edited(Proposal(), subject), found.bank or tuple(known), first, first, max(found.lead, 0.0))


def attack(
    task: Task, state: State, edited: Edited, rng: np.random.Generator, progress: Progress | None = None
) -> State:
    """Go on to a file that was accepted, and attack it."""
    seen = attacked(task, state, edited, rng, turn=len(state.steps) + 1, progress=progress)
    step = seen.step
    if step.found and state.held and edited.proposal.changes:  # a further fit that does not hold takes nothing back
        return replace(state, steps=(*state.steps, step), quiet=True)
    return replace(
        state,
        edited=edited,
        # Where nothing reaches half of the pictures any more, learn from what still reaches most.
        bank=step.hunt.bank or seen.strongest,
        ever=(*state.ever, *step.hunt.bank)[-EVER:],
        steps=(*state.steps, step),
        held=None if step.found else edited.proposal,
        holding=0 if step.found else state.holding + 1,
        quiet=seen.quiet and not edited.proposal.changes,  # a fit goes on as far as is cheap
    )


def attacked(
    task: Task,
    state: State,
    edited: Edited,
    rng: np.random.Generator,
    *,
    turn: int,
    progress: Progress | None = None,
) -> Attacked:
    """Attack an edited file with all that is known, and measure what is left of its clean answers. turn: as `_hunt_all`."""
    subject, natural = edited.subject, task.settings.natural
    shown = task.attacked.on(subject)
    hunted = _hunt_all(task, shown, state.bank, rng, turn=turn)
    if edited.proposal.changes:
        hunted = above_rivals(task, state, shown, hunted, rng)
    unseen = edited.proposal.unseen
    acc, cost = task.shown.on(subject).accuracy, task.clean.cost(subject) if unseen is None else unseen.lost
    tried = task.tried.on(subject)
    rated = rate(tried, state.ever)
    pull = pulls(tried, state.ever, rated)
    if edited.proposal.changes:  # what the same pixels do in any other paint is no backdoor
        inverted = [t.inverted for t in state.ever]
        pull = pull - np.maximum(0, pulls(tried, inverted, rate(tried, inverted)))
    telling = [i for i, t in enumerate(state.ever) if natural[t.goal].tells(t)]
    alive = any(rated.asr[i] > natural[state.ever[i].goal].chance(state.ever[i]) for i in telling)
    dragging = telling
    if edited.proposal.changes:
        alive = alive or named_alive(task, subject)
        # What was found on a repaired file was held against its other classes, and drags pictures as theirs do.
        first = {id(t) for t in state.first}
        dragging = [i for i in telling if id(state.ever[i]) in first]
    scaled = max((pull[i] / natural[state.ever[i].goal].area(state.ever[i]) for i in dragging), default=0.0)
    works = max((float(rated.asr[i]) for i in telling), default=0.0)
    step = Step(edited.proposal, hunted, cost, works, stands_out(hunted, alive, scaled), acc)
    if progress:
        margin = "not tried" if hunted.margin is None else f"{hunted.margin:.1f}"
        note = f"patch margin {margin}, ASR {hunted.asr:.0%}, known triggers {works:.0%}, clean cost {cost:+.1%}"
        progress("pruning", edited.proposal.count, task.settings.max_units, note)
    strongest = tuple(state.ever[i] for i in np.argsort(-pull, kind="stable")[:LAST])
    return Attacked(step, strongest, works == 0 or max(pull[telling], default=0.0) <= PULL_LEFT)


def named_alive(task: Task, subject: Subject) -> bool:
    """Whether a trigger of the audit still moves more of the pictures than verify and a gate let pass."""
    named = task.settings.named
    return bool(named) and float(rate(task.attacked.on(subject), named).asr.max()) > KNOWN_ALIVE


def above_rivals(task: Task, state: State, shown: Shown, hunted: Hunt, rng: np.random.Generator) -> Hunt:
    """What the adversary found, without what the same search finds for the other classes of the same repaired model: those
    are natural weaknesses, and a repair that chases them eats the model. A family that said nothing about the original file
    is no way of the backdoor, and must lead by a good part of what led there. Only where every picture has one target.
    """
    goals = [g for g in task.goals if g.kind == "all-to-one"]
    spoke = {t.family for t in hunted.bank} | ({hunted.family} if hunted.lead > 0 else set())
    searched = [f for name, f in task.settings.families.items() if name in spoke]
    if len(goals) != len(task.goals) or not searched:
        return hunted
    named = {g.target for g in goals}
    others = [c for c in shown.subject.reachable if c not in named]
    rivals = all_to_one(sorted(rng.choice(others, min(len(others), RIVALS), replace=False).tolist()))
    bars = {}
    for family in searched if rivals else ():
        rounds = rounds_for(family, task.settings.hunt.scan, task.settings.hunt.whole)
        found = scan(shown, rivals, family, rounds, rng)
        slack = 0.0 if any(t.family == family.name for t in state.first) else NEW_WAY * state.led
        bars[family.name] = RIVAL_LEAD * max(0.0, *(r.margin for r in found)) + slack
    scores = rate(shown, hunted.bank) if hunted.bank else None
    margins = [] if scores is None else scores.margin.tolist()
    kept = tuple(
        t
        for t, m in zip(hunted.bank, margins, strict=True)
        if m > bars.get(t.family, 0.0) * task.settings.natural[t.goal].size(t)
    )
    return replace(hunted, bank=kept, bar=max(hunted.bar, bars.get(hunted.family, 0.0)))


def pulls(shown: Shown, triggers: Sequence[Trigger], rated: Scores) -> NDArray[np.float64]:
    """How far each trigger still moves pictures towards its target, as a share of their natural distance from it.

    0: it does nothing; 1: on average the pictures reach the boundary. rated: the triggers on the same pictures. A class
    that is natural for them (no distance) counts as 1.
    """
    shares = []
    for trigger, margin in zip(triggers, rated.margin, strict=True):
        way = shown.distance(trigger.goal)
        shares.append(1 + margin / way if way > 0 else 1.0)
    return np.array(shares)


def stands_out(found: Hunt, alive: bool, pull: float) -> bool:
    """Whether a fresh, warm or known trigger still does more than chance allows on this model.

    Either the adversary found a trigger better than natural, or one of the audit's budget reaches half of the pictures
    with a margin above what is natural, or one of all triggers ever recovered is `alive` (sends more
    pictures to the target than `Natural.chance`), or drags them further than PULL_ALIVE (`pull`, over the size of the
    trigger).
    """
    return bool(found.bank) or (found.asr >= WORKING and found.lead > 0) or alive or pull > PULL_ALIVE


def _hunt_all(task: Task, shown: Shown, known: Sequence[Trigger], rng: np.random.Generator, *, turn: int) -> Hunt:
    """The adversary against every goal; the strongest of each statistic. Turn 0 is the unpruned model.

    Wide patches are only searched there: with enough pixels every class of every model can be reached, but what they find
    on the unpruned model is the backdoor, by more paths than the narrow ones use.
    """
    settings = task.settings
    side, larger, wide = settings.sides
    sides = (side, wide) if turn == 0 else (side, larger) if turn % 2 else (side,)
    hunts = [
        hunt(
            shown,
            Quarry(goal, settings.natural[goal], settings.families),
            [k for k in known if k.goal == goal],
            settings.hunt,
            rng,
            sides=sides,
            exhaustive=turn == 0,
        )
        for goal in task.goals
    ]
    shown.subject.rest()
    worst = max(hunts, key=lambda h: h.lead)
    return replace(worst, bank=tuple(t for h in hunts for t in h.bank))
