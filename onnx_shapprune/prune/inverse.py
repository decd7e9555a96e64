"""The inverse of a plan: what the units that it switches off can do without the others of their layers.

Units that carry a backdoor and nothing else keep it when they are left alone, and lose the task (IMS, NeurIPS 2025). It
decides nothing: a backdoor that other units of the same layers help along does not survive there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_shapprune.case.goal import UNMOVED
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.proposal import Off, Original, Proposal, edited


@dataclass(frozen=True, slots=True)
class Inverse:
    """Shares in 0..1 on a file in which only the units of a plan are left in their layers. asr: of the pictures that a
    trigger has to move, those that reach their target, of the best trigger; idle: the same pictures without a trigger that
    do; acc: of all pictures, those that keep their label.
    """

    asr: float
    idle: float
    acc: float


def inverse(original: Original, off: Off, shown: Shown, triggers: Sequence[Trigger]) -> Inverse | None:
    """Leave only the units `off` (layer name -> channels) in their layers. shown: clean pictures in front of the original.
    None where nothing is off, or no trigger has a picture to move.
    """
    rest = {
        layer.name: [c for c in range(layer.channels) if c not in set(off[layer.name])]
        for layer in original.layers
        if off.get(layer.name)
    }
    rated = []
    subject = edited(original, Proposal(off=rest), shown.subject).subject
    answers = shown.on(subject).answers
    for trigger in triggers if rest else ():
        to = shown.moved(trigger.goal)
        rows = np.flatnonzero(to != UNMOVED)
        if len(rows):
            reached = subject.logits(trigger.apply(shown.pictures[rows])).argmax(1) == to[rows]
            rated.append((float(reached.mean()), float((answers[rows] == to[rows]).mean())))
    if not rated:
        return None
    asr, idle = max(rated, key=lambda r: r[0] - r[1])
    return Inverse(asr, idle, float((answers == shown.labels).mean()))
