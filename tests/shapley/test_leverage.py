import numpy as np
import pytest
from closed_form_games import Counted, additive, fragile, glove, majority, random_game, unanimity

from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_values
from onnx_shapprune.shapley.leverage import LeverageSettings, leverage
from onnx_shapprune.shapley.permutation import PermutationSettings, permutation_values


def fit(game: Game, players: int, seed: int = 0, **settings) -> Estimate:
    return leverage(game, players, settings=LeverageSettings(**settings), rng=np.random.default_rng(seed)).run()


def test_a_coalition_and_its_complement_and_all_sizes_alike() -> None:
    game = Counted(additive(np.ones(40)))
    found = fit(game, 40, pairs=2000, lockstep=64)
    rows = {row: np.frombuffer(row, dtype=np.bool_) for row in game.rows}
    assert all((~on).tobytes() in rows for on in rows.values())
    assert max(game.batches) == 64
    assert (found.permutations, found.counts.tolist()) == (0, [2000] * 40)
    # Sizes in the middle have no repetitions: a pair has size 20 with 1/39, and size 19 or 21 with 2/39.
    sizes = np.array([on.sum() for on in rows.values()])
    assert (sizes == 20).sum() == pytest.approx(2 * 2000 / 39, rel=0.3)
    assert (sizes == 19).sum() == (sizes == 21).sum() == pytest.approx(2 * 2000 / 39, rel=0.3)


@pytest.mark.parametrize("weighted", [True, False])
def test_solves_the_weighted_least_squares_problem(weighted: bool) -> None:
    # The definition, spelt out: every sampled row and its complement, the kernel's weights over the sampling's, and the
    # sum of the values as a constraint with a Lagrange multiplier.
    players, game = 7, random_game(7, seed=2)
    asked = Counted(game)
    found = fit(asked, players, pairs=40, lockstep=2)
    on = np.stack([np.frombuffer(row, dtype=np.bool_) for row in _with_repetitions(players, 40)]).astype(float)
    sizes = on.sum(axis=1)
    weights = 1 / (sizes * (players - sizes)) if weighted else np.ones(len(on))
    system = np.zeros((players + 1, players + 1))
    system[:-1, :-1] = on.T @ (weights[:, None] * on)
    system[-1, :-1] = system[:-1, -1] = 1
    values = game(on.astype(np.bool_)) - found.end_value
    solved = np.linalg.solve(system, [*(on.T @ (weights * values)), found.full_value - found.end_value])[:-1]
    assert np.allclose(found.values, solved, atol=1e-10) == weighted


def _with_repetitions(players: int, pairs: int) -> list[bytes]:
    """The rows drawn with seed 0; a game is asked once only for those that repeat."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(pairs):
        on = np.zeros(players, dtype=np.bool_)
        size = int(rng.integers(1, players))
        on[rng.permutation(players)[:size]] = True
        rows += [on.tobytes(), (~on).tobytes()]
    return rows


MEASURED = {
    "majority": (majority(7), 12, 1.0),
    "glove": (glove(4), 12, 0.6),
    "unanimity": (unanimity([0, 3, 7, 9]), 12, 0.6),
    "fragile": (fragile(4, {2: 0.5, 9: 0.2}, base=0.3), 12, 0.6),
    "random": (random_game(12, seed=1), 12, 0.5),
}


@pytest.mark.parametrize("name", MEASURED)
def test_beats_plain_walks_at_equal_evaluations(name: str) -> None:
    game, players, most = MEASURED[name]
    truth, budget, seeds = exact_values(game, players), 12 * players, 60
    ours = theirs = 0.0
    for seed in range(seeds):
        found = fit(game, players, seed, pairs=10_000, budget=budget)
        walks = permutation_values(
            game, players, settings=PermutationSettings(permutations=10_000, budget=budget),
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        assert found.evaluations < budget + 2 <= walks.evaluations + 2
        ours += float(((found.values - truth) ** 2).mean())
        theirs += float(((walks.values - truth) ** 2).mean())
    assert ours <= most * theirs
    assert ours > 0


def test_loses_to_discarding_walks_where_a_network_is_dead_without_a_few() -> None:
    game = fragile(10, {17: 0.5, 9: 0.2}, base=0.3)
    ours = theirs = 0
    for seed in range(20):
        ours += int(fit(game, 100, seed, pairs=10_000, budget=1200).ranking()[0] == 17)
        walks = permutation_values(
            game, 100, settings=PermutationSettings(permutations=10_000, budget=1200, discard_threshold=0.1, patience=3),
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        theirs += int(walks.ranking()[0] == 17)
    assert theirs >= ours + 4


def test_pairwise_interactions_are_exact() -> None:
    weights = np.random.default_rng(3).normal(size=(7, 7))

    def game(on):
        return np.einsum("ki,ij,kj->k", on, weights, on, optimize=True)

    found = fit(game, 7, pairs=30)
    np.testing.assert_allclose(found.values, exact_values(game, 7), atol=1e-11)
    np.testing.assert_allclose(found.standard_errors, 0, atol=1e-11)


def test_one_and_two_players_are_exact() -> None:
    one = fit(additive(np.array([2.0]), offset=1.0), 1)
    assert (one.values.tolist(), one.standard_errors.tolist(), one.full_value, one.end_value) == ([2.0], [0.0], 3, 1)
    np.testing.assert_allclose(fit(unanimity([0]), 2, pairs=5).values, [1, 0], atol=1e-12)


def test_at_least_as_many_pairs_as_have_standard_errors() -> None:
    assert fit(majority(3), 5, pairs=1).counts.tolist() == [7] * 5
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        LeverageSettings(pairs=0)
