from itertools import permutations as orders_of
from typing import Any

import numpy as np
import pytest
from closed_form_games import Coalitions, Counted, Values, additive, fragile, glove, majority, random_game, unanimity
from scipy.stats import t as student

from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_values
from onnx_shapprune.shapley.permutation import PermutationSettings, permutation_values


def estimate(
    game: Game,
    players: int,
    seed: int = 0,
    *,
    permutations: int = 64,
    lockstep: int = 32,
    discard_threshold: float | None = None,
    patience: int = 5,
    epsilon: float | None = None,
    refresh: int = 6,
    budget: int | None = None,
) -> Estimate:
    settings = PermutationSettings(
        permutations=permutations,
        lockstep=lockstep,
        discard_threshold=discard_threshold,
        patience=patience,
        epsilon=epsilon,
        refresh=refresh,
        budget=budget,
    )
    return permutation_values(game, players, settings=settings, rng=np.random.default_rng(seed))


def mean_over_orders(
    game: Game, players: int, first: tuple[int, ...] = (), threshold: float = -np.inf, patience: int = 1
) -> Values:
    """The estimand, spelt out: every order in which `first` leave first, one step at a time, cut under a threshold."""
    rest = [k for k in range(players) if k not in first]
    orders = [a + b for a in orders_of(first) for b in orders_of(rest)]
    total = np.zeros(players)
    for order in orders:
        on = np.ones((1, players), dtype=np.bool_)
        value, under = game(on)[0], 0
        for player in order:
            on[0, player] = False
            after = game(on)[0]
            total[player] += value - after
            value, under = after, under + 1 if after < threshold else 0
            if under == patience:
                break
    return total / len(orders)


CLOSED_FORM = {
    "majority": (majority(3), 6),
    "glove": (glove(2), 6),
    "unanimity": (unanimity([0, 3]), 6),
    "random": (random_game(6, seed=5), 6),
}


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_agrees_with_enumeration_within_its_standard_errors(name: str) -> None:
    game, players = CLOSED_FORM[name]
    found = estimate(game, players, permutations=2000)
    assert (found.standard_errors < 0.05).all()
    assert (np.abs(found.values - exact_values(game, players)) <= 4 * found.standard_errors).all()
    assert found.standard_errors.max() > 0


def test_additive_game_is_exact_after_two_walks() -> None:
    weights = np.array([3.0, -1.0, 0.0, 0.1])
    found = estimate(additive(weights, offset=7.0), 4, permutations=2)
    np.testing.assert_allclose(found.values, weights, atol=1e-14)
    np.testing.assert_allclose(found.standard_errors, 0, atol=1e-14)


@pytest.mark.parametrize("epsilon", [None, 0.3])
@pytest.mark.parametrize("name", CLOSED_FORM)
def test_values_sum_to_full_minus_empty_when_nothing_is_discarded(name: str, epsilon: float | None) -> None:
    game, players = CLOSED_FORM[name]
    found = estimate(game, players, permutations=40, lockstep=7, epsilon=epsilon)
    ends = game(np.stack([np.ones(players, dtype=np.bool_), np.zeros(players, dtype=np.bool_)]))
    assert (found.full_value, found.empty_value) == tuple(ends)
    assert abs(found.values.sum() - (ends[0] - ends[1])) < 1e-13
    assert (found.discarded_walks, found.zeroed_share) == (0, 0.0)
    assert (found.counts == 40).all()
    assert (found.greedy_walks > 0) == (epsilon is not None)


def test_intervals_cover_as_often_as_they_claim() -> None:
    players, walks, repeats = 6, 30, 400
    game = random_game(players, seed=9)
    truth = exact_values(game, players)
    rng = np.random.default_rng(2)
    settings = PermutationSettings(permutations=walks)
    reach = student.ppf(0.95, walks - 1)
    covered = np.zeros(players)
    for _ in range(repeats):
        found = permutation_values(game, players, settings=settings, rng=rng)
        covered += np.abs(found.values - truth) <= reach * found.standard_errors
    # 90 % intervals over 2,400 cases; the band holds the wobble of 400 repeats and would miss errors 10 % off.
    assert 0.88 <= covered.mean() / repeats <= 0.92


