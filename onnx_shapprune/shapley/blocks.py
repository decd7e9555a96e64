"""Blocks of walks that are played apart, in any order and place, and merged to the estimate of one process, bit for bit.

A block is told which walks of the estimate are its own: it draws the orders of all from the seed, plays its part, and
returns the game's value after every step. The merge runs the estimator itself, as one process would, on a game that looks
these values up. So sums, errors, counts, cuts and the number of distinct coalitions are those of one process by
construction, as long as the game's value of a coalition depends on that coalition alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.errors import DataError, EngineError
from onnx_shapprune.shapley.antithetic import AntitheticSettings, antithetic, in_pairs
from onnx_shapprune.shapley.estimate import CoalitionCache, Estimate, Game
from onnx_shapprune.shapley.permutation import PermutationSettings, permutation, uniform
from onnx_shapprune.shapley.running import Estimator, Progress
from onnx_shapprune.shapley.walks import Orders, WalkSums, walk_down

Settings = PermutationSettings | AntitheticSettings
Path = NDArray[np.float64]  # (steps + 1, 2): value and gauge of the full coalition, and after each step of a walk


def walker(
    game: Game, players: int, *, settings: Settings, rng: np.random.Generator, gauge: Game | None = None
) -> Estimator:
    """The estimator that the settings belong to."""
    if isinstance(settings, AntitheticSettings):
        return antithetic(game, players, settings=settings, rng=rng, gauge=gauge)
    return permutation(game, players, settings=settings, rng=rng, gauge=gauge)


def walks_of(settings: Settings) -> int:
    """How many walks an estimate takes. Raises DataError for epsilon-greedy ones: each depends on what those before it
    measured.
    """
    if isinstance(settings, PermutationSettings) and settings.epsilon is not None:
        raise DataError("epsilon-greedy walks depend on each other and cannot be played in blocks: set epsilon to None")
    return 2 * settings.pairs if isinstance(settings, AntitheticSettings) else settings.permutations


def orders(players: int, settings: Settings, seed: int) -> Orders:
    """All walks that `walker` takes with np.random.default_rng(seed), int (walks, players). Errors as above."""
    pairs, walks = isinstance(settings, AntitheticSettings), walks_of(settings)
    draw = (in_pairs if pairs else uniform)(players, np.random.default_rng(seed))
    samples = walks // 2 if pairs else walks
    return np.concatenate([one.orders for one in draw(WalkSums(players), samples, samples)])


def split(walks: int, blocks: int) -> list[range]:
    """Numbers of the walks of each block, nearly equally many; never an empty block."""
    ends = [walks * i // blocks for i in range(blocks + 1)]
    return [range(a, b) for a, b in pairwise(ends) if a < b]


def play_block(
    game: Game,
    players: int,
    mine: range,
    *,
    settings: Settings,
    seed: int,
    gauge: Game | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Walk those of the estimate's walks whose numbers are in `mine`. `progress` gets (walks, of)."""
    value = CoalitionCache(game)
    measure = value if gauge is None else CoalitionCache(gauge)
    all_orders = orders(players, settings, seed)
    full = float(value(np.ones((1, players), np.bool_))[0])
    paths: list[Path] = []
    for at in range(mine.start, mine.stop, settings.lockstep):
        some = all_orders[at : min(at + settings.lockstep, mine.stop)]
        walks = walk_down(value, some, full, settings, None if gauge is None else measure)
        for order, steps in zip(some, walks.measured.sum(axis=1).tolist(), strict=True):
            on = _down(order, steps)
            paths.append(np.stack([value(on), measure(on)], axis=1))
        if progress is not None:
            progress(len(paths), len(mine))
    return paths


def merge(
    paths: Sequence[Path], players: int, *, settings: Settings, seed: int, evaluations: int | None = None
) -> Estimate:
    """The estimate of one process from the paths of all its walks, in their order. evaluations: as `Estimator.run` has it.

    Raises EngineError where walks are missing, or two blocks have different values for a coalition.
    """
    known: dict[bytes, tuple[float, float]] = {}
    all_orders = orders(players, settings, seed)
    if len(paths) != len(all_orders):
        raise EngineError(f"{len(paths)} walks came back of {len(all_orders)}")
    for order, path in zip(all_orders, paths, strict=True):
        for key, both in zip(_keys(_down(order, len(path) - 1)), map(tuple, path.tolist()), strict=True):
            if known.setdefault(key, both) != both:
                raise EngineError(
                    "blocks differ in the value of a coalition: give all workers the same processors, onnxruntime and "
                    "number of threads"
                )

    def looked_up(column: int) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
        def game(coalitions: NDArray[np.bool_], /) -> NDArray[np.float64]:
            try:
                return np.array([known[key][column] for key in _keys(coalitions)])
            except KeyError:
                raise EngineError("a block ended a walk too early") from None

        return game

    estimator = walker(looked_up(0), players, settings=settings, rng=np.random.default_rng(seed), gauge=looked_up(1))
    return estimator.run(evaluations=evaluations)


def _down(order: NDArray[np.int64], steps: int) -> NDArray[np.bool_]:
    """The coalitions of a walk, the full one first: bool (steps + 1, players)."""
    rank = np.argsort(order)
    on: NDArray[np.bool_] = rank >= np.arange(steps + 1)[:, None]
    return on


def _keys(coalitions: NDArray[np.bool_]) -> list[bytes]:
    return [row.tobytes() for row in np.packbits(coalitions, axis=1)]
