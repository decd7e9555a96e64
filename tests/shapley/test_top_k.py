import math

import numpy as np
import pytest
from closed_form_games import Coalitions, Values, additive, glove, majority, random_game

from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_values
from onnx_shapprune.shapley.top_k import FIRST_LOOK, TopKSettings, empirical_bernstein, top_k


def best(game: Game, players: int, seed: int = 0, **settings) -> Estimate:
    return top_k(game, players, settings=TopKSettings(**settings), rng=np.random.default_rng(seed)).run()


def carried(on: Coalitions, /) -> Values:
    """Players 2 and 5 of eight carry the game; a tenth of it is shared by majority."""
    values: Values = 0.5 * on[:, 2] + 0.4 * on[:, 5] + 0.1 * (on.sum(axis=1) >= 5)
    return values


def test_stops_as_soon_as_the_top_k_are_separated() -> None:
    found = best(carried, 8, k=2, span=0.6, permutations=5000)
    assert found.stopped == "separated"
    assert found.separated is not None
    assert found.separated.tolist() == [2, 5]
    assert 32 <= found.permutations < 500
    assert found.intervals is not None
    lower, upper = found.intervals
    assert lower[[2, 5]].min() > np.delete(upper, [2, 5]).max()
    np.testing.assert_allclose((lower + upper) / 2, found.values, atol=1e-12)


def test_an_additive_game_is_separated_at_the_first_look() -> None:
    found = best(additive(np.array([1.0, 3.0, 2.0, 0.0])), 4, k=2)
    assert (found.stopped, found.permutations) == ("separated", FIRST_LOOK)
    assert found.separated is not None
    assert found.separated.tolist() == [1, 2]


def test_equal_players_are_never_separated_and_the_certain_ones_are_reported() -> None:
    # Player 2 is best; 0 and 1 are twins, so that there is no second best.
    game = additive(np.array([1.0, 1.0, 2.0, 0.0]))
    found = best(game, 4, k=2, permutations=100)
    assert (found.stopped, found.permutations) == ("samples", 100)
    assert found.separated is not None
    assert found.separated.tolist() == [2]
    budget = best(game, 4, k=2, permutations=100, budget=6)
    assert budget.stopped == "evaluations"


def test_nothing_is_claimed_before_the_first_look() -> None:
    running = top_k(carried, 8, settings=TopKSettings(k=2, permutations=5000), rng=np.random.default_rng(0))
    found = running.run(samples=FIRST_LOOK - 1)
    assert found.separated is not None
    assert found.intervals is not None
    assert found.separated.size == 0
    assert np.isinf(found.intervals).all()


def test_the_last_walk_is_looked_at() -> None:
    found = best(additive(np.array([1.0, 2.0])), 2, k=1, permutations=5)
    assert (found.stopped, found.permutations) == ("separated", 5)


def test_a_run_that_has_separated_them_does_not_go_on() -> None:
    running = top_k(carried, 8, settings=TopKSettings(k=2, span=0.6), rng=np.random.default_rng(0))
    first = running.run()
    assert (first.stopped, running.run(samples=4000).permutations) == ("separated", first.permutations)


def test_intervals_of_the_last_look_hold_as_often_as_they_claim() -> None:
    # A game with no winner to find, so that the runs go on to the end: they look eight times.
    game, players, truth = glove(2), 5, exact_values(glove(2), 5)
    missed, narrow = 0, 0
    for seed in range(200):
        found = best(game, players, seed, k=1, span=1.0, confidence=0.8, permutations=64)
        assert found.intervals is not None
        lower, upper = found.intervals
        missed += bool(((truth < lower) | (truth > upper)).any())
        half = 1.28 * found.standard_errors
        narrow += bool((np.abs(found.values - truth) > half).any())
    assert missed <= 0.2 * 200
    # The count could show a miss: plain 80 % intervals of each player alone fail together far more often.
    assert narrow > 0.3 * 200


def test_wrong_players_are_named_less_often_than_confidence_allows() -> None:
    noise = random_game(6, 1)

    def game(on: Coalitions, /) -> Values:
        values: Values = on @ np.array([0.5, 0.45, 0.1, 0.1, 0.0, 0.0]) + 0.2 * noise(on)
        return values

    assert set(np.argsort(-exact_values(game, 6))[:2].tolist()) == {0, 1}
    wrong_at_once = 0
    for seed in range(30):
        running = top_k(
            game, 6, settings=TopKSettings(k=2, span=2.0, confidence=0.9, permutations=3000),
            rng=np.random.default_rng(seed),
        )  # fmt: skip
        wrong_at_once += set(running.run(samples=2).ranking()[:2].tolist()) != {0, 1}
        found = running.run()
        assert found.stopped == "separated"
        assert found.separated is not None
        assert found.separated.tolist() == [0, 1]
    # So there was something to get wrong.
    assert wrong_at_once >= 3


def test_empirical_bernstein_by_hand() -> None:
    half = empirical_bernstein(np.array([0.0, 0.04]), 15, 2.0, 0.1)
    log = math.log(20)
    assert half == pytest.approx([7 * 2 * log / 42, math.sqrt(0.08 * log / 15) + 7 * 2 * log / 42])


def test_the_interval_bounds_are_those_of_the_union_bound() -> None:
    found = best(majority(3), 5, k=2, span=1.0, confidence=0.9, permutations=FIRST_LOOK)
    assert found.intervals is not None
    lower, upper = found.intervals
    # First look: half of the failure probability, over 5 players and 2 sides.
    half = empirical_bernstein(found.standard_errors**2 * FIRST_LOOK, FIRST_LOOK, 1.0, 0.1 / 2 / 10)
    np.testing.assert_allclose((upper - lower) / 2, half, rtol=1e-9)


def test_a_span_that_the_game_exceeds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"range over 1, more than span 0.5"):
        best(majority(3), 5, k=2, span=0.5)


def test_without_a_span_the_widest_range_seen_is_taken() -> None:
    # Marginals are 0 or 1 for everybody: what is seen is the truth.
    seen = best(majority(3), 5, k=2, permutations=40)
    given = best(majority(3), 5, k=2, permutations=40, span=1.0)
    assert seen.intervals is not None
    assert given.intervals is not None
    np.testing.assert_array_equal(seen.intervals, given.intervals)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": 1, "confidence": 1.0}, r"confidence must be between 0 and 1, got 1.0"),
        ({"k": 1, "span": 0.0}, "span must be positive and finite or None, got 0.0"),
        ({"k": 1, "permutations": 1}, "permutations must be at least 2, got 1"),
    ],
)
def test_settings_say_what_is_out_of_range(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TopKSettings(**settings)


def test_all_players_are_no_top() -> None:
    with pytest.raises(ValueError, match="top 3 of 3 players needs no estimate"):
        best(majority(2), 3, k=3)