def test_truncation_estimates_the_truncated_value_and_not_the_shapley_value() -> None:
    # Halving per missing player: v = 2 ** -(players off), worth (1 - 2 ** -n) / n each. Cut after the first value under
    # 0.3, that is after two steps: a player is measured at place 0 (1/2) or 1 (1/4), so its truncated value is 3/(4n).
    players = 5

    def halving(on: Coalitions, /) -> Values:
        values: Values = np.power(0.5, (~on).sum(axis=1))
        return values

    found = estimate(halving, players, permutations=4000, discard_threshold=0.3, patience=1)
    truncated = np.full(players, 0.75 / players)
    np.testing.assert_allclose(mean_over_orders(halving, players, threshold=0.3), truncated, atol=1e-14)
    assert (np.abs(found.values - truncated) <= 4 * found.standard_errors).all()
    shapley = exact_values(halving, players)
    assert (shapley - found.values > 5 * found.standard_errors).all()
    # The bound of the docstring: monotone, so short of Shapley's by at most threshold - v(none) in all.
    assert 0 < (shapley - found.values).sum() <= 0.3 - 0.5**players
    assert found.discarded_walks == 4000
    assert found.zeroed_share == pytest.approx(3 / 5)
    assert found.counts.sum() == 2 * 4000
    assert found.end_value == 0.25
    assert found.empty_value is None
    assert found.values.sum() == pytest.approx(found.full_value - found.end_value, abs=1e-12)


def test_patience_counts_consecutive_steps_only() -> None:
    # v dips under the threshold for one step at a time; only patience 1 may cut there.
    def comb(on: Coalitions, /) -> Values:
        values: Values = ((~on).sum(axis=1) % 2 == 0).astype(np.float64)
        return values

    assert estimate(comb, 6, permutations=2, discard_threshold=0.5, patience=2).discarded_walks == 0
    # At the threshold is not under it.
    assert estimate(comb, 6, permutations=2, discard_threshold=0.0, patience=1).discarded_walks == 0
    cut = estimate(comb, 6, permutations=2, discard_threshold=0.5, patience=1)
    assert (cut.discarded_walks, cut.counts.sum()) == (2, 2)


def test_patience_that_ends_with_the_walk_discards_nothing() -> None:
    found = estimate(majority(3), 3, permutations=2, discard_threshold=0.5, patience=3)
    assert (found.discarded_walks, found.zeroed_share, found.empty_value) == (0, 0.0, 0.0)


@pytest.mark.parametrize("threshold", [None, 0.35])
def test_epsilon_greedy_estimates_the_stated_mixture(threshold: float | None) -> None:
    # Players 0 and 1 each can carry the game and are the only ones with a positive value, so T = {0, 1} in every round
    # after the first; the two are redundant, which is where greedy orders and Shapley's differ most.
    def game(on: Coalitions, /) -> Values:
        values: Values = on @ np.array([0.0, 0.4, -0.1, -0.1, -0.1]) + (on[:, 0] | on[:, 1])
        return values

    players, walks = 5, 6000
    limit = -np.inf if threshold is None else threshold
    uniform = mean_over_orders(game, players, threshold=limit, patience=2)
    greedy = mean_over_orders(game, players, first=(0, 1), threshold=limit, patience=2)
    found = estimate(
        game, players, permutations=walks, refresh=100, epsilon=0.3, discard_threshold=threshold, patience=2
    )
    share = found.greedy_walks / walks
    assert abs(share - 0.7 * (1 - 100 / walks)) < 0.03
    stated = (1 - share) * uniform + share * greedy
    assert (np.abs(found.values - stated) <= 4 * found.standard_errors + 1e-12).all()


def test_epsilon_greedy_mixture_is_not_the_shapley_value() -> None:
    # T = {0, 1}: player 2 only matters while 0 is off and 1 is on, which greedy orders never let it see.
    def game(on: Coalitions, /) -> Values:
        values: Values = on @ np.array([2.0, 2.0, -0.5]) - 1.5 * (~on[:, 0] & on[:, 1] & ~on[:, 2])
        return values

    players, walks = 3, 6000
    uniform, greedy = mean_over_orders(game, players), mean_over_orders(game, players, first=(0, 1))
    np.testing.assert_allclose(uniform, exact_values(game, players), atol=1e-14)
    found = estimate(game, players, permutations=walks, refresh=100, epsilon=0.3)
    share = found.greedy_walks / walks
    stated = (1 - share) * uniform + share * greedy
    assert (np.abs(found.values - stated) <= 4 * found.standard_errors + 1e-12).all()
    assert abs(found.values[2] - uniform[2]) > 8 * found.standard_errors[2]


