"""The dual game: how much of the backdoor, and how much of the clean answers, a coalition of channels still carries.

Both parts are smooth. A 0/1 attack success rate on nine pictures moves in steps of 1/9, and probabilities saturate where
margins are tens of logits; so each row's logit margin is taken relative to its margin with all channels on, and clipped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.game.replay import Coalitions, Replay
from onnx_shapprune.invert.subject import Floats, Labels, margins

# A row that is dead counts a little further down, so that a margin of just under zero is not yet the goal.
LOWEST = -0.25
# Clean margins may shrink a good deal before an answer is in danger: what is left above this share does not count.
SAFE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of a replay are: the first `triggered` carry a trigger towards `targets` (int64), the rest are clean
    and should keep their label `labels` (int64), with margins compared to `clean_margins` (float32).
    """

    targets: Labels
    labels: Labels
    clean_margins: Floats

    @property
    def triggered(self) -> int:
        return len(self.targets)


class DualGame:
    """v(S) = backdoor(S) - clean_weight * clean(S), each in about 0..1, both 1 for the full coalition.

    backdoor: mean over triggered rows of clip(margin / full margin, -0.25, 1); clean: mean over clean rows of
    clip(margin / (0.6 * full margin), 0, 1), which is convex in the damage: many small losses cost less than one answer.
    Triggered rows without a positive margin with all channels on do not count, nor do clean rows without one. Coalitions
    are evaluated once; `evaluations` counts them.
    """

    def __init__(self, replay: Replay, rows: Rows, *, clean_weight: float) -> None:
        self._replay, self._rows, self._weight = replay, rows, clean_weight
        self._known: dict[bytes, tuple[float, float]] = {}
        split = rows.triggered
        self._full_bd = margins(replay.full[:split], rows.targets)
        self._full_cl = rows.clean_margins

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
            for key, row in zip(new, logits, strict=True):
                self._known[key] = self._score(row)
        return np.array([self._known[k] for k in keys], np.float64).reshape(-1, 2)

    def _score(self, logits: Floats) -> tuple[float, float]:
        split = self._rows.triggered
        bd = _relative(margins(logits[:split], self._rows.targets), self._full_bd, LOWEST)
        cl = _relative(margins(logits[split:], self._rows.labels), SAFE_SHARE * self._full_cl, 0.0)
        return bd, cl


def _relative(margin: Floats, full: Floats, lowest: float) -> float:
    counted = full > 0
    if not counted.any():
        return 0.0
    return float(np.clip(margin[counted] / full[counted], lowest, 1).mean())
