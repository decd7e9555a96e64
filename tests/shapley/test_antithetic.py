import numpy as np
import pytest
from closed_form_games import Coalitions, Counted, Values, fragile, glove, majority

from onnx_shapprune.shapley.antithetic import AntitheticSettings, antithetic
from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_values
from onnx_shapprune.shapley.permutation import PermutationSettings, permutation_values


def pairs_of(game: Game, players: int, seed: int = 0, **settings) -> Estimate:
    return antithetic(
        game, players, settings=AntitheticSettings(**settings), rng=np.random.default_rng(seed)
    ).run()  # fmt: skip


def pairwise(players: int, seed: int) -> Game:
    """v(S) = sum of weights of S and of the pairs within S: a player is worth its own and half of each of its pairs."""
    weights = np.random.default_rng(seed).normal(size=(players, players))
    return lambda on: np.einsum("ki,ij,kj->k", on, weights, on, optimize=True)


def test_a_walk_and_its_reverse_are_walked() -> None:
    game = Counted(fragile(9, {0: 1.0}, base=0.1))
    found = pairs_of(game, 30, pairs=2, lockstep=2)
    assert found.permutations == 4
    rows = {row: np.frombuffer(row, dtype=np.bool_) for row in game.rows}
    # What one order has off after s steps, its reverse has on after players - s steps.
    assert all((~on).tobytes() in rows for on in rows.values())
    assert found.evaluations == 4 * 29 + 2


def test_pairwise_interactions_are_exact_in_every_pair() -> None:
    game = pairwise(7, seed=3)
    found = pairs_of(game, 7, pairs=2)
    np.testing.assert_allclose(found.values, exact_values(game, 7), atol=1e-12)
    np.testing.assert_allclose(found.standard_errors, 0, atol=1e-12)
    single = permutation_values(
        game, 7, settings=PermutationSettings(permutations=4), rng=np.random.default_rng(0)
    )  # fmt: skip
    assert np.abs(single.values - exact_values(game, 7)).max() > 0.1


def test_standard_errors_come_from_pair_means() -> None:
    # One of three left gloves: the marginal in an order and in its reverse are far from independent. Single walks would
    # claim a third too much here; the spread over seeds says what is true.
    game, players, seeds = glove(3), 6, 300
    found = [pairs_of(game, players, seed, pairs=20) for seed in range(seeds)]
    spread = np.std([one.values for one in found], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([one.standard_errors**2 for one in found], axis=0))
    np.testing.assert_allclose(claimed, spread, rtol=0.12)
    singles = [
        permutation_values(
            game, players, settings=PermutationSettings(permutations=40), rng=np.random.default_rng(seed)
        ).standard_errors
        for seed in range(50)
    ]
    assert (np.mean(singles, axis=0) > 1.25 * spread).all()


def test_discarding_has_the_estimand_of_single_walks() -> None:
    # Halving per missing player, cut after the first value under 0.3: truncated value 3 / (4 n), Shapley's is 31 / (32 n).
    def halving(on: Coalitions, /) -> Values:
        values: Values = np.power(0.5, (~on).sum(axis=1))
        return values

    found = pairs_of(halving, 5, pairs=2000, lockstep=200, discard_threshold=0.3, patience=1)
    assert (np.abs(found.values - 0.15) <= 4 * found.standard_errors).all()
    assert found.standard_errors.max() < 0.005
    assert (found.discarded_walks, found.permutations, found.counts.sum()) == (4000, 4000, 8000)
    assert found.method == "antithetic, discarding threshold"
    assert found.values.sum() == pytest.approx(found.full_value - found.end_value, abs=1e-12)


def test_one_pair_has_no_standard_error() -> None:
    with pytest.raises(ValueError, match="pairs must be at least 2, got 1"):
        AntitheticSettings(pairs=1)
    with pytest.raises(ValueError, match="discard_threshold must be finite or None"):
        AntitheticSettings(discard_threshold=float("inf"))


def test_a_pair_advances_together_even_with_a_lockstep_of_one() -> None:
    game = Counted(majority(4))
    pairs_of(game, 7, pairs=3, lockstep=1)
    assert max(game.batches) == 2
