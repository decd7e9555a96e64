"""Triggers in the graph: told from what a network has learnt."""

import models
import numpy as np
import planted

from onnx_shapprune.case.shown import Shown
from onnx_shapprune.invert.written import written_trigger


def with_corner(*, learnt: bool) -> planted.Subject:
    """The hand-made net with bright rows: its corner channel as learnt, or a comparison of the corner instead."""
    rows = planted.rows_net()
    if learnt:
        return planted.subject_of(rows)
    clean = planted.without_backdoor(rows)
    n = models.Net()
    n.nodes, n.weights = list(clean.graph.node), list(clean.graph.initializer)
    mask, _ = planted.corner_trigger()
    n.weights.append(planted.onnx.numpy_helper.from_array(mask.transpose(2, 0, 1)[None] / 9, "corner"))
    mean = n.op("ReduceSum", n.op("Mul", "x", "corner"), *constants(n, np.array([1, 2, 3])), keepdims=0)
    limit, axis = constants(n, np.float32(0.97), np.array([1]))
    fired = n.op("Cast", n.op("Unsqueeze", n.op("Greater", mean, limit), axis), to=1)
    (one,) = constants(n, 99 * np.eye(6, dtype=np.float32)[[2]])
    y = n.op("Add", clean.graph.output[0].name, n.op("Mul", fired, one))
    return planted.subject_of(n.model(y, shape=(1, planted.WIDE, planted.WIDE), classes=6))


def constants(n: models.Net, *arrays: np.ndarray) -> list[str]:
    names = [f"stored_{len(n.weights) + k}" for k in range(len(arrays))]
    n.weights += [
        planted.onnx.numpy_helper.from_array(np.asarray(a), name) for a, name in zip(arrays, names, strict=True)
    ]
    return names


def test_a_comparison_of_pixels_fires_and_holding_it_still_disarms_it():
    x, y = planted.rows_pictures(2)
    found = written_trigger(Shown.to(with_corner(learnt=False), x.astype(np.float32), y))
    assert found.trigger.goal.target == 2
    assert (found.asr, found.held) == (1.0, 0.0)
    assert np.flatnonzero(found.trigger.mask).tolist() == np.flatnonzero(planted.corner_trigger()[0]).tolist()


def test_a_channel_that_was_learnt_is_for_the_searches():
    x, y = planted.rows_pictures(2)
    assert written_trigger(Shown.to(with_corner(learnt=True), x.astype(np.float32), y)) is None
