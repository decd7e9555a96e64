"""Permutation sampling from the full network: switch players off one by one and note what each step costs.

Plain sampling is Castro et al. 2009 ("Polynomial calculation of the Shapley value based on sampling"), walked from the
full coalition down, because a network with half of its units off computes nothing. Two levers make it affordable:

* Discarding threshold (Ghorbani & Zou 2020, "Neuron Shapley"; Guan et al. 2022, "Few-shot Backdoor Defense Using
  Shapley Estimation"): once v has stayed under it for `patience` steps, the rest of the walk counts as zero.
* Epsilon-greedy (Guan et al. 2022): with probability 1 - epsilon a walk switches the currently top-ranked players off
  first, in random order, then the rest. The paper leaves the resulting bias open. Here it is named, not weighted away:
  such a walk measures a random-order value (Weber 1988) that favours the top players, so the result is for *ranking*.
  Exact importance weights were tried and lose to uniform walks: by chance most uniform walks meet no top player early,
  so the noise of everybody else is blown up by 1 / epsilon. Where values matter, leave epsilon at None.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import CoalitionCache, Estimate, Game, ask


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationSettings:
    """Settings of `permutation_values`; ValueError where one is out of range.

    permutations: walks at most, >= 2. lockstep: walks that advance together = rows of a game call at most.
    discard_threshold: in the unit of the game, None = walk to the end; patience: steps in a row under it, >= 1.
    epsilon: share of uniform walks in (0, 1], None = all. A greedy walk begins with the at most `top_players` best
    players of the rounds before, as far as their value is positive; the first round is uniform.
    budget: distinct coalitions, None = no limit. Looked at between rounds, and rounds are sized by the cost of a walk
    so far (the longest possible while that is unknown); a walk once begun is finished, since dropping it would favour
    short walks. Without a threshold it is passed by less than two walks.
    """

    permutations: int = 64
    lockstep: int = 32
    discard_threshold: float | None = None
    patience: int = 5
    epsilon: float | None = None
    top_players: int = 8
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.permutations < 2:
            raise ValueError(f"permutations must be at least 2, got {self.permutations}: one has no standard error")
        for name, value in (
            ("lockstep", self.lockstep),
            ("patience", self.patience),
            ("top_players", self.top_players),
            ("budget", 1 if self.budget is None else self.budget),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.discard_threshold is not None and not np.isfinite(self.discard_threshold):
            raise ValueError(f"discard_threshold must be finite or None, got {self.discard_threshold}")
        if self.epsilon is not None and not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon must be in (0, 1], got {self.epsilon}: use None for uniform walks only")


def permutation_values(
    game: Game,
    players: int,
    *,
    settings: PermutationSettings,
    rng: np.random.Generator,
    gauge: Game | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """Estimate values, float64 (players,), by random walks from the full coalition. `progress` gets (walks, of).

    Plain: the Shapley value, unbiased. With discard_threshold: the truncated value, the mean marginal contribution when
    those after the cut count as zero; short of Shapley's by E[marginal; cut before it], in a monotone game toward zero
    for each player and at most discard_threshold - v(none) over all of them, without a bound in other games.
    With epsilon: for ranking, not a Shapley value. The mean over walks of the value above (uniform walks) and the
    same mean over orders in which the round's top set T leaves first (greedy walks): players of T are measured with
    all others on, the others with all of T off. Nothing discarded: sum = v(all) - v(none) up to rounding, always.
    gauge: what discard_threshold is compared with, None = the game itself; a dual game discards by its backdoor part.
    Without epsilon and budget the result does not depend on `lockstep`. ValueError for players < 1 or a wrong shape
    out of the game, ShapPruneError for a game value that is not finite.
    """
    if players < 1:
        raise ValueError(f"players must be at least 1, got {players}")
    cache = CoalitionCache(game)
    full_value = float(cache(np.ones((1, players), dtype=np.bool_))[0])
    sums = _WalkSums(players)
    total = settings.permutations
    greedy_walks = 0
    while sums.walks < total:
        size = _round_size(sums.walks, cache.evaluations, players, settings)
        if size == 0:
            break
        orders, greedy = _draw(size, players, sums, settings, rng)
        greedy_walks += greedy
        sums.add(_walk(cache, orders, full_value, settings, gauge))
        if progress is not None:
            progress(sums.walks, total)
    return Estimate(
        values=sums.values(),
        standard_errors=sums.standard_errors(),
        counts=sums.counts.copy(),
        evaluations=cache.evaluations,
        permutations=sums.walks,
        greedy_walks=greedy_walks,
        discarded_walks=sums.discarded,
        zeroed_share=1 - int(sums.counts.sum()) / (sums.walks * players),
        full_value=full_value,
        end_value=sums.end_value(),
        empty_value=cache.get(np.zeros(players, dtype=np.bool_)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walks:
    """One round: marginals float64 (walks, players), measured bool (walks, players), end values float64 (walks,)."""

    marginals: NDArray[np.float64]
    measured: NDArray[np.bool_]
    end_values: NDArray[np.float64]


def _walk(
    cache: CoalitionCache,
    orders: NDArray[np.int64],
    full_value: float,
    settings: PermutationSettings,
    gauge: Game | None,
) -> _Walks:
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
        if settings.discard_threshold is not None:
            level = after if gauge is None else ask(gauge, on[live])
            steps_under[live] = np.where(level < settings.discard_threshold, steps_under[live] + 1, 0)
            live = live[steps_under[live] < settings.patience]
            if live.size == 0:
                break
    return _Walks(marginals=marginals, measured=measured, end_values=value)


class _WalkSums:
    """Running sums over walks: memory does not grow with their number.

    Marginals are summed relative to the first walk's, else the variance of a nearly constant marginal would drown in
    rounding. Walks are added one after the other, so that the sums are bit for bit the same for rounds of any size.
    """

    def __init__(self, players: int) -> None:
        self.walks = 0
        self.discarded = 0
        self.counts = np.zeros(players, dtype=np.int64)
        self._shift = np.zeros(players)
        self._first = np.zeros(players)
        self._second = np.zeros(players)
        self._end = 0.0

    def add(self, round_: _Walks) -> None:
        if self.walks == 0:
            self._shift = round_.marginals[0].copy()
        self.walks += len(round_.marginals)
        self.discarded += int((~round_.measured.all(axis=1)).sum())
        self.counts += round_.measured.sum(axis=0)
        for marginals, end in zip(round_.marginals, round_.end_values, strict=True):
            deviation = marginals - self._shift
            self._first += deviation
            self._second += deviation**2
            self._end += float(end)

    def values(self) -> NDArray[np.float64]:
        return self._shift + self._first / self.walks

    def end_value(self) -> float:
        return self._end / self.walks

    def standard_errors(self) -> NDArray[np.float64]:
        squares: NDArray[np.float64] = np.maximum(self._second - self._first**2 / self.walks, 0)
        return np.sqrt(squares / (self.walks - 1) / self.walks)


def _round_size(walks: int, evaluations: int, players: int, settings: PermutationSettings) -> int:
    """Walks of the next round, 0 = stop. Two walks are always made: without them there is no standard error."""
    size = min(settings.lockstep, settings.permutations - walks)
    if settings.budget is None:
        return size
    left = settings.budget - evaluations
    cost_known = settings.discard_threshold is not None and walks > 0
    cost = max(evaluations / walks, 1.0) if cost_known else float(players)
    affordable = max(-int(-left // cost), 2 - walks, 0)
    return min(size, affordable)


def _draw(
    size: int, players: int, sums: _WalkSums, settings: PermutationSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int64], int]:
    """Orders int (size, players), and how many of them are greedy."""
    top = _top_players(sums, settings)
    if settings.epsilon is None or top.size == 0:
        # One draw a walk, so that the sequence of orders does not depend on the size of the rounds.
        return np.stack([rng.permutation(players) for _ in range(size)]), 0
    rest = np.setdiff1d(np.arange(players), top)
    greedy = rng.random(size) >= settings.epsilon
    orders = [
        np.concatenate([rng.permutation(top), rng.permutation(rest)]) if is_greedy else rng.permutation(players)
        for is_greedy in greedy
    ]
    return np.stack(orders), int(greedy.sum())


def _top_players(sums: _WalkSums, settings: PermutationSettings) -> NDArray[np.int64]:
    """The best players so far, at most `top_players`, none without a positive value: int (0..top_players,)."""
    if sums.walks == 0:
        return np.empty(0, dtype=np.int64)
    values = sums.values()
    best = np.argsort(-values, kind="stable")[: settings.top_players]
    return best[values[best] > 0]
