"""Who are the k best? Walks that stop as soon as the top k are separated from the rest.

Every uniform walk measures every player once, so this is a bandit that pulls all arms together and only decides when to
stop. Intervals are empirical-Bernstein bounds (Maurer & Pontil, "Empirical Bernstein Bounds and Sample Variance
Penalization", COLT 2009), which are narrow where a player's marginals hardly vary, with a union bound over players, both
sides and all looks. Looks grow further apart (each a quarter later), since every one of them widens the intervals.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import Estimate, Game, Stop
from onnx_shapprune.shapley.permutation import uniform
from onnx_shapprune.shapley.running import Estimator
from onnx_shapprune.shapley.walks import Sampling, WalkScheme, WalkSettings

FIRST_LOOK = 16
GROWTH = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKSettings(WalkSettings):
    """Settings of `top_k`, with those of all walks; ValueError where one is out of range.

    k: players to separate, >= 1. confidence: that all intervals at all looks hold, in (0, 1). span: width of an interval
    that is known to hold every marginal contribution of any one player, in the unit of the game; None = the widest range
    of a player seen so far. permutations: walks at most, >= 2.
    """

    k: int
    confidence: float = 0.95
    span: float | None = None
    permutations: int = 1000

    def __post_init__(self) -> None:
        WalkSettings.__post_init__(self)
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
        if self.permutations < 2:
            raise ValueError(f"permutations must be at least 2, got {self.permutations}: one has no standard error")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, got {self.confidence}")
        if self.span is not None and not 0 < self.span < math.inf:
            raise ValueError(f"span must be positive and finite or None, got {self.span}")


def top_k(
    game: Game, players: int, *, settings: TopKSettings, rng: np.random.Generator, gauge: Game | None = None
) -> Estimator:
    """Find the k players of the largest values by uniform walks; a sample is one walk.

    Estimand as for `permutation` without epsilon: the Shapley value, or with discard_threshold the truncated one, and it
    is the ranking by that which is separated. `intervals` of the estimate are those of the last look, `separated` the
    players whose lower bound is above the upper bound of all but k - 1 others at most: all k when `stopped` is
    "separated", those that were certain so far otherwise. With span given, the probability that `separated` ever holds
    a wrong player is at most 1 - confidence; with span None the intervals are a rule of thumb, since a range that was not
    seen yet cannot be in them. `values` are the mean at a data-dependent time, which flatters the leaders a little.
    Equal values never separate: set a budget. ValueError when players <= k, or a marginal contradicts span.
    """
    if players <= settings.k:
        raise ValueError(f"top {settings.k} of {players} players needs no estimate: k must be below the players")
    sampling = Sampling(name="top-k", samples=settings.permutations, draw=uniform(players, rng))
    return Estimator(_TopK(WalkScheme(game, players, sampling, settings=settings, gauge=gauge), settings))


def empirical_bernstein(
    variances: NDArray[np.float64], samples: int, span: float, failure: float
) -> NDArray[np.float64]:
    """Half-widths, float64 like `variances`, that a mean of `samples` >= 2 values within an interval of width `span`
    exceeds on one side with probability `failure` at most (Maurer & Pontil 2009, theorem 4). variances: of the sample,
    with samples - 1 below.
    """
    log = math.log(2 / failure)
    half: NDArray[np.float64] = np.sqrt(2 * variances * log / samples) + 7 * span * log / (3 * (samples - 1))
    return half


class _TopK:
    """Uniform walks with looks in between."""

    def __init__(self, walks: WalkScheme, settings: TopKSettings) -> None:
        self._walks, self._settings = walks, settings
        self._looks = 0
        self._next = min(FIRST_LOOK, walks.most)
        players = len(walks.sums.counts)
        self._intervals = np.stack([np.full(players, -np.inf), np.full(players, np.inf)])
        self._separated = np.empty(0, dtype=np.int64)
        self.least, self.most, self.cost = walks.least, walks.most, walks.cost
        self.lockstep, self.budget = walks.lockstep, walks.budget

    @property
    def samples(self) -> int:
        return self._walks.samples

    @property
    def evaluations(self) -> int:
        return self._walks.evaluations

    def settled(self) -> bool:
        return len(self._separated) == self._settings.k

    def room(self) -> int:
        return self._next - self.samples

    def take(self, count: int) -> None:
        self._walks.take(count)
        if self.samples == self._next:
            self._look()
            # The last look is at the end, wherever the budget does not end the walks before.
            self._next = min(math.ceil(GROWTH * self._next), self.most)

    def _look(self) -> None:
        sums, settings = self._walks.sums, self._settings
        self._looks += 1
        seen = float((sums.highest - sums.lowest).max())
        if settings.span is not None and seen > settings.span:
            raise ValueError(
                f"marginal contributions of one player range over {seen:g}, more than span {settings.span:g}"
            )
        # 1 / (look * (look + 1)) sums to 1 over all looks.
        failure = (1 - settings.confidence) / (self._looks * (self._looks + 1)) / (2 * len(sums.counts))
        span = seen if settings.span is None else settings.span
        half = empirical_bernstein(sums.variances(), self.samples, span, failure)
        self._intervals = np.stack([sums.values() - half, sums.values() + half])
        lower, upper = self._intervals
        # Everybody's own upper bound is among those that reach the lower one.
        rivals = (upper[None] >= lower[:, None]).sum(axis=1) - 1
        self._separated = np.flatnonzero(rivals < settings.k)

    def estimate(self, stopped: Stop) -> Estimate:
        return replace(
            self._walks.estimate(stopped), intervals=self._intervals.copy(), separated=self._separated.copy()
        )
