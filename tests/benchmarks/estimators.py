"""Compare the Shapley estimators on the dual game of the bundled sample.

    python -m tests.benchmarks.estimators [--seeds 30] [--pairs 150]

The game is that of a first round of repair for the sample's true trigger: the 24 channels with the largest effect that
the clean budget can pay for. Truth is the mean of two long runs, weighted by their standard errors; the first line says
whether they agree (largest difference in standard errors). Per estimator, means over seeds: distinct coalitions, how many
of the best four it finds, squared error, rank correlation, and how many true values lie within two standard errors. A
discarding threshold and epsilon-greedy orders estimate something else than the Shapley value: their error shows it.
"""

import argparse
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.open import open_case
from onnx_shapprune.commands.effort import effort_for
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.pictures.known_trigger import load_trigger
from onnx_shapprune.prune.clean import clean_rows
from onnx_shapprune.prune.round import Playable, RoundSettings, estimate_values, play
from onnx_shapprune.prune.thresholds import LOSS_PER_DISTORTION
from onnx_shapprune.sample import sample_path
from onnx_shapprune.settings import InputOptions, RunOptions
from onnx_shapprune.shapley.antithetic import AntitheticSettings, antithetic
from onnx_shapprune.shapley.estimate import Game
from onnx_shapprune.shapley.leverage import LeverageSettings, leverage

TOP = 4


def cases(default: RoundSettings) -> dict[str, RoundSettings]:
    """What is compared, by name: the number of walks, or of coalitions worth as many, stands behind it."""
    plain = replace(default, epsilon=None, discard_threshold=None)
    found = {f"default {default.permutations}": default}
    found[f"without epsilon {default.permutations}"] = replace(default, epsilon=None)
    for walks in (6, 12):
        found[f"permutation {walks}"] = replace(plain, permutations=walks)
        found[f"antithetic {walks}"] = replace(plain, permutations=walks, estimator="antithetic")
        found[f"leverage {walks}"] = replace(plain, permutations=walks, estimator="leverage")
    return found


def truth(game: Game, players: int, pairs: int) -> np.ndarray:
    """Shapley values float64 (players,) out of `pairs` pairs of walks and as many coalitions in a regression."""
    first = antithetic(
        game, players, settings=AntitheticSettings(pairs=pairs, lockstep=48), rng=np.random.default_rng(1)
    ).run()
    second = leverage(
        game, players, settings=LeverageSettings(pairs=pairs * players, lockstep=48), rng=np.random.default_rng(2)
    ).run()
    apart = np.abs(first.values - second.values) / np.hypot(first.standard_errors, second.standard_errors)
    a, b = first.standard_errors**-2, second.standard_errors**-2
    values = (a * first.values + b * second.values) / (a + b)
    best = " ".join(f"{v:.3f}" for v in np.sort(values)[::-1][: 2 * TOP])
    print(
        f"{players} channels, best {best}; standard errors up to {((a + b) ** -0.5).max():.4f}, apart {apart.max():.1f}"
    )
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the Shapley estimators on the bundled sample.")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=150, help="pairs of walks for the truth")
    asked = parser.parse_args()
    run = RunOptions(threads=1, device="cpu")
    case = open_case(sample_path("backdoored.onnx"), sample_path("pictures"), InputOptions(), run)
    subject, height, width, channels = case.model.subject, *case.pictures.shape[1:]
    mask, paint, _ = load_trigger(sample_path("trigger.npz"), size=(height, width), channels=channels)
    with np.load(sample_path("trigger.npz")) as stored:
        trigger = Trigger(mask, paint, Goal(int(stored["target"])), "known")
    rng, effort = np.random.default_rng(0), effort_for(subject.prepared, run)
    settings = effort.round
    played = play(
        case.shown, [trigger], clean_rows(case.shown, [trigger.goal], effort.views, rng),
        Playable(layers=case.model.units.layers, off={}, distortion=run.clean_budget / LOSS_PER_DISTORTION),
        settings, rng,
    )  # fmt: skip
    assert played is not None
    game, players = played[1], len(played[0].players)
    values = truth(game, players, asked.pairs)
    best = set(np.argsort(-values)[:TOP].tolist())
    print(f"{'':20} coalitions  top {TOP}  squared error  rank corr.  within 2 SE")
    for name, one in cases(settings).items():
        rows = []
        for seed in range(asked.seeds):
            e = estimate_values(game, players, game.strength, one, np.random.default_rng(seed))
            rows.append((
                e.evaluations, len(best & set(e.ranking()[:TOP].tolist())), ((e.values - values) ** 2).mean(),
                spearmanr(e.values, values).statistic, (np.abs(e.values - values) <= 2 * e.standard_errors).mean(),
            ))  # fmt: skip
        asks, top, error, rank, within = np.mean(rows, axis=0)
        print(f"{name:20} {asks:10.0f}  {top:5.2f}  {error:13.2e}  {rank:10.2f}  {within:11.2f}", flush=True)


if __name__ == "__main__":
    main()
