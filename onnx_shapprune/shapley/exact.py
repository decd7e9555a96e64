"""Shapley values by enumeration: the oracle that the estimators are measured against, and the choice for few players.

phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S + i) - v(S))   (Shapley 1953).
"""

import math

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import Game, ask

MAX_PLAYERS = 16
# Bounds the rows of one game call: a game may hold one network run per row in memory.
_ROWS = 4096


def exact_values(game: Game, players: int) -> NDArray[np.float64]:
    """Exact Shapley values, float64 (players,), in the unit of the game; asks for all 2**players coalitions once.

    game: bool (n, players) -> float64 (n,), n at most 4096 a call. Values sum to v(all) - v(none) up to rounding.
    Raises ValueError unless 1 <= players <= 16.
    """
    if not 1 <= players <= MAX_PLAYERS:
        raise ValueError(f"enumeration takes 1 to {MAX_PLAYERS} players, got {players}: use permutation_values")
    codes = np.arange(2**players)
    on = (codes[:, None] >> np.arange(players)) & 1 == 1
    values = np.concatenate([ask(game, on[start : start + _ROWS]) for start in range(0, len(codes), _ROWS)])
    weight_by_size = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    sizes = on.sum(axis=1)
    shapley = np.empty(players)
    for player in range(players):
        without = codes[~on[:, player]]
        marginals = values[without | (1 << player)] - values[without]
        shapley[player] = weight_by_size[sizes[without]] @ marginals
    return shapley
