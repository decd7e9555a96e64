"""What holds for every sampling estimator: unbiased, honest about its errors, resumable, the same for any batching."""

from collections.abc import Callable

import numpy as np
import pytest
from closed_form_games import Coalitions, Counted, Values, additive, fragile, glove, majority, random_game, unanimity
from scipy.stats import t as student

from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.shapley.antithetic import AntitheticSettings, antithetic
from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_values
from onnx_shapprune.shapley.leverage import LeverageSettings, leverage
from onnx_shapprune.shapley.permutation import PermutationSettings, permutation
from onnx_shapprune.shapley.running import Estimator
from onnx_shapprune.shapley.top_k import TopKSettings, top_k

Start = Callable[..., Estimator]


def plain(game: Game, players: int, seed: int = 0, *, samples: int = 40, lockstep: int = 6, **more) -> Estimator:
    settings = PermutationSettings(permutations=samples, lockstep=lockstep, **more)
    return permutation(game, players, settings=settings, rng=np.random.default_rng(seed))


def discarding(game: Game, players: int, seed: int = 0, *, samples: int = 40, lockstep: int = 6, **more) -> Estimator:
    return plain(game, players, seed, samples=samples, lockstep=lockstep, discard_threshold=0.3, patience=2, **more)


def greedy(game: Game, players: int, seed: int = 0, *, samples: int = 40, lockstep: int = 6, **more) -> Estimator:
    return discarding(game, players, seed, samples=samples, lockstep=lockstep, epsilon=0.4, **more)


def pairs(game: Game, players: int, seed: int = 0, *, samples: int = 40, lockstep: int = 6, **more) -> Estimator:
    settings = AntitheticSettings(pairs=samples, lockstep=lockstep, **more)
    return antithetic(game, players, settings=settings, rng=np.random.default_rng(seed))


def best(game: Game, players: int, seed: int = 0, *, samples: int = 40, lockstep: int = 6, **more) -> Estimator:
    settings = TopKSettings(k=2, permutations=samples, lockstep=lockstep, **more)
    return top_k(game, players, settings=settings, rng=np.random.default_rng(seed))


def fit(game: Game, players: int, seed: int = 0, *, samples: int = 40, lockstep: int = 6, **more) -> Estimator:
    settings = LeverageSettings(pairs=samples, lockstep=lockstep, **more)
    return leverage(game, players, settings=settings, rng=np.random.default_rng(seed))


SHAPLEY = {"permutation": plain, "antithetic": pairs, "top-k": best, "leverage": fit}
ALL = {**SHAPLEY, "discarding": discarding, "greedy": greedy}
GAMES = {
    "majority": (majority(4), 7),
    "glove": (glove(2), 6),
    "unanimity": (unanimity([0, 3, 4]), 6),
    "random": (random_game(6, seed=5), 6),
    "fragile": (fragile(3, {1: 0.5, 4: 0.2}, base=0.3), 8),
}
every = pytest.mark.parametrize("name", ALL)
shapley = pytest.mark.parametrize("name", SHAPLEY)


def same(one: Estimate, other: Estimate) -> bool:
    """Bit for bit, in every field."""
    return all(
        np.array_equal(getattr(one, field), getattr(other, field))
        if isinstance(getattr(one, field), np.ndarray)
        else getattr(one, field) == getattr(other, field)
        for field in Estimate.__dataclass_fields__
    )


@shapley
@pytest.mark.parametrize("game", GAMES)
def test_agrees_with_enumeration_within_its_standard_errors(name: str, game: str) -> None:
    function, players = GAMES[game]
    found = SHAPLEY[name](function, players, 3, samples=1500, lockstep=64).run()
    assert 0 < found.standard_errors.max() < 0.06
    truth = exact_values(function, players)
    assert (np.abs(found.values - truth) <= 4.5 * found.standard_errors + 1e-12).all()
    assert (found.estimator, found.method, found.discard_threshold) == (name, name, None)


@shapley
def test_mean_of_many_estimates_is_the_shapley_value(name: str) -> None:
    # Few samples each: a bias of a tenth of one estimate's error would show.
    game, players, repeats = random_game(6, seed=5), 6, 600
    found = np.stack([SHAPLEY[name](game, players, seed, samples=12).run().values for seed in range(repeats)])
    error = found.std(axis=0, ddof=1) / np.sqrt(repeats)
    assert (np.abs(found.mean(axis=0) - exact_values(game, players)) <= 4 * error).all()


@pytest.mark.parametrize(("name", "freedom"), [("permutation", 29), ("antithetic", 29), ("leverage", 25)])
def test_intervals_cover_as_often_as_they_claim(name: str, freedom: int) -> None:
    game, players, repeats = random_game(6, seed=9), 6, 400
    truth = exact_values(game, players)
    reach = student.ppf(0.95, freedom)
    covered = 0.0
    for seed in range(repeats):
        found = SHAPLEY[name](game, players, seed, samples=30).run()
        covered += float((np.abs(found.values - truth) <= reach * found.standard_errors).mean())
    # 90 % intervals; HC3 is known to err on the wide side in small samples.
    assert 0.88 <= covered / repeats <= (0.95 if name == "leverage" else 0.92)


@shapley
@pytest.mark.parametrize("game", GAMES)
def test_values_sum_to_full_minus_empty(name: str, game: str) -> None:
    function, players = GAMES[game]
    found = SHAPLEY[name](function, players).run()
    ends = function(np.stack([np.ones(players, dtype=np.bool_), np.zeros(players, dtype=np.bool_)]))
    assert (found.full_value, found.empty_value) == tuple(ends)
    assert found.values.sum() == pytest.approx(ends[0] - ends[1], abs=1e-12)
    assert (found.discarded_walks, found.zeroed_share) == (0, 0.0)


