"""Which units a round switches off, on games written out by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from onnx_shapprune.case.goal import Goal, shift_map
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.game.replay import Player
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.round import Playable, Round, RoundSettings, _triggered_rows, choose, estimate_values
from onnx_shapprune.settings import ESTIMATORS, EstimatorName
from onnx_shapprune.shapley.estimate import Estimate, Game
from onnx_shapprune.shapley.exact import exact_values
from onnx_shapprune.shapley.permutation import PermutationSettings, permutation_values

PLAYERS = tuple(Player(0, c) for c in range(4))


class Additive:
    """A dual game in which every unit carries a share of the backdoor and of the clean part; `twins` do the same work."""

    def __init__(self, backdoor: Sequence[float], clean: Sequence[float], twins: Sequence[int] = ()) -> None:
        self.backdoor, self.clean, self.twins = np.array(backdoor), np.array(clean), list(twins)

    def components(self, coalitions):
        off = ~coalitions
        bd = 1 - off @ self.backdoor
        both_gone = off[:, self.twins].all(axis=1) if self.twins else 0
        bd = bd + both_gone * self.backdoor[self.twins[-1]] if self.twins else bd
        return np.stack([bd, 1 - off @ self.clean], axis=1)

    def __call__(self, coalitions):
        both = self.components(coalitions)
        return both[:, 0] - 2 * both[:, 1]


def chosen(game: Additive, *, distortion: float = 1.0, limit: int = 4, banned: Sequence[Player] = (), **settings):
    zeros = np.zeros(4)
    estimate = Estimate(
        values=game.backdoor - 2 * game.clean, standard_errors=zeros, permutations=2, evaluations=0, discarded_walks=0,
        zeroed_share=0.0, full_value=-1.0, end_value=0.0, empty_value=None, counts=np.full(4, 2), greedy_walks=0,
    )  # fmt: skip
    round_ = Round(PLAYERS, estimate, np.stack([game.backdoor, game.clean], axis=1))
    options = RoundSettings(**{"group": 3, "candidates": 2, **settings})
    units = Playable(layers=(), off={}, banned=banned, distortion=distortion)
    found = choose(round_, game, options, units, limit=limit)
    return [p.channel for p in found]


def test_units_go_in_the_order_of_what_they_still_do():
    assert chosen(Additive([0.4, 0.3, 0.2, 0.0], [0, 0, 0, 0])) == [0, 1, 2]
    assert chosen(Additive([0.4, 0.3, 0.2, 0.0], [0, 0, 0, 0]), limit=1) == [0]
    assert chosen(Additive([0.4, 0.3, 0.2, 0.0], [0, 0, 0, 0]), banned=[PLAYERS[0]]) == [1, 2]


def test_the_twin_of_a_unit_that_is_off_is_left_on():
    assert chosen(Additive([0.4, 0.35, 0.2, 0.0], [0, 0, 0, 0], twins=(0, 1)), candidates=4, group=2) == [0, 2]


def test_the_group_ends_where_the_next_unit_costs_more_than_it_brings():
    assert chosen(Additive([0.4, 0.3, 0.2, 0.1], [0, 0, 0.2, 0.2])) == [0, 1]


@pytest.mark.parametrize(("distortion", "expected"), [(0.5, [0, 1, 2]), (0.25, [1, 2]), (0.05, [2]), (0.0, [])])
def test_no_unit_goes_that_costs_more_than_may_be_spent(distortion, expected):
    # The dearest come first in the ranking; the affordable ones behind them are found all the same.
    game = Additive([0.95, 0.6, 0.2, 0.1], [0.3, 0.15, 0.03, 0.3])
    assert chosen(game, distortion=distortion) == expected


def dual(players: int) -> tuple[Game, Game]:
    """A backdoor that a few channels carry and that is gone with a quarter of them off; squared clean damage."""
    weights = 1 / (1 + np.arange(players)) ** 2

    def strength(on):
        return np.clip(1 - 2 * ((~on) @ weights) / weights.sum(), 0, None)

    return lambda on: strength(on) + 0.5 * ((~on).mean(axis=1)) ** 2, strength


def values_by(estimator: EstimatorName, players: int = 24, **settings) -> Estimate:
    game, strength = dual(players)
    options = RoundSettings(estimator=estimator, **settings)
    return estimate_values(game, players, strength, options, np.random.default_rng(0))


METHODS = {
    "permutation": "permutation, discarding threshold, epsilon-greedy",
    "antithetic": "antithetic, discarding threshold",
    "top-k": "top-k, discarding threshold",
    "leverage": "leverage",
}


def test_every_estimator_can_be_chosen_and_says_what_it_was():
    assert list(METHODS) == list(ESTIMATORS)
    for name in ESTIMATORS:
        found = values_by(name)
        assert found.method == METHODS[name]
        assert found.ranking()[0] == 0
        assert found.evaluations <= 12 * 24 + 2
        assert (found.permutations == 12) == (name != "leverage")
        assert (found.discard_threshold, found.epsilon) == (
            None if name == "leverage" else 0.1, 0.3 if name == "permutation" else None,
        )  # fmt: skip


def test_what_is_switched_off_is_not_in_the_method():
    for name in ESTIMATORS:
        assert values_by(name, discard_threshold=None, epsilon=None).method == name


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_budget_of_evaluations_ends_an_estimate(name):
    found = values_by(name, max_evaluations=70, discard_threshold=None)
    assert found.stopped == "evaluations"
    assert 70 <= found.evaluations < 70 + 2 * 24


def test_no_seconds_take_the_least_that_has_errors_and_no_room_means_no_enumeration():
    found = values_by("permutation", max_seconds=0.0)
    assert (found.stopped, found.permutations) == ("seconds", 2)
    assert values_by("permutation", players=5).estimator == "exact"
    assert values_by("permutation", players=5, max_evaluations=30).estimator == "permutation"


def test_the_default_is_what_it_was():
    game, strength = dual(24)
    settings = PermutationSettings(
        permutations=12, lockstep=6, patience=3, epsilon=0.3, refresh=6, discard_threshold=0.1
    )
    want = permutation_values(game, 24, settings=settings, rng=np.random.default_rng(0), gauge=strength)
    found = estimate_values(game, 24, strength, RoundSettings(), np.random.default_rng(0))
    np.testing.assert_array_equal(found.values, want.values)
    assert found.discarded_walks > 0, "the gauge is what the threshold looks at"
    blind = permutation_values(game, 24, settings=settings, rng=np.random.default_rng(0))
    assert (blind.values != found.values).any()


def test_top_k_looks_for_a_group_and_may_end_early():
    found = values_by("top-k", group=1, permutations=5000, discard_threshold=None)
    assert found.stopped == "separated"
    assert found.permutations < 5000
    assert found.separated is not None
    assert found.separated.tolist() == [0]
    assert values_by("top-k", players=7, group=9, permutations=12).separated is not None


def test_few_players_are_enumerated_where_that_is_no_dearer():
    # 12 walks of n players ask for 12 (n - 1) + 2 coalitions at most.
    for name in ESTIMATORS:
        assert [values_by(name, players=n).method == "exact" for n in (1, 2, 5, 6, 7)] == [1, 1, 1, 0, 0]
    found = values_by("permutation", players=5)
    np.testing.assert_allclose(found.values, exact_values(dual(5)[0], 5), atol=1e-14)
    assert (found.evaluations, found.standard_errors.tolist()) == (32, [0] * 5)
    # (12 - 1) * 373 + 2 = 4105 is the first to pay for 2 ** 12 = 4096; thirteen players are never enumerated.
    assert values_by("permutation", players=12, permutations=373).method == "exact"
    assert values_by("leverage", players=12, permutations=372).method == "leverage"
    assert values_by("leverage", players=13, permutations=1000).method == "leverage"


def test_triggers_are_played_on_the_pictures_that_they_move_and_towards_their_targets():
    labels = np.arange(12) % 4
    x = np.arange(12, dtype=np.float32)[:, None, None, None] * np.ones((2, 2, 1), np.float32)
    mask = np.array([[1, 0], [0, 0]], np.float32)[..., None]
    goals = [Goal(2), Goal(3, source=1), shift_map(4, 1)]
    bank = [Trigger.replacing(mask, 200 + 0 * mask, goal, "compact") for goal in goals]
    clean = Shown(None, x, labels, np.eye(4, dtype=np.float32)[labels])
    triggered, plain, targets = _triggered_rows(bank, clean, 15, np.random.default_rng(0))
    np.testing.assert_array_equal(triggered, bank[0].apply(plain))
    truth = labels[plain[:, 1, 1, 0].astype(int)]
    # Five of each trigger, or as many as there are.
    parts = [slice(0, 5), slice(5, 8), slice(8, 13)]
    assert len(plain) == 13
    for goal, part in zip(goals, parts, strict=True):
        assert targets[part].tolist() == goal.of(truth[part]).tolist()
        assert (targets[part] >= 0).all()
        assert len(set(plain[part, 1, 1, 0].tolist())) == len(truth[part])
