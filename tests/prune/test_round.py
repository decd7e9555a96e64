"""Which units a round switches off, on games written out by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from onnx_shapprune.game.replay import Player
from onnx_shapprune.prune.round import Round, RoundSettings, choose
from onnx_shapprune.shapley.estimate import Estimate

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
    found = choose(round_, game, options, limit=limit, distortion=distortion, banned=banned)
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
