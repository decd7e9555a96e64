"""What a repair may keep of what is proposed: it looks at edited files only, and not at how they came about."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

import numpy as np

from onnx_shapprune.case.progress import Progress
from onnx_shapprune.prune.attack import attacked
from onnx_shapprune.prune.proposal import Edited, Proposal, edited
from onnx_shapprune.prune.state import State, Task
from onnx_shapprune.prune.thresholds import EXPECTED_SLACK, LAST_RESORT, MARGIN_BUDGET, UNSEEN_ALIVE


def accept(task: Task, state: State, proposals: Generator[Proposal, None, None]) -> tuple[State, Edited | None]:
    """The first proposal whose file neither surely costs more than the budget nor is expected to by far, the last resort not
    at all, and whose triggers move few of the pictures that it never saw, or None; and the state, in which the
    dearest unit of each refused one is banned.
    """
    with closing(proposals):  # a game holds sessions and cached activations
        for proposal in proposals:
            made = edited(task.original, proposal, task.shown.subject)
            lost = max(task.surely_lost(made.subject), expected(proposal))
            asr = proposal.unseen.asr if proposal.unseen else 0.0
            if lost <= state.budget(task.settings) and asr <= UNSEEN_ALIVE:
                return state, made
            state = replace(state, banned=state.banned | set(proposal.by_cost[:1]))
    return state, None


def expected(proposal: Proposal) -> float:
    """What a proposal is expected to lose on unseen pictures, 0..1, as it is held against the budget."""
    last = proposal.fit is not None and proposal.fit.strength < LAST_RESORT
    return proposal.unseen.lost / (1 if last else EXPECTED_SLACK) if proposal.unseen else 0.0


def give_back(task: Task, state: State, rng: np.random.Generator, progress: Progress | None = None) -> State:
    """Put back units of the last group, the dearest first, where the file holds without: it may have done more than was
    needed. Not where the plan is cheap.
    """
    if state.held is None:
        return state
    before = state.steps[-2].proposal if len(state.steps) > 1 else Proposal()
    for player in state.steps[-1].proposal.by_cost:
        last = state.steps[-1]
        chosen, round_ = last.proposal.chosen, last.proposal.round
        if round_ is None or len(chosen) == 1 or last.clean_cost <= MARGIN_BUDGET * task.settings.clean_budget:
            break
        fewer = before.further(task.original.layers, [p for p in chosen if p != player], round_)
        made = edited(task.original, fewer, task.shown.subject)
        step = attacked(task, state, made, rng, turn=len(state.steps), progress=progress).step
        if not step.found:
            state = replace(state, edited=made, steps=(*state.steps[:-1], step), held=fewer)
    return state
