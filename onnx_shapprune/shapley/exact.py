"""Shapley values by enumeration: the oracle that the estimators are measured against, and the choice for few players.

phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S + i) - v(S))   (Shapley 1953).
"""

import math

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import Estimate, Game, ask
from onnx_shapprune.shapley.running import Progress

MAX_PLAYERS = 16
# Bounds the rows of one game call: a game may hold one network run per row in memory.
_ROWS = 512


def exact_values(game: Game, players: int) -> NDArray[np.float64]:
    """Exact Shapley values, float64 (players,), in the unit of the game; asks for all 2**players coalitions once.

    game: bool (n, players) -> float64 (n,), n at most 512 a call. Values sum to v(all) - v(none) up to rounding.
    Raises ValueError unless 1 <= players <= 16.
    """
    return _shapley(_table(game, players, None), players)


def exact_estimate(game: Game, players: int, *, progress: Progress | None = None) -> Estimate:
    """The same as an Estimate: exact Shapley values, standard errors of 0. `counts` is the number of coalitions that each
    player can join, all of them; nothing is walked or discarded. `progress` gets (coalitions, of). Errors as above.
    """
    values = _table(game, players, progress)
    return Estimate(
        values=_shapley(values, players),
        standard_errors=np.zeros(players),
        counts=np.full(players, 2 ** (players - 1), dtype=np.int64),
        evaluations=len(values),
        permutations=0,
        greedy_walks=0,
        discarded_walks=0,
        zeroed_share=0.0,
        full_value=float(values[-1]),
        end_value=float(values[0]),
        empty_value=float(values[0]),
        estimator="exact",
        stopped="enumerated",
    )


def _coalitions(players: int) -> NDArray[np.bool_]:
    """All of them, bool (2**players, players): bit i of the row's index is player i."""
    on: NDArray[np.bool_] = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    return on


def _table(game: Game, players: int, progress: Progress | None) -> NDArray[np.float64]:
    """The game's values, float64 (2**players,), in the order of `_coalitions`."""
    if not 1 <= players <= MAX_PLAYERS:
        raise ValueError(f"enumeration takes 1 to {MAX_PLAYERS} players, got {players}: use permutation_values")
    on = _coalitions(players)
    values = np.empty(len(on))
    for start in range(0, len(on), _ROWS):
        rows = slice(start, min(start + _ROWS, len(on)))
        values[rows] = ask(game, on[rows])
        if progress is not None:
            progress(rows.stop, len(on))
    return values


def _shapley(values: NDArray[np.float64], players: int) -> NDArray[np.float64]:
    codes, on = np.arange(2**players), _coalitions(players)
    weight_by_size = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    sizes = on.sum(axis=1)
    shapley = np.empty(players)
    for player in range(players):
        without = codes[~on[:, player]]
        marginals = values[without | (1 << player)] - values[without]
        shapley[player] = weight_by_size[sizes[without]] @ marginals
    return shapley
