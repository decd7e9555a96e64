"""Permutation sampling from the full network: switch players off one by one and note what each step costs.

Plain sampling is Castro et al. 2009 ("Polynomial calculation of the Shapley value based on sampling"), walked from the
full coalition down (see walks.py). Two levers make it affordable:

* Discarding threshold (Ghorbani & Zou 2020, "Neuron Shapley"; Guan et al. 2022, "Few-shot Backdoor Defense Using
  Shapley Estimation"): once v has stayed under it for `patience` steps, the rest of the walk counts as zero.
* Epsilon-greedy (Guan et al. 2022): with probability 1 - epsilon a walk switches the currently top-ranked players off
  first, in random order, then the rest. The paper leaves the resulting bias open. Here it is named, not weighted away:
  such a walk measures a random-order value (Weber 1988) that favours the top players, so the result is for *ranking*.
  Exact importance weights were tried and lose to uniform walks: by chance most uniform walks meet no top player early,
  so the noise of everybody else is blown up by 1 / epsilon. Where values matter, leave epsilon at None.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.running import Estimator, Progress
from onnx_shapprune.shapley.walks import Draw, Drawn, Sampling, WalkScheme, WalkSettings, WalkSums


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationSettings(WalkSettings):
    """Settings of `permutation`, with those of all walks; ValueError where one is out of range.

    permutations: walks at most, >= 2. epsilon: share of uniform walks in (0, 1], None = all. A greedy walk begins with the
    at most `top_players` best players of the walks before, as far as their value is positive; they are looked up every
    `refresh` walks, the first of which are uniform.
    """

    permutations: int = 64
    epsilon: float | None = None
    top_players: int = 8
    refresh: int = 6

    def __post_init__(self) -> None:
        WalkSettings.__post_init__(self)
        if self.permutations < 2:
            raise ValueError(f"permutations must be at least 2, got {self.permutations}: one has no standard error")
        for name, value in (("top_players", self.top_players), ("refresh", self.refresh)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.epsilon is not None and not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon must be in (0, 1], got {self.epsilon}: use None for uniform walks only")


def permutation(
    game: Game, players: int, *, settings: PermutationSettings, rng: np.random.Generator, gauge: Game | None = None
) -> Estimator:
    """Estimate values, float64 (players,), by random walks from the full coalition; a sample is one walk.

    Plain: the Shapley value, unbiased. With discard_threshold: the truncated value, the mean marginal contribution when
    those after the cut count as zero; short of Shapley's by E[marginal; cut before it], in a monotone game toward zero
    for each player and at most discard_threshold - v(none) over all of them, without a bound in other games.
    With epsilon: for ranking, not a Shapley value. The mean over walks of the value above (uniform walks) and the
    same mean over orders in which the round's top set T leaves first (greedy walks): players of T are measured with
    all others on, the others with all of T off. Nothing discarded: sum = v(all) - v(none) up to rounding, always.
    gauge: what discard_threshold is compared with, None = the game itself; a dual game discards by its backdoor part.
    ValueError for players < 1 or a wrong shape out of the game, ShapPruneError for a game value that is not finite.
    """
    draw = uniform(players, rng) if settings.epsilon is None else _greedy(players, settings, settings.epsilon, rng)
    sampling = Sampling(name="permutation", samples=settings.permutations, draw=draw, epsilon=settings.epsilon)
    return Estimator(WalkScheme(game, players, sampling, settings=settings, gauge=gauge))


def permutation_values(
    game: Game,
    players: int,
    *,
    settings: PermutationSettings,
    rng: np.random.Generator,
    gauge: Game | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """`permutation` in one go. `progress` gets (walks, of)."""
    return permutation(game, players, settings=settings, rng=rng, gauge=gauge).run(progress=progress)


def uniform(players: int, rng: np.random.Generator) -> Draw:
    """Single walks, all orders equally likely."""

    def draw(sums: WalkSums, left: int, wanted: int) -> list[Drawn]:
        # One draw a walk, so that the sequence of orders does not depend on the size of the rounds.
        return [Drawn(rng.permutation(players)[None]) for _ in range(wanted)]

    return draw


def _greedy(players: int, settings: PermutationSettings, epsilon: float, rng: np.random.Generator) -> Draw:
    """`refresh` walks at a time, from the ranking after all walks before them."""

    def draw(sums: WalkSums, left: int, wanted: int) -> list[Drawn]:
        size = min(settings.refresh, left)
        top = _top_players(sums, settings)
        if top.size == 0:
            return uniform(players, rng)(sums, left, size)
        rest = np.setdiff1d(np.arange(players), top)
        return [
            Drawn(np.concatenate([rng.permutation(top), rng.permutation(rest)])[None], greedy=True)
            if is_greedy
            else Drawn(rng.permutation(players)[None])
            for is_greedy in rng.random(size) >= epsilon
        ]

    return draw


def _top_players(sums: WalkSums, settings: PermutationSettings) -> NDArray[np.int64]:
    """The best players so far, at most `top_players`, none without a positive value: int (0..top_players,)."""
    if sums.samples == 0:
        return np.empty(0, dtype=np.int64)
    values = sums.values()
    best = np.argsort(-values, kind="stable")[: settings.top_players]
    return best[values[best] > 0]
