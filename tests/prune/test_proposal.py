"""Proposals of both kinds of edits, and what they do to the file."""

import numpy as np
import onnx
import planted
import pytest

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.bank import HuntSettings, Natural
from onnx_shapprune.prune.proposal import Original, Proposal, applied, edited
from onnx_shapprune.prune.repair import repair
from onnx_shapprune.prune.round import RoundSettings
from onnx_shapprune.prune.state import RepairSettings, task_of


def original() -> Original:
    model = planted.rows_net()
    return Original(model, find_interface(model), find_units(model, model.graph.output[0].name).layers)


def head_of(model: onnx.ModelProto) -> tuple[str, np.ndarray]:
    """Name and values of the last layer's weight."""
    head = next(t for t in model.graph.initializer if tuple(t.dims) == (6, 7))
    return head.name, onnx.numpy_helper.to_array(head).copy()


def test_constants_and_units_change_together_and_nothing_else_does():
    file = original()
    before = file.model.SerializeToString()
    name, values = head_of(file.model)
    values[5, 6] = 0
    layer = file.layers[0].name
    made = applied(file, Proposal({layer: [6]}, {name: values}))
    assert file.model.SerializeToString() == before
    np.testing.assert_array_equal(head_of(made)[1], values)
    weight = onnx.numpy_helper.to_array(made.graph.initializer[0])
    assert (weight[6] == 0).all()
    assert weight[:6].any(axis=(1, 2, 3)).all()
    assert made.graph.node == file.model.graph.node


def test_a_unit_that_is_off_stays_off_whatever_is_stored():
    file = original()
    weight = file.model.graph.initializer[0]
    everywhere = np.ones(tuple(weight.dims), np.float32)
    made = applied(file, Proposal({file.layers[0].name: [2]}, {weight.name: everywhere}))
    stored = onnx.numpy_helper.to_array(made.graph.initializer[0])
    assert (stored[2] == 0).all()
    assert (np.delete(stored, 2, axis=0) == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n, v: {"nowhere": v}, "stores no constant 'nowhere'"),
        (lambda n, v: {n: v[:1]}, "cannot become"),
        (lambda n, v: {n: v.astype(np.float64)}, "cannot become"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    file = original()
    with pytest.raises(VerifyError, match=words):
        applied(file, Proposal(weights=change(*head_of(file.model))))


def test_a_repair_takes_edited_weights_from_whoever_proposes_them():
    # The head's one weight that carries the trigger is taken out: too dear an edit first, which is refused.
    file = original()
    x, y = planted.rows_pictures(2)
    shown = Shown.to(planted.subject_of(file.model), x.astype(np.float32), y)
    known = Trigger(*planted.corner_trigger(), Goal(5), "compact")
    settings = RepairSettings(
        max_units=12, clean_budget=0.02, sides=(3, 4, 5), natural={Goal(5): Natural(3, {"compact": 0.5}, None)},
        families={}, views=48, hunt=HuntSettings(), round=RoundSettings(permutations=4),
    )  # fmt: skip
    asked: list[str] = []

    def realigned(task, state, rng, progress):
        assert state.bank
        if state.held:
            return
        name, values = head_of(task.original.model)
        asked.append("dear")
        yield Proposal(weights={name: np.zeros_like(values)})
        asked.append("cheap")
        values[5, 6] = 0
        yield Proposal(weights={name: values})
        asked.append("never")

    task = task_of(file, shown, (Goal(5),), settings, np.random.default_rng(0))
    found = repair(task, [known], np.random.default_rng(0), propose=realigned)
    assert found.repaired, found.reason
    assert asked == ["dear", "cheap"], "the second is asked for where the first costs too much, and no third"
    assert found.off == {}
    (name,) = found.proposal.weights
    assert found.proposal.weights[name][5, 6] == 0
    mended = edited(file, found.proposal, shown.subject).subject
    assert (mended.logits(known.apply(shown.pictures)).argmax(1) == y).all()
