"""Games whose Shapley values are known in closed form, and a counter around any game."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import Game

Coalitions = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(slots=True)
class Counted:
    """Passes a game through and keeps every row it was asked for, and the rows of each call."""

    game: Game
    rows: list[bytes] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def __call__(self, coalitions: Coalitions, /) -> Values:
        assert coalitions.dtype == np.bool_
        self.rows.extend(row.tobytes() for row in coalitions)
        self.batches.append(len(coalitions))
        return self.game(coalitions)


def additive(weights: Values, offset: float = 0.0) -> Game:
    """v(S) = offset + sum of weights: player i is worth weights[i] in any order."""
    return lambda on: offset + on @ weights


def majority(quota: int) -> Game:
    """v(S) = 1 when |S| >= quota: every player is worth 1 / n."""
    return lambda on: (on.sum(axis=1) >= quota).astype(np.float64)


def glove(left: int) -> Game:
    """Players before `left` hold a left glove, the others a right one; a pair is worth 1."""
    return lambda on: np.minimum(on[:, :left].sum(axis=1), on[:, left:].sum(axis=1)).astype(np.float64)


def unanimity(members: list[int]) -> Game:
    """v(S) = 1 when all members are in S: each is worth 1 / len(members), the others nothing."""
    return lambda on: on[:, members].all(axis=1).astype(np.float64)


def random_game(players: int, seed: int) -> Game:
    """An arbitrary table of 2**players values: neither monotone nor symmetric."""
    table = np.random.default_rng(seed).normal(size=2**players)
    return lambda on: table[on @ (1 << np.arange(players))]


def fragile(quota: int, keys: dict[int, float], base: float) -> Game:
    """A caricature of a backdoored network: a few keys carry it, and it falls silent with `quota` players off."""

    def value(on: Coalitions, /) -> Values:
        alive = (~on).sum(axis=1) < quota
        strength = base + on[:, list(keys)] @ np.array(list(keys.values()))
        return np.where(alive, strength, 0.0)

    return value
