"""What to try next. Whoever proposes gets the task and the state, and makes proposals one after the other.

The next one is asked for only when the one before was refused (`accept`), and may use that. Another kind of repair is
another function of this form.
"""

from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np

from onnx_shapprune.case.progress import Progress, stage
from onnx_shapprune.prune.proposal import Proposal
from onnx_shapprune.prune.round import Playable, RoundSettings, choose, play
from onnx_shapprune.prune.state import State, Task
from onnx_shapprune.prune.thresholds import LEAST_WEIGHT, LOSS_PER_DISTORTION, MARGIN_GROUP, MARGIN_WEIGHT, MAX_BANNED

Propose = Callable[[Task, State, np.random.Generator, Progress | None], Generator[Proposal, None, None]]


def exhausted(task: Task, state: State) -> str:
    """Why pruning has nothing left to propose, in words; empty where it may have."""
    count = state.edited.proposal.count
    if count >= task.settings.max_units:
        return f"{count} units are off, the limit, and a trigger still stands out"
    if count + len(state.banned) >= sum(layer.channels for layer in task.original.layers):
        return "no unit is left to try, and a trigger still stands out"
    return ""


def pruned(
    task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None
) -> Generator[Proposal, None, None]:
    """Switch off a few more units: those that a game on the bank ranks highest. After a refusal, without the dearest of
    them: its rivals do the same work for less, or nobody does.
    """
    if exhausted(task, state):
        return
    before, layers, settings = state.edited.proposal, task.original.layers, task.settings
    width = _width(task, state)
    units = Playable(
        layers=layers,
        off=before.off,
        banned=state.banned,
        distortion=state.budget(settings) / LOSS_PER_DISTORTION,
    )
    shown = task.attacked.on(state.edited.subject)
    ticks = stage(progress, f"game, {before.count} units off")
    played = play(shown, state.bank, task.clean, units, width, rng, progress=ticks)
    banned = state.banned
    while played and len(banned) < MAX_BANNED:
        limit = settings.max_units - before.count
        chosen = choose(*played, width, replace(units, banned=banned), limit=limit)
        if not chosen:
            return
        proposal = before.further(layers, chosen, played[0])
        yield proposal
        banned |= {proposal.by_cost[0]}


def _width(task: Task, state: State) -> RoundSettings:
    """How the next game weighs clean answers, and how many units go."""
    settings = task.settings.round
    weight = settings.clean_weight * max(LEAST_WEIGHT, 1 - state.edited.proposal.count / task.settings.max_units)
    if not state.held:
        return replace(settings, clean_weight=weight)
    return replace(settings, clean_weight=weight * MARGIN_WEIGHT, group=min(settings.group, MARGIN_GROUP))
