import math
from itertools import permutations

import numpy as np
import pytest
from closed_form_games import Counted, additive, glove, majority, random_game, unanimity

from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.shapley.exact import exact_estimate, exact_values


def test_additive_game_gives_the_weights() -> None:
    weights = np.array([3.0, -1.0, 0.0, 0.5])
    np.testing.assert_allclose(exact_values(additive(weights, offset=7.0), 4), weights, atol=1e-14)


@pytest.mark.parametrize("quota", [1, 4, 7])
def test_symmetric_voting_splits_evenly(quota: int) -> None:
    np.testing.assert_allclose(exact_values(majority(quota), 7), np.full(7, 1 / 7), atol=1e-14)


def test_unanimity_splits_among_members() -> None:
    np.testing.assert_allclose(exact_values(unanimity([1, 4, 5]), 6), [0, 1 / 3, 0, 0, 1 / 3, 1 / 3], atol=1e-14)


def test_glove_game_with_one_left_hand() -> None:
    # The textbook answer for one left and two right gloves.
    np.testing.assert_allclose(exact_values(glove(1), 3), [2 / 3, 1 / 6, 1 / 6], atol=1e-14)


def test_agrees_with_the_mean_over_all_orders() -> None:
    game, players = random_game(5, seed=3), 5
    total = np.zeros(players)
    for order in permutations(range(players)):
        on = np.ones((players + 1, players), dtype=np.bool_)
        for step, player in enumerate(order):
            on[step + 1 :, player] = False
        total[list(order)] -= np.diff(game(on))
    np.testing.assert_allclose(exact_values(game, players), total / math.factorial(players), atol=1e-13)


def test_sixteen_players_cost_every_coalition_once_and_are_efficient() -> None:
    game = Counted(random_game(16, seed=1))
    values = exact_values(game, 16)
    assert len(game.rows) == len(set(game.rows)) == 2**16
    assert max(game.batches) <= 512
    ends = game.game(np.stack([np.zeros(16, dtype=np.bool_), np.ones(16, dtype=np.bool_)]))
    assert abs(values.sum() - (ends[1] - ends[0])) < 1e-12


def test_one_player() -> None:
    np.testing.assert_array_equal(exact_values(additive(np.array([2.5])), 1), [2.5])


@pytest.mark.parametrize("players", [0, 17])
def test_refuses_what_cannot_be_enumerated(players: int) -> None:
    with pytest.raises(ValueError, match=rf"1 to 16 players, got {players}: use permutation_values"):
        exact_values(additive(np.ones(players)), players)


def test_refuses_a_game_that_returns_nan_or_a_wrong_shape() -> None:
    with pytest.raises(ShapPruneError, match="game value nan with 3 players off"):
        exact_values(lambda on: np.where(on.any(axis=1), 1.0, np.nan), 3)
    with pytest.raises(ValueError, match=r"game returned shape \(8, 3\) for 8 coalitions"):
        exact_values(lambda on: on.astype(np.float64), 3)


def test_an_estimate_of_the_same_shape_as_all_others() -> None:
    game, seen = Counted(random_game(11, seed=2)), []
    found = exact_estimate(game, 11, progress=lambda done, of: seen.append((done, of)))
    np.testing.assert_array_equal(found.values, exact_values(random_game(11, seed=2), 11))
    assert found.standard_errors.tolist() == [0.0] * 11
    assert found.counts.tolist() == [2**10] * 11
    assert len(game.rows) == found.evaluations == 2**11
    assert (found.estimator, found.method, found.stopped) == ("exact", "exact", "enumerated")
    assert found.values.sum() == pytest.approx(found.full_value - found.end_value, abs=1e-12)
    ends = game.game(np.stack([np.ones(11, dtype=np.bool_), np.zeros(11, dtype=np.bool_)]))
    assert (found.full_value, found.empty_value) == tuple(ends)
    assert seen == [(512, 2048), (1024, 2048), (1536, 2048), (2048, 2048)]
