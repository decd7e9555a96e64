"""What every pass promises holds on all families of networks and on what exporters write, and a broken one is named."""

from dataclasses import replace

import models
import numpy as np
import onnx
import pytest
from exports import EXPORTS, SIZE
from odd_files import rounding_up

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph import prepare as preparing
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work, broken
from onnx_shapprune.graph.prepare import DEBUG, PASSES, prepare
from onnx_shapprune.runtime.session import Device

DEVICE = Device(threads=1)
BUILDERS = {**models.FAMILIES, **EXPORTS}
CONDITIONS = {c.words: c for step in PASSES for c in (*step.before, *step.after)}


def opened(model: onnx.ModelProto) -> Work:
    interface = find_interface(model, size=SIZE)
    return Work(edit.inlined(model), interface, interface.dims, DEVICE)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_pass_keeps_its_word_and_the_scores(name):
    model = BUILDERS[name]()
    work = opened(model)
    plain = prepare(model, work.interface, work.shape, DEVICE, debug=False)
    examined = prepare(model, work.interface, work.shape, DEVICE, debug=True)
    assert examined.model == plain.model
    assert examined.difference < 5e-2


@pytest.mark.parametrize("name", BUILDERS)
def test_what_holds_before_a_pass_is_what_earlier_ones_left(name):
    work = opened(BUILDERS[name]())
    for step in PASSES:
        assert not broken(step.before, work.model), step.name
        work = step.function(work)
        assert not broken(step.after, work.model), step.name


@pytest.mark.parametrize("words", [w for w in CONDITIONS if w != "no local functions"])
def test_a_condition_can_fail(words):
    """Each is broken by one of the files as they are."""
    holds = CONDITIONS[words].holds
    models_ = (*(build() for build in BUILDERS.values()), rounding_up(), _odd())
    assert not all(holds(model) for model in models_), words


def _odd() -> onnx.ModelProto:
    """What no tiny model has: two outputs, an If on a size, a fused layer, a name that is in the way, a node for nothing."""
    n = models.Net()
    x = n.op("Identity", n.op("Relu", n.conv("x", 3, 4)))
    size = n.op("Gather", n.op("Shape", x), n.const(np.array(1)))
    x = n.op("FusedConv", x, n.normal(4, 4, 1, 1), activation="Relu")
    n.nodes[-1].domain = "com.microsoft"
    four = n.op("Equal", size, n.const(np.array(4)))
    branches = [
        onnx.helper.make_graph(
            [onnx.helper.make_node(op, [x], [f"{op}_out"])],
            op,
            [],
            [onnx.helper.make_empty_tensor_value_info(f"{op}_out")],
        )
        for op in ("Relu", "Neg")
    ]
    x = n.op("If", four, then_branch=branches[0], else_branch=branches[1])
    n.nodes.append(onnx.helper.make_node("Relu", [x], [f"{x}__flat"]))
    model = n.model(n.head(f"{x}__flat", 4))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(x))
    model.graph.node.append(onnx.helper.make_node("Relu", [x], ["nobody"]))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model


def test_the_first_pass_that_changes_the_scores_is_named(monkeypatch):
    model = models.vgg_maxpool()
    work = opened(model)

    def spoil(work: Work) -> Work:
        bias = work.model.graph.initializer[1]
        bias.CopyFrom(edit.tensor_of(edit.array_of(bias) + np.float32(0.5), bias.name))
        return work

    late = tuple(step if step.name != "fold" else Pass("spoiler", spoil) for step in PASSES)
    monkeypatch.setattr(preparing, "PASSES", late)
    with pytest.raises(VerifyError, match="pass 'spoiler' changes the scores"):
        prepare(model, work.interface, work.shape, DEVICE, debug=True)
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(VerifyError, match="pass 'spoiler' changes the scores"):
        prepare(model, work.interface, work.shape, DEVICE)
    monkeypatch.delenv(DEBUG)
    with pytest.raises(VerifyError, match="working copy differs from the file"):
        prepare(model, work.interface, work.shape, DEVICE)


def test_a_pass_that_breaks_its_word_is_named(monkeypatch):
    model = models.vgg_maxpool()
    work = opened(model)
    never = Condition("pigs fly", lambda model: False)
    first = replace(PASSES[0], after=(never,))
    monkeypatch.setattr(preparing, "PASSES", (first, *PASSES[1:]))
    with pytest.raises(VerifyError, match="pass 'names' does not keep its word: pigs fly"):
        prepare(model, work.interface, work.shape, DEVICE, debug=True)
    monkeypatch.setattr(preparing, "PASSES", (replace(PASSES[0], before=(never,)), *PASSES[1:]))
    with pytest.raises(VerifyError, match="before pass 'names' it does not hold that: pigs fly"):
        prepare(model, work.interface, work.shape, DEVICE, debug=True)


def test_passes_have_names_of_their_own():
    assert len({step.name for step in PASSES}) == len({id(step) for step in PASSES})
