"""Antithetic pairs: every random order is walked together with its reverse.

Mitchell, Cooper, Frank & Holmes, "Sampling Permutations for Shapley Value Estimation", JMLR 23 (2022). A player that
leaves early in one order leaves late in the other, so marginals that depend on how many others are on average out
within the pair. In games with at most pairwise interactions a pair is exact. On the dual game of the bundled sample, 12
walks have 0.6 of the squared error of 12 single ones (tests/benchmarks/estimators.py), the best of all estimators here.
"""

from dataclasses import dataclass

import numpy as np

from onnx_shapprune.shapley.estimate import Game
from onnx_shapprune.shapley.running import Estimator
from onnx_shapprune.shapley.walks import Draw, Drawn, Sampling, WalkScheme, WalkSettings, WalkSums


@dataclass(frozen=True, slots=True, kw_only=True)
class AntitheticSettings(WalkSettings):
    """Settings of `antithetic`, with those of all walks; ValueError where one is out of range.

    pairs: of walks at most, >= 2.
    """

    pairs: int = 32

    def __post_init__(self) -> None:
        WalkSettings.__post_init__(self)
        if self.pairs < 2:
            raise ValueError(f"pairs must be at least 2, got {self.pairs}: one has no standard error")


def antithetic(
    game: Game, players: int, *, settings: AntitheticSettings, rng: np.random.Generator, gauge: Game | None = None
) -> Estimator:
    """Estimate values, float64 (players,), by pairs of walks from the full coalition; a sample is one pair.

    Plain: the Shapley value, unbiased, since the reverse of a uniform order is uniform. With discard_threshold: the
    truncated value, exactly as `permutation` has it, and each walk of a pair is cut on its own. Standard errors come
    from the spread of pair means: the two walks of a pair are not independent. They may exceed those of as many
    single walks where marginals are large both early and late and small between (positively correlated pairs).
    Nothing discarded: sum = v(all) - v(none) up to rounding. gauge and errors as for `permutation`.
    """
    sampling = Sampling(name="antithetic", samples=settings.pairs, draw=in_pairs(players, rng), walks=2)
    return Estimator(WalkScheme(game, players, sampling, settings=settings, gauge=gauge))


def in_pairs(players: int, rng: np.random.Generator) -> Draw:
    """Pairs of walks, an order with its reverse, all orders equally likely."""

    def draw(sums: WalkSums, left: int, wanted: int) -> list[Drawn]:
        orders = [rng.permutation(players) for _ in range(wanted)]
        return [Drawn(np.stack([order, order[::-1]])) for order in orders]

    return draw
