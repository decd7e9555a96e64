"""The dual game: how much of the backdoor, and how much of the clean behaviour, a coalition of channels still carries.
And three simpler ones, of the backdoor alone: what others play, to compare with.

Both parts are smooth. A 0/1 attack success rate on nine pictures moves in steps of 1/9, and probabilities saturate where
margins are tens of logits; so a triggered row's logit margin is taken relative to its margin with all channels on, and
counts until the picture is most of the way back to where it was without the trigger. The clean part looks at all logits,
not at the answers: ten pictures that keep their answers say little about those the user has not shown, but how far their
logits move does (`distortion`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from onnx_shapprune.case.subject import Floats, Labels, Work, margins
from onnx_shapprune.game.replay import Coalitions, Replay
from onnx_shapprune.settings import ValueName

# A triggered picture is let go when the trigger moves it over less than this share of its way to the target: a margin of
# just under zero is not yet the goal, since other pictures, and the attacker's own trigger, come further.
PULL_LEFT = 0.25


def distortion(logits: Floats, reference: Floats, weights: NDArray[np.float64]) -> float:
    """How far pruning moved the logits [n, classes] from the unpruned model's: squared distance over squared size.

    Each row counts relative to its mean, as softmax does: 0 is unchanged, 1 as far as to a model that says nothing.
    weights: of the rows, float64 [n]. On random sets of 1 to 8 channels of two CIFAR-10 networks this, on 40 equally
    weighted views of ten pictures, ranks the accuracy lost on 1000 test pictures with a Spearman correlation of 0.92 and
    0.96; the share of kept answers with 0.58 and 0.71, the share of kept margins with 0.59 and 0.79.
    """
    before = reference - reference.mean(axis=1, keepdims=True)
    after = logits - logits.mean(axis=1, keepdims=True)
    size = float(weights @ (before**2).mean(axis=1))
    return float(weights @ ((after - before) ** 2).mean(axis=1)) / size if size > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of a replay are: the first `triggered` carry a trigger towards `targets` (int64), and had margins
    `natural` (float32) without it; the rest are clean, count with `weights` (float64) and should keep `logits` (float32
    [clean rows, classes]), those of the unpruned model.
    """

    targets: Labels
    natural: Floats
    logits: Floats
    weights: NDArray[np.float64]

    @property
    def triggered(self) -> int:
        return len(self.targets)


class DualGame:
    """v(S) = backdoor(S) - clean_weight * clean(S); both parts are 1 for the full coalition of an unpruned model.

    value "dual", backdoor: mean over triggered rows of clip(margin - goal, 0, full margin - goal), each row relative to
    its full value or to its goal's size if that is larger; goal: (1 - PULL_LEFT) * natural margin. Rows at their goal with
    all channels on do not count. clean: 1 - distortion, not below 0, which is convex in the damage: many small changes
    cost less than one large one. Coalitions are evaluated once; `evaluations` counts them, and so does `work`.

    The other values have the same clean part and leave it out of v. "asr": share of triggered rows that go to the target
    (ShapPruning, Guan et al., CVPR 2022, plays on it: 0..1, in steps of a row). "probability": mean softmax probability of
    the target. "margin": mean logit margin, over that with all channels on.
    """

    def __init__(
        self, replay: Replay, rows: Rows, *, clean_weight: float, value: ValueName = "dual", work: Work | None = None
    ) -> None:
        self._replay, self._rows, self._value = replay, rows, value
        self._work = work or Work()
        self._weight = clean_weight if value == "dual" else 0.0
        self._known: dict[bytes, tuple[float, float]] = {}
        self._full = margins(replay.full[: rows.triggered], rows.targets)
        self._goal, self._weights = backdoor_weights(self._full, rows.natural)

    @property
    def evaluations(self) -> int:
        return len(self._known)

    def __call__(self, coalitions: Coalitions, /) -> NDArray[np.float64]:
        both = self.components(coalitions)
        return np.asarray(both[:, 0] - self._weight * both[:, 1])

    def strength(self, coalitions: Coalitions, /) -> NDArray[np.float64]:
        """The backdoor part alone, float64 (n,): what the discarding threshold looks at."""
        return np.asarray(self.components(coalitions)[:, 0])

    def components(self, coalitions: Coalitions) -> NDArray[np.float64]:
        """Backdoor and clean part of coalitions bool (n, players): float64 (n, 2)."""
        keys = [row.tobytes() for row in np.packbits(coalitions, axis=1)]
        new = {k: i for i, k in reversed(list(enumerate(keys))) if k not in self._known}
        if new:
            logits = self._replay(coalitions[list(new.values())])
            self._work.coalitions += len(new)
            for key, row in zip(new, logits, strict=True):
                self._known[key] = self._score(row)
        return np.array([self._known[k] for k in keys], np.float64).reshape(-1, 2)

    def _score(self, logits: Floats) -> tuple[float, float]:
        split = self._rows.triggered
        clean = max(0.0, 1 - distortion(logits[split:], self._rows.logits, self._rows.weights))
        return self._backdoor(logits[:split]), clean

    def _backdoor(self, logits: Floats) -> float:
        targets = self._rows.targets
        found = margins(logits, targets)
        match self._value:
            case "dual":
                return float(self._weights @ (np.clip(found, self._goal, self._full) - self._goal))
            case "asr":
                return float((found > 0).mean())
            case "probability":
                return float(softmax(logits.astype(np.float64), axis=1)[np.arange(len(targets)), targets].mean())
            case "margin":
                full = float(self._full.mean())
                return float(found.mean()) / full if full > 0 else 0.0


def backdoor_weights(full: Floats, natural: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Goal of each triggered row, and weights with which its margin above the goal adds up to the backdoor part.

    full, natural: margins towards the target, float32 (rows,), with the trigger and without.
    """
    goal = np.minimum((1 - PULL_LEFT) * natural.astype(np.float64), 0.0)
    above = np.maximum(full - goal, 0.0)
    weights = np.where(above > 0, 1 / np.maximum(np.maximum(above, -goal), 1e-3), 0.0)
    total = float(weights @ above)
    return np.minimum(goal, full), weights / total if total > 0 else weights
