"""What the record says about the estimate is what ran, not what was asked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from onnx_shapprune.assemble import _estimate
from onnx_shapprune.errors import DataError
from onnx_shapprune.game.replay import Player
from onnx_shapprune.prune.round import Round, RoundSettings, estimate_values
from onnx_shapprune.record import UnitRef
from onnx_shapprune.settings import ESTIMATORS, RunOptions


def recorded(**options):
    """The record's part after a game of eight additive players, two in each of four layers."""
    run = RunOptions(**options)
    settings = RoundSettings(
        estimator=run.estimator, permutations=run.permutations, epsilon=run.epsilon, group=2,
        discard_threshold=run.discard_threshold,
    )  # fmt: skip
    weights = np.array([0.01, 0.2, 0.03, 0.04, 0.05, 0.06, 0.5, 0.11])
    found = estimate_values(lambda on: on @ weights, 8, lambda on: on @ weights, settings, np.random.default_rng(0))
    players = tuple(Player(i // 2, i % 2) for i in range(8))
    layers = [SimpleNamespace(name=f"layer{i}") for i in range(4)]
    case = SimpleNamespace(model=SimpleNamespace(units=SimpleNamespace(layers=layers)))
    return _estimate(SimpleNamespace(round=Round(players, found, np.zeros((8, 2))), case=case), run)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_method_and_what_it_uses(name):
    part = recorded(estimator=name)
    assert part.method.split(", ")[0] == name
    assert (part.discard_threshold is None) == ("discarding threshold" not in part.method) == (name == "leverage")
    assert (part.epsilon is None) == ("epsilon-greedy" not in part.method) == (name != "permutation")
    if name != "top-k":
        assert (part.stopped, part.separated) == ("samples", ())


def test_separated_units_have_their_names():
    part = recorded(estimator="top-k", discard_threshold=None)
    assert part.stopped == "separated"
    assert part.separated == (UnitRef(layer="layer0", channel=1), UnitRef(layer="layer3", channel=0))


def test_enumeration_is_named_whatever_was_asked_for():
    part = recorded(estimator="leverage", permutations=100)
    assert (part.method, part.stopped, part.evaluations) == ("exact", "enumerated", 256)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(
        DataError, match="no estimator 'kernel': choose one of permutation, antithetic, top-k, leverage"
    ):
        RunOptions(estimator="kernel")
