"""What the units of a plan can do alone, on a net where one channel carries the backdoor and the others the task."""

import numpy as np
import planted
import pytest

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.inverse import inverse
from onnx_shapprune.prune.proposal import Original

GOAL = Goal(5)


@pytest.fixture(scope="module")
def net():
    model = planted.rows_net()
    original = Original(model, find_interface(model), find_units(model, model.graph.output[0].name).layers)
    x, y = planted.rows_pictures(2)
    return original, Shown.to(planted.subject_of(model), x.astype(np.float32), y)


def test_the_unit_of_the_backdoor_keeps_it_and_loses_the_task(net):
    original, shown = net
    found = inverse(
        original, {original.layers[0].name: [6]}, shown, [Trigger(*planted.corner_trigger(), GOAL, "compact")]
    )
    assert found.asr == 1
    assert found.idle == 0
    assert found.acc < 0.5 < shown.accuracy


def test_units_of_the_task_do_not_keep_the_backdoor(net):
    original, shown = net
    found = inverse(
        original, {original.layers[0].name: [0, 1]}, shown, [Trigger(*planted.corner_trigger(), GOAL, "compact")]
    )
    assert found.asr == found.idle == 0


def test_without_units_or_pictures_to_move_there_is_nothing_to_say(net):
    original, shown = net
    trigger = Trigger(*planted.corner_trigger(), GOAL, "compact")
    assert inverse(original, {}, shown, [trigger]) is None
    only = shown.part(np.flatnonzero(shown.labels == GOAL.target))
    assert inverse(original, {original.layers[0].name: [6]}, only, [trigger]) is None
