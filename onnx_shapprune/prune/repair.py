"""Repair until the adversary finds nothing worth the name, or until the clean budget is spent.

Propose, accept, attack: each is a function over one state. After every step the original file is edited anew, prepared
anew, and attacked anew. Once nothing is found, it goes on a little where that is cheap: the attacker's trigger is not the
recovered one, and may live on paths of which that shows only a trace.
"""

from dataclasses import dataclass

import numpy as np

from onnx_shapprune.case.progress import Progress
from onnx_shapprune.prune.accept import accept, give_back
from onnx_shapprune.prune.attack import attack
from onnx_shapprune.prune.proposal import Off, Proposal
from onnx_shapprune.prune.propose import Propose, exhausted, pruned
from onnx_shapprune.prune.state import State, Step, Task
from onnx_shapprune.settings import MethodName


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """repaired: whether the proposal holds; reason in words; proposal: the best one; steps in order; method: its name."""

    repaired: bool
    reason: str
    proposal: Proposal
    steps: tuple[Step, ...]
    method: MethodName | None = None

    @property
    def changed(self) -> bool:
        """Whether it changes anything."""
        return bool(self.proposal.off or self.proposal.changes)

    @property
    def off(self) -> Off:
        """The units that are switched off."""
        return self.proposal.off


def repair(
    task: Task,
    state: State,
    rng: np.random.Generator,
    *,
    propose: Propose = pruned,
    progress: Progress | None = None,
) -> Repair:
    """Change the file until none of the task's goals is reached by a trigger that stands out. state: of `begin`."""
    reason = "no trigger was left to learn from"
    while state.bank and not state.settled:
        after, edited = accept(task, state, propose(task, state, rng, progress))
        if edited is None:
            reason = exhausted(task, state) or (
                f"every way found to weaken the trigger further costs more clean answers than the budget of "
                f"{task.settings.clean_budget:.1%} allows"
            )
            break
        state = attack(task, after, edited, rng, progress)
    state = give_back(task, state, rng, progress)
    if state.held:
        reason = "no search finds a trigger for the target that stands out any more"
    return Repair(state.held is not None, reason, state.held or state.edited.proposal, state.steps)