@shapley
def test_additive_game_is_exact_at_once(name: str) -> None:
    weights = np.array([3.0, -1.0, 0.0, 0.1, 2.0])
    found = SHAPLEY[name](additive(weights, offset=7.0), 5).run(samples=2)
    np.testing.assert_allclose(found.values, weights, atol=1e-12)
    np.testing.assert_allclose(found.standard_errors, 0, atol=1e-12)


@every
def test_stopped_and_resumed_is_the_same_as_in_one_go(name: str) -> None:
    game = random_game(9, seed=6)
    at_once = ALL[name](game, 9, 4, samples=60).run()
    for stops in ((13,), (1, 2, 30), (20, 20, 40)):
        running = ALL[name](game, 9, 4, samples=60)
        parts = [running.run(samples=stop) for stop in stops]
        assert not same(parts[0], at_once)
        assert same(running.run(), at_once)
        # What was handed out before has not changed under the hands of its owner.
        fresh = ALL[name](game, 9, 4, samples=60).run(samples=stops[0])
        assert same(parts[0], fresh)


@every
def test_evaluations_and_seconds_can_be_resumed_too(name: str) -> None:
    game = random_game(9, seed=6)
    at_once = ALL[name](game, 9, 4, samples=60).run()
    running = ALL[name](game, 9, 4, samples=60)
    part = running.run(evaluations=60)
    assert part.stopped == "evaluations"
    assert 60 <= part.evaluations < 60 + 18
    assert running.run(seconds=0).stopped == "seconds"
    assert same(running.run(seconds=1000), at_once)


@every
@pytest.mark.parametrize("limit", [None, 50, 101, 250])
def test_lockstep_changes_nothing_but_the_size_of_the_calls(name: str, limit: int | None) -> None:
    results, widest = [], []
    samples = 60 if limit is None else 1000
    for lockstep in (1, 5, 64):
        game = Counted(random_game(10, seed=6))
        results.append(ALL[name](game, 10, 4, samples=samples, lockstep=lockstep).run(evaluations=limit))
        widest.append(max(game.batches))
    assert widest[0] <= 2 < widest[2]
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert (results[0].stopped == "evaluations") == (limit is not None)


@every
def test_same_seed_same_result_and_another_seed_another(name: str) -> None:
    game = random_game(8, seed=6)
    first, again, other = (ALL[name](game, 8, seed).run() for seed in (1, 1, 2))
    assert same(first, again)
    assert (first.values != other.values).any()


@every
@pytest.mark.parametrize("budget", [1, 100, 199, 200, 201, 1000])
def test_budget_is_passed_by_less_than_one_sample(name: str, budget: int) -> None:
    game = Counted(random_game(20, seed=1))
    found = ALL[name](game, 20, samples=10_000, budget=budget).run()
    assert len(game.rows) == len(set(game.rows)) == found.evaluations
    assert found.stopped == "evaluations"
    most = {"antithetic": 40, "leverage": 2}.get(name, 20)
    # The least that has standard errors: two walks or pairs of walks, or players + 2 pairs of coalitions.
    least = {"antithetic": 82, "leverage": 47}.get(name, 42)
    assert budget <= found.evaluations < max(budget + most, least)


@every
def test_settings_budget_and_the_runs_own_the_smaller_counts(name: str) -> None:
    game = random_game(10, seed=6)
    small = ALL[name](game, 10, samples=200, budget=80).run(evaluations=500)
    assert same(small, ALL[name](game, 10, samples=200, budget=500).run(evaluations=80))
    assert not same(small, ALL[name](game, 10, samples=200, budget=500).run())


@every
def test_no_time_still_gives_what_has_standard_errors(name: str) -> None:
    found = ALL[name](random_game(8, seed=6), 8).run(seconds=0)
    assert found.stopped == "seconds"
    assert found.counts.max() == {"antithetic": 4, "leverage": 10}.get(name, 2)


def test_seconds_end_a_run_between_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    found = plain(random_game(8, seed=6), 8, samples=100, lockstep=5).run(seconds=3)
    # The clock is read at the start, at 0, and before each round, at 1, 2 and 3.
    assert (found.permutations, found.stopped) == (10, "seconds")


@every
def test_progress_reaches_the_end(name: str) -> None:
    seen: list[tuple[int, int]] = []
    ALL[name](random_game(6, seed=1), 6, samples=20).run(progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (20, 20)
    assert seen == sorted(set(seen))
    assert len(seen) > 2


@every
def test_refuses_limits_and_games_that_make_no_sense(name: str) -> None:
    start = ALL[name]
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        start(majority(2), 4).run(samples=0)
    with pytest.raises(ValueError, match="evaluations must be at least 1, got 0"):
        start(majority(2), 4).run(evaluations=0)
    with pytest.raises(ValueError, match="seconds must not be negative, got nan"):
        start(majority(2), 4).run(seconds=float("nan"))
    with pytest.raises(ValueError, match="lockstep must be at least 1, got 0"):
        start(majority(2), 4, lockstep=0)
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        start(majority(2), 4, budget=0)
    with pytest.raises(ValueError, match=r"players must be at least 1, got 0|top 2 of 0 players"):
        start(majority(1), 0).run()

    def overflows(on: Coalitions, /) -> Values:
        values: Values = np.where(on.all(axis=1), 1.0, np.inf)
        return values

    with pytest.raises(ShapPruneError, match="game value inf"):
        start(overflows, 3).run()