def test_epsilon_greedy_finds_the_top_player_with_fewer_evaluations() -> None:
    # Over 200 seeds: 0.85 of the greedy runs are right, 0.53 of the uniform ones, 0.70 with half as many again.
    game = fragile(20, {17: 0.5, 90: 0.2}, base=0.3)

    def hits(epsilon: float | None, budget: int, repeats: int = 40) -> int:
        found = [
            estimate(
                game,
                200,
                seed,
                permutations=10_000,
                lockstep=4,
                discard_threshold=0.25,
                patience=2,
                epsilon=epsilon,
                refresh=4,
                budget=budget,
            )
            for seed in range(repeats)
        ]
        assert max(one.evaluations for one in found) <= 1.1 * budget
        return sum(int(one.ranking()[0]) == 17 for one in found)

    greedy = hits(0.3, 800)
    assert greedy >= 30
    assert greedy >= hits(None, 800) + 6
    assert greedy > hits(None, 1200)


def test_epsilon_greedy_stays_uniform_while_no_player_is_worth_anything() -> None:
    game = additive(np.array([-1.0, -2.0, 0.0]))
    greedy = estimate(game, 3, permutations=20, lockstep=4, epsilon=0.1)
    plain = estimate(game, 3, permutations=20, lockstep=4)
    assert greedy.greedy_walks == 0
    np.testing.assert_array_equal(greedy.values, plain.values)


def test_every_coalition_is_asked_for_once_and_counted() -> None:
    game = Counted(random_game(6, seed=4))
    found = estimate(game, 6, permutations=300, lockstep=16)
    assert len(game.rows) == len(set(game.rows)) == found.evaluations == 2**6


def test_evaluations_of_disjoint_walks_follow_the_formula() -> None:
    # 40 players: two walks share the full and the empty coalition and, but for luck, nothing else.
    game = Counted(additive(np.ones(40)))
    found = estimate(game, 40, permutations=3, lockstep=3)
    assert found.evaluations == len(game.rows) == 3 * (40 - 1) + 2
    # One call for the full coalition, then one a step for all walks together, the last for the one empty coalition.
    assert game.batches == [1] + [3] * 39 + [1]


def test_a_discarded_walk_costs_only_the_steps_it_makes() -> None:
    game = Counted(lambda on: (~on).sum(axis=1) * -1.0)
    found = estimate(game, 50, permutations=4, lockstep=4, discard_threshold=-2.5, patience=2)
    # Under -2.5 after 3 and 4 players: 4 steps a walk.
    assert (found.counts.sum(), found.evaluations) == (16, len(game.rows))
    assert len(game.batches) == 1 + 4


@pytest.mark.parametrize("budget", [1, 100, 199, 200, 201, 1000])
def test_budget_is_passed_by_less_than_one_walk(budget: int) -> None:
    found = estimate(additive(np.ones(50)), 50, permutations=1000, lockstep=8, budget=budget)
    assert found.permutations >= 2
    assert found.permutations < 1000
    # Two walks are always made, and cost 100.
    assert budget <= found.evaluations < max(budget, 51) + 50


def test_budget_of_discarded_walks_is_used_up() -> None:
    game = fragile(10, {3: 0.5}, base=0.5)
    found = estimate(game, 100, permutations=1000, lockstep=8, budget=500, discard_threshold=0.1, patience=1)
    assert 500 <= found.evaluations < 512
    assert found.permutations > 40


@pytest.mark.parametrize("epsilon", [None, 0.5])
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_result_does_not_depend_on_the_batching(threshold: float | None, epsilon: float | None) -> None:
    game = random_game(8, seed=6)
    results = [
        estimate(
            game,
            8,
            seed=11,
            permutations=50,
            lockstep=lockstep,
            discard_threshold=threshold,
            patience=2,
            epsilon=epsilon,
        )
        for lockstep in (1, 7, 50)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].values, other.values)
        np.testing.assert_array_equal(results[0].standard_errors, other.standard_errors)
        np.testing.assert_array_equal(results[0].counts, other.counts)
        assert results[0].evaluations == other.evaluations
        assert results[0].greedy_walks == other.greedy_walks
        assert results[0].end_value == other.end_value


@pytest.mark.parametrize("epsilon", [None, 0.5])
def test_same_seed_same_result_and_another_seed_another(epsilon: float | None) -> None:
    game = random_game(8, seed=6)
    first, again, other = (estimate(game, 8, seed, permutations=30, lockstep=5, epsilon=epsilon) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.standard_errors, again.standard_errors)
    assert (first.values != other.values).any()


