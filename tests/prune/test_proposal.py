"""Proposals of both kinds of edits, and what they do to the file."""

import numpy as np
import onnx
import planted

from onnx_shapprune.case.goal import Goal
from onnx_shapprune.case.shown import Shown
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.linear import Change, Linear, find_linears, read
from onnx_shapprune.graph.units import find_units
from onnx_shapprune.invert.trigger import Trigger
from onnx_shapprune.prune.attack import begin
from onnx_shapprune.prune.bank import HuntSettings, Natural
from onnx_shapprune.prune.proposal import Original, Proposal, applied, edited
from onnx_shapprune.prune.repair import repair
from onnx_shapprune.prune.round import RoundSettings
from onnx_shapprune.prune.state import RepairSettings, task_of


def original() -> Original:
    model = planted.rows_net()
    return Original(model, find_interface(model), find_units(model, model.graph.output[0].name).layers)


def head_of(file: Original) -> tuple[Linear, np.ndarray]:
    """The last layer, and its weight [out, in]."""
    like = planted.subject_of(file.model)
    found, _ = find_linears(file.model, file.model.graph.output[0].name, like.prepared.model)
    return found[-1], read(like.prepared.model, found[-1])[0]


def changed(linear: Linear, weight: np.ndarray) -> dict[str, tuple[Linear, Change]]:
    return {linear.name: (linear, Change(weight[None], np.zeros(len(weight)), weight[None]))}


def stored(model: onnx.ModelProto, name: str) -> np.ndarray:
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def test_weights_and_units_change_together_and_nothing_else_does():
    file = original()
    before = file.model.SerializeToString()
    linear, values = head_of(file)
    values[5, 6] = 0
    layer = file.layers[0].name
    made = applied(file, Proposal({layer: [6]}, changed(linear, values)))
    assert file.model.SerializeToString() == before
    np.testing.assert_array_equal(np.sort(stored(made, linear.weight.stored.name).ravel()), np.sort(values.ravel()))
    weight = onnx.numpy_helper.to_array(made.graph.initializer[0])
    assert (weight[6] == 0).all()
    assert weight[:6].any(axis=(1, 2, 3)).all()
    assert made.graph.node == file.model.graph.node


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
        linear, values = head_of(task.original)
        asked.append("dear")
        yield Proposal(changes=changed(linear, np.zeros_like(values)))
        asked.append("cheap")
        values[5, 6] = 0
        yield Proposal(changes=changed(linear, values))
        asked.append("never")

    task = task_of(file, shown, (Goal(5),), settings, np.random.default_rng(0))
    found = repair(task, begin(task, [known], np.random.default_rng(0)), np.random.default_rng(0), propose=realigned)
    assert found.repaired, found.reason
    assert asked == ["dear", "cheap"], "the second is asked for where the first costs too much, and no third"
    assert found.off == {}
    ((_, change),) = found.proposal.changes.values()
    assert change.weight[0, 5, 6] == 0
    mended = edited(file, found.proposal, shown.subject).subject
    assert (mended.logits(known.apply(shown.pictures)).argmax(1) == y).all()
