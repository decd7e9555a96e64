"""What every estimator here takes and gives back: a game over coalitions, and values with their standard errors.

An estimator knows nothing about models: a game is any callable from boolean rows to numbers, in any unit. The estimate
carries what is needed to judge it (errors, counts, what was set to zero) but no verdict.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.errors import ShapPruneError

Stop = Literal["samples", "evaluations", "seconds", "separated", "enumerated"]


class Game(Protocol):
    """A characteristic function, evaluated for many coalitions at once.

    coalitions: bool (n, players), True = the player is switched on. Returns float64 (n,), finite, any unit; row k
    depends on coalition k alone. A game over a subset of units has that many columns and keeps the others on.
    """

    def __call__(self, coalitions: NDArray[np.bool_], /) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """Estimated values of the players, float64 (players,), in the unit of the game; arrays are read-only.

    What `values` estimates is said by the function that made them. `standard_errors` (players,) belong to that
    estimand: they hold sampling noise only, never the bias of a discarding threshold. `counts` (players,) says in how
    many samples the player's marginal contribution was really measured; `evaluations` how many distinct coalitions the
    game was asked for; `greedy_walks` how many of the `permutations` followed the ranking. `discarded_walks` were cut
    short, and `zeroed_share`, in [0, 1], of all marginal contributions set to zero for it. `end_value` is the mean of v
    where the walks ended: values.sum() = full_value - end_value up to rounding. `empty_value`, v of the empty
    coalition, is None when no walk got there.

    `estimator`, `discard_threshold` and `epsilon` say what ran, `stopped` what ended it: all samples taken, a limit of
    evaluations or seconds, the top players separated, or every coalition known. Only the top-k estimator has
    `intervals`, lower and upper bounds (2, players), and `separated`, the players that they place among the top k.
    """

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    counts: NDArray[np.int64]
    evaluations: int
    permutations: int
    greedy_walks: int
    discarded_walks: int
    zeroed_share: float
    full_value: float
    end_value: float
    empty_value: float | None
    estimator: str = "permutation"
    stopped: Stop = "samples"
    discard_threshold: float | None = None
    epsilon: float | None = None
    intervals: NDArray[np.float64] | None = None
    separated: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for array in (self.values, self.standard_errors, self.counts, self.intervals, self.separated):
            if array is not None:
                array.setflags(write=False)

    @property
    def method(self) -> str:
        """What ran, in words: the estimator and whatever makes its estimand differ from the Shapley value."""
        method = self.estimator
        method += ", discarding threshold" if self.discard_threshold is not None else ""
        return method + (", epsilon-greedy" if self.epsilon is not None else "")

    def ranking(self) -> NDArray[np.int64]:
        """Players by falling value, int (players,); equal values keep the order of the players."""
        return np.argsort(-self.values, kind="stable")


def ask(game: Game, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Evaluate bool (n, players) and check the answer: float64 (n,), finite.

    Raises ValueError for a wrong shape and ShapPruneError for values that are not finite.
    """
    values = np.asarray(game(coalitions), dtype=np.float64)
    if values.shape != (len(coalitions),):
        raise ValueError(f"game returned shape {values.shape} for {len(coalitions)} coalitions: return one value a row")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        off = int((~coalitions[row]).sum())
        raise ShapPruneError(f"game value {values[row]} with {off} players off: check the model's logits for overflow")
    return values


class CoalitionCache:
    """Values by coalition, so that a game is never asked twice for the same one.

    Keys are the packed bits of the row. `evaluations` counts the distinct coalitions that were sent to the game.
    """

    __slots__ = ("_game", "_known")

    def __init__(self, game: Game) -> None:
        self._game = game
        self._known: dict[bytes, float] = {}

    @property
    def evaluations(self) -> int:
        return len(self._known)

    def __call__(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Values of bool (n, players) as float64 (n,); all rows not seen before go into one game call."""
        keys = [row.tobytes() for row in np.packbits(coalitions, axis=1)]
        # dict keeps the first row of each new key: equal rows within one batch are asked for once as well.
        new: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self._known:
                new.setdefault(key, row)
        if new:
            answers = ask(self._game, coalitions[list(new.values())])
            self._known.update(zip(new, answers.tolist(), strict=True))
        return np.array([self._known[key] for key in keys], dtype=np.float64)

    def get(self, coalition: NDArray[np.bool_]) -> float | None:
        """The value of bool (players,) if it was evaluated already, else None; asks nothing."""
        return self._known.get(np.packbits(coalition).tobytes())