def test_standard_error_survives_a_large_offset_in_the_marginals() -> None:
    # Marginals of 1e6 that differ by 1e-3: a plain sum of squares would lose the difference.
    jitter = random_game(5, seed=8)
    small = estimate(lambda on: 1e-3 * jitter(on), 5, permutations=50)
    large = estimate(lambda on: 1e6 * on.sum(axis=1) + 1e-3 * jitter(on), 5, permutations=50)
    np.testing.assert_allclose(large.standard_errors, small.standard_errors, rtol=1e-4)


def test_progress_reports_every_round() -> None:
    seen: list[tuple[int, int]] = []
    settings = PermutationSettings(permutations=10, lockstep=4)
    permutation_values(
        majority(2),
        3,
        settings=settings,
        rng=np.random.default_rng(0),
        progress=lambda walks, total: seen.append((walks, total)),
    )
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_one_player_and_read_only_arrays() -> None:
    found = estimate(additive(np.array([2.0])), 1, permutations=2)
    assert (found.values.tolist(), found.evaluations, found.empty_value) == ([2.0], 2, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 1.0


def test_ranking_keeps_the_order_of_equal_players() -> None:
    assert estimate(additive(np.array([1.0, 2.0, 1.0, 2.0])), 4, permutations=2).ranking().tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"permutations": 1}, "permutations must be at least 2, got 1: one has no standard error"),
        ({"lockstep": 0}, "lockstep must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"refresh": 0}, "refresh must be at least 1, got 0"),
        ({"top_players": 0}, "top_players must be at least 1, got 0"),
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"epsilon": 0.0}, r"epsilon must be in \(0, 1\], got 0.0"),
        ({"epsilon": 1.1}, r"epsilon must be in \(0, 1\], got 1.1"),
        ({"epsilon": float("nan")}, r"epsilon must be in \(0, 1\], got nan"),
        ({"discard_threshold": float("nan")}, "discard_threshold must be finite or None, got nan"),
    ],
)
def test_settings_say_what_is_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PermutationSettings(**settings)


def test_refuses_no_players_and_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="players must be at least 1, got 0"):
        estimate(majority(1), 0)
    with pytest.raises(ShapPruneError, match="game value inf with 1 players off: check the model's logits"):
        estimate(lambda on: np.where(on.all(axis=1), 1.0, np.inf), 3)


def test_gauge_decides_what_is_discarded_and_values_stay_those_of_the_game() -> None:
    # The game itself is far under the threshold from the start, as a dual game with its clean part subtracted is.
    weights = np.array([-1.0, -2.0, -3.0, -4.0, -5.0])

    def strength(on: Coalitions, /) -> Values:
        values: Values = np.where((~on).sum(axis=1) >= 2, 0.0, 1.0)
        return values

    settings = PermutationSettings(permutations=50, discard_threshold=0.5, patience=1)
    rng = np.random.default_rng(0)
    found = permutation_values(additive(weights), 5, settings=settings, rng=rng, gauge=strength)
    # Every walk is cut after its second step, the first that the gauge puts under the threshold.
    assert (found.discarded_walks, found.counts.sum()) == (50, 100)
    np.testing.assert_allclose(found.values, weights * found.counts / 50, atol=1e-12)
    without = permutation_values(additive(weights), 5, settings=settings, rng=np.random.default_rng(0))
    assert without.counts.sum() == 50


def test_gauge_that_never_falls_keeps_every_walk_whole() -> None:
    weights = np.array([-1.0, -2.0, -3.0])
    settings = PermutationSettings(permutations=4, discard_threshold=0.5, patience=1)
    found = permutation_values(
        additive(weights), 3, settings=settings, rng=np.random.default_rng(0), gauge=lambda on: np.ones(len(on))
    )
    assert (found.discarded_walks, found.zeroed_share) == (0, 0.0)
    np.testing.assert_allclose(found.values, weights, atol=1e-12)


def test_gauge_patience_counts_its_own_steps() -> None:
    settings = PermutationSettings(permutations=10, discard_threshold=0.5, patience=3)
    found = permutation_values(
        additive(np.ones(8)), 8, settings=settings, rng=np.random.default_rng(0), gauge=lambda on: on.all(axis=1) * 1.0
    )
    assert found.counts.sum() == 10 * 3


def test_gauge_is_not_asked_without_a_threshold() -> None:
    def refuse(on: Coalitions, /) -> Values:
        raise AssertionError("the gauge was asked")

    settings = PermutationSettings(permutations=4)
    found = permutation_values(additive(np.ones(3)), 3, settings=settings, rng=np.random.default_rng(0), gauge=refuse)
    assert found.values.tolist() == [1, 1, 1]
