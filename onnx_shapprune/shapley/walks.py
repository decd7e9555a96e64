"""Walks from the full coalition: players are switched off one by one, and each step's fall of v is noted.

From the top, because a network with half of its units off computes nothing (Castro et al. 2009 count from the bottom,
with the same estimand). A sample is one walk, or several that belong together and count as one by their mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import CoalitionCache, Estimate, Game, Stop, ask

Orders = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkSettings:
    """What the settings of all estimators that walk have in common; ValueError where a number is out of range.

    lockstep: walks that advance together = rows of a game call, at most, but no fewer than a sample has.
    discard_threshold: in the unit of the game, None = walk to the end; patience: steps in a row under it, >= 1. budget:
    distinct coalitions, None = no limit; passed by less than one sample.
    """

    lockstep: int = 32
    discard_threshold: float | None = None
    patience: int = 5
    budget: int | None = None

    def __post_init__(self) -> None:
        limit = 1 if self.budget is None else self.budget
        for name, value in (("lockstep", self.lockstep), ("patience", self.patience), ("budget", limit)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.discard_threshold is not None and not np.isfinite(self.discard_threshold):
            raise ValueError(f"discard_threshold must be finite or None, got {self.discard_threshold}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """What walks measured: marginals float64 (walks, players), measured bool (walks, players), end values float64
    (walks,).
    """

    marginals: NDArray[np.float64]
    measured: NDArray[np.bool_]
    end_values: NDArray[np.float64]


def walk_down(
    cache: CoalitionCache, orders: Orders, full_value: float, rules: WalkSettings, gauge: Game | None
) -> Walks:
    """Switch players off in the given orders, int (walks, players), all live walks one step a game call."""
    walks, players = orders.shape
    on = np.ones((walks, players), dtype=np.bool_)
    value = np.full(walks, full_value)
    steps_under = np.zeros(walks, dtype=np.int64)
    marginals = np.zeros((walks, players))
    measured = np.zeros((walks, players), dtype=np.bool_)
    live = np.arange(walks)
    for place in range(players):
        leaving = orders[live, place]
        on[live, leaving] = False
        after = cache(on[live])
        marginals[live, leaving] = value[live] - after
        measured[live, leaving] = True
        value[live] = after
        if rules.discard_threshold is not None:
            level = after if gauge is None else ask(gauge, on[live])
            steps_under[live] = np.where(level < rules.discard_threshold, steps_under[live] + 1, 0)
            live = live[steps_under[live] < rules.patience]
            if live.size == 0:
                break
    return Walks(marginals=marginals, measured=measured, end_values=value)


class WalkSums:
    """Running sums over samples: memory does not grow with their number.

    Marginals are summed relative to the first sample's, else the variance of a nearly constant marginal would drown in
    rounding. Samples are added one after the other, so that the sums are bit for bit the same for rounds of any size.
    `lowest` and `highest` are each player's smallest and largest marginal, float64 (players,).
    """

    def __init__(self, players: int) -> None:
        self.samples = 0
        self.walks = 0
        self.discarded = 0
        self.counts = np.zeros(players, dtype=np.int64)
        self.lowest = np.full(players, np.inf)
        self.highest = np.full(players, -np.inf)
        self._shift = np.zeros(players)
        self._first = np.zeros(players)
        self._second = np.zeros(players)
        self._end = 0.0

    def add(self, walks: Walks, per_sample: int) -> None:
        players = walks.marginals.shape[1]
        means = walks.marginals.reshape(-1, per_sample, players).mean(axis=1)
        if self.samples == 0:
            self._shift = means[0].copy()
        self.samples += len(means)
        self.walks += len(walks.marginals)
        self.discarded += int((~walks.measured.all(axis=1)).sum())
        self.counts += walks.measured.sum(axis=0)
        self.lowest = np.minimum(self.lowest, walks.marginals.min(axis=0))
        self.highest = np.maximum(self.highest, walks.marginals.max(axis=0))
        for mean in means:
            deviation = mean - self._shift
            self._first += deviation
            self._second += deviation**2
        for end in walks.end_values:
            self._end += float(end)

    def values(self) -> NDArray[np.float64]:
        return self._shift + self._first / self.samples

    def end_value(self) -> float:
        return self._end / self.walks

    def variances(self) -> NDArray[np.float64]:
        """Sample variance of each player's marginal, per sample, float64 (players,)."""
        squares: NDArray[np.float64] = np.maximum(self._second - self._first**2 / self.samples, 0)
        return squares / (self.samples - 1)

    def standard_errors(self) -> NDArray[np.float64]:
        return np.sqrt(self.variances() / self.samples)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Orders of one sample, int (walks, players), and whether they followed the ranking."""

    orders: Orders
    greedy: bool = False


Draw = Callable[[WalkSums, int, int], list[Drawn]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an estimator that walks draws its samples. samples: at most, >= 2; walks: per sample; epsilon: what the estimate
    says of it. draw: orders of the next samples, at least one, given the sums so far, how many samples are left and how
    many are wanted now. What it draws is walked before it is asked again: one that looks at the sums must not mind the
    last number.
    """

    name: str
    samples: int
    draw: Draw
    walks: int = 1
    epsilon: float | None = None


class WalkScheme:
    """The scheme (see running.py) of all estimators that walk."""

    least = 2

    def __init__(
        self,
        game: Game,
        players: int,
        sampling: Sampling,
        *,
        settings: WalkSettings,
        gauge: Game | None,
    ) -> None:
        if players < 1:
            raise ValueError(f"players must be at least 1, got {players}")
        walks = sampling.walks
        self.sums = WalkSums(players)
        self.cost = walks * players
        self.most, self.lockstep, self.budget = sampling.samples, max(1, settings.lockstep // walks), settings.budget
        self._sampling, self._settings, self._gauge, self._players = sampling, settings, gauge, players
        self._cache = CoalitionCache(game)
        self._full_value = float(self._cache(np.ones((1, players), dtype=np.bool_))[0])
        self._drawn: list[Drawn] = []
        self._greedy_walks = 0

    @property
    def samples(self) -> int:
        return self.sums.samples

    @property
    def evaluations(self) -> int:
        return self._cache.evaluations

    def settled(self) -> bool:
        return False

    def room(self) -> int:
        return self.most - self.samples

    def take(self, count: int) -> None:
        while count:
            if not self._drawn:
                self._drawn = self._sampling.draw(self.sums, self.most - self.samples, count)
            now, self._drawn = self._drawn[:count], self._drawn[count:]
            self._walk(now)
            count -= len(now)

    def _walk(self, samples: list[Drawn]) -> None:
        self._greedy_walks += sum(len(one.orders) for one in samples if one.greedy)
        orders = np.concatenate([one.orders for one in samples])
        walks = walk_down(self._cache, orders, self._full_value, self._settings, self._gauge)
        self.sums.add(walks, self._sampling.walks)

    def estimate(self, stopped: Stop) -> Estimate:
        sums = self.sums
        return Estimate(
            values=sums.values(),
            standard_errors=sums.standard_errors(),
            counts=sums.counts.copy(),
            evaluations=self.evaluations,
            permutations=sums.walks,
            greedy_walks=self._greedy_walks,
            discarded_walks=sums.discarded,
            zeroed_share=1 - int(sums.counts.sum()) / (sums.walks * self._players),
            full_value=self._full_value,
            end_value=sums.end_value(),
            empty_value=self._cache.get(np.zeros(self._players, dtype=np.bool_)),
            estimator=self._sampling.name,
            stopped=stopped,
            discard_threshold=self._settings.discard_threshold,
            epsilon=self._sampling.epsilon,
        )
