"""Switch units on again that the repair does not need: a group is chosen before its last member proves necessary."""

from collections.abc import Mapping, Sequence

import numpy as np

from onnx_shapprune.game.replay import Player, Replay
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.invert.subject import Floats, Labels, Pixels, Subject, margins
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.prune.round import CleanRows

TRIGGERS = 24
EACH = 6


def needless(
    subject: Subject, layers: Sequence[Layer], off: Mapping[str, Sequence[int]], known: Sequence[Trigger],
    pictures: Pixels, labels: Labels, clean: CleanRows, rng: np.random.Generator, *, alive: float,
) -> tuple[Player, ...]:  # fmt: skip
    """Units of the plan that can stay on, the dearest in clean margin first, while every known trigger stays dead.

    subject: the unpruned model. known: all triggers ever recovered; at most 24 are tried, on six pictures each. alive: ASR
    above which a trigger counts as working.
    """
    players = [Player(i, c) for i, layer in enumerate(layers) for c in off.get(layer.name, ())]
    if len(players) < 2:
        return ()
    tried = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, TRIGGERS).round().astype(int))]
    shown, targets = [], []
    for trigger in tried:
        others = np.flatnonzero(labels != trigger.target)
        pick = rng.choice(others, min(EACH, len(others)), replace=False)
        shown.append(trigger.apply(pictures[pick]))
        targets.append(np.full(len(pick), trigger.target, np.int64))
    counts = [len(t) for t in targets]
    inputs = to_input(np.concatenate([*shown, clean.pictures]), subject.preprocessing)
    replay = Replay(subject.prepared, layers, players, inputs, subject.device)
    wanted = np.concatenate([*targets, clean.answers])

    def measure(on: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[float, float]:
        """Largest ASR of a trigger, and the mean clean margin."""
        lead: Floats = margins(replay(on[None])[0], wanted)
        rates = [float((part > 0).mean()) for part in np.split(lead[: sum(counts)], np.cumsum(counts)[:-1])]
        return max(rates), float(lead[sum(counts) :].mean())

    on = np.zeros(len(players), bool)
    gains = [measure(on | (np.arange(len(on)) == i))[1] for i in range(len(on))]
    for i in np.argsort(gains)[::-1]:
        trial = on | (np.arange(len(on)) == i)
        if not trial.all() and measure(trial)[0] <= alive:
            on = trial
    return tuple(p for p, restored in zip(players, on, strict=True) if restored)
