"""What differs between two files: exactly the planned zeros, and nothing is overlooked."""

import exports
import models
import numpy as np
import onnx
import pytest
from equations import DEVICE
from onnx import helper, numpy_helper

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.compare import Difference, compare, explained
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.linear import Change, Linear, find_linears, read, rewrite
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import Units, find_units, linear_layers


def units_of(model: onnx.ModelProto) -> Units:
    return find_units(model, model.graph.output[0].name)


def up_convolution() -> onnx.ModelProto:
    """A grouped ConvTranspose between two convolutions."""
    n = models.Net(1)
    x = n.op("Relu", n.conv("x", 3, 6))
    x = n.op("ConvTranspose", x, n.normal(6, 2, 2, 2), n.normal(6), group=3, kernel_shape=[2, 2], strides=[2, 2])
    return n.model(n.head(n.conv(n.op("Relu", x), 6, 5), 5))


GRAPHS = {**models.FAMILIES, "up_convolution": up_convolution}


@pytest.mark.parametrize("family", GRAPHS)
def test_a_file_equals_itself(family):
    model = GRAPHS[family]()
    found = compare(model, GRAPHS[family](), units_of(model).layers)
    assert (found.changed, found.zeroed, found.other) == ((), (), ())


@pytest.mark.parametrize("family", GRAPHS)
@pytest.mark.parametrize("seed", range(4))
def test_exactly_the_baked_units_are_found(family, seed):
    model, rng = GRAPHS[family](), np.random.default_rng(seed)
    layers = units_of(model).layers
    off = {la.name: np.flatnonzero(rng.random(la.channels) < 0.3).tolist() for la in layers}
    found = compare(model, bake(model, layers, off), layers)
    assert set(found.zeroed) == {(name, c) for name, channels in off.items() for c in channels}
    assert len(found.zeroed) == len(set(found.zeroed))
    assert found.other == ()
    touched = {p.name for la in layers if off[la.name] for p in la.parameters}
    assert set(found.changed) == touched


@pytest.mark.parametrize("family", ["conv_bn_relu_residual", "up_convolution", "vgg_maxpool", "preact"])
def test_each_unit_alone(family):
    model = GRAPHS[family]()
    layers = units_of(model).layers
    assert {la.op for la in layers} & {"Conv", "ConvTranspose", "Gemm", "BatchNormalization"}
    for layer in layers:
        for channel in range(layer.channels):
            found = compare(model, bake(model, layers, {layer.name: [channel]}), layers)
            assert found.zeroed == ((layer.name, channel),)


def test_the_families_cover_the_kinds_of_layers():
    ops = {la.op for build in GRAPHS.values() for la in units_of(build()).layers}
    assert ops == {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"}


def test_units_that_were_off_before_are_not_news():
    model = models.vgg_maxpool()
    layers = units_of(model).layers
    first = bake(model, layers, {layers[0].name: [1]})
    second = bake(first, layers, {layers[0].name: [1, 3]})
    assert compare(first, second, layers).zeroed == ((layers[0].name, 3),)


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def test_a_changed_weight_is_reported_but_no_unit_is_off():
    model, other = models.vgg_maxpool(), models.vgg_maxpool()
    layers = units_of(model).layers
    name = layers[0].parameters[0].name
    tensor = weight(other, name)
    array = numpy_helper.to_array(tensor).copy()
    array[0] *= 1.01
    array[1] = 0  # its bias stays: the channel is constant, not off
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    found = compare(model, other, layers)
    assert (found.changed, found.zeroed, found.other) == ((name,), (), ())
    assert explained(model, other, layers).other == (f"constant {name} holds other values",)


def changed_attribute(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "MaxPool").attribute[0].ints[0] = 3


def changed_class_order(model: onnx.ModelProto) -> None:
    head = model.graph.node[-2]
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "extra"))
    model.graph.node.append(helper.make_node("MatMul", [model.graph.node[-1].output[0], "extra"], ["z"]))
    assert head.op_type == "Gemm"


def changed_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 16


def changed_shape(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.concatenate([array, array]), tensor.name))


def changed_type(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))


def missing_constant(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]


def changed_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_attribute, "nodes of the graph differ"),
        (changed_class_order, "nodes of the graph differ"),
        (changed_opset, "opset"),
        (changed_shape, "another shape or type"),
        (changed_type, "another shape or type"),
        (missing_constant, "constants are missing"),
        (changed_output, "inputs or outputs differ"),
    ],
)
def test_anything_else_is_said(change, words):
    model, other = models.vgg_maxpool(), models.vgg_maxpool()
    change(other)
    found = compare(model, other, units_of(model).layers)
    assert any(words in line for line in found.other)


def test_constants_that_are_nodes_are_compared_by_value():
    def build(value: float) -> onnx.ModelProto:
        model = models.vgg_maxpool()
        tensor = numpy_helper.from_array(np.float32(value).reshape(1), "v")
        model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=tensor))
        return model

    layers = units_of(build(1)).layers
    assert compare(build(1), build(1), layers).changed == ()
    found = compare(build(1), build(2), layers)
    assert (found.changed, found.other) == (("k",), ())


def test_switched_off_channels_are_explained_and_a_zeroed_class_row_is_not():
    model = models.vgg_maxpool()
    layers = units_of(model).layers
    off = {layers[0].name: [1, 2], layers[1].name: [0]}
    baked = bake(model, layers, off)
    found = explained(model, baked, layers)
    assert found.other == ()
    assert set(found.zeroed) == {(name, c) for name, channels in off.items() for c in channels}
    head = next(n for n in reversed(baked.graph.node) if n.op_type in ("Gemm", "MatMul")).input[1]
    tensor = weight(baked, head)
    array = numpy_helper.to_array(tensor).copy()
    array[0] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, head))
    assert explained(model, baked, layers).other == (f"constant {head} holds other values",)


def shared_weights() -> onnx.ModelProto:
    """One weight for two convolutions, and one for a layer and for what is no layer."""
    n = models.Net(2)
    w, b = n.normal(3, 3, 3, 3), n.normal(3)
    x = n.op("Relu", n.op("Conv", "x", w, b, pads=[1] * 4))
    x = n.op("Relu", n.op("Conv", x, w, n.normal(3), pads=[1] * 4))
    v = n.normal(3, 5, scale=0.5)
    x = n.op("MatMul", n.op("Flatten", n.op("GlobalAveragePool", x)), v)
    x = n.op("Add", x, n.op("ReduceMax", v, axes=[0], keepdims=1))
    return n.model(n.dense(n.op("Tanh", x), 5, models.CLASSES))


REWRITTEN = {
    **GRAPHS, "shared_weights": shared_weights,
    **{n: exports.EXPORTS[n] for n in ("qdq", "half", "generated_weights", "integer_residual", "local_function", "sparse")},
}  # fmt: skip


def realigned(
    model: onnx.ModelProto, names: list[str] | None = None, seed: int = 0
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """The file with random other weights and biases in these linear layers, or all, and how far the weights went."""
    interface = find_interface(model)
    copy = prepare(model, interface, models.shape_of(model), DEVICE).model
    rng = np.random.default_rng(seed)
    changes: dict[str, tuple[Linear, Change]] = {}
    for linear in find_linears(model, interface.output, copy)[0]:
        if names is None or linear.name in names:
            weight = read(copy, linear)
            shift = rng.normal(size=weight.shape[0] * weight.shape[1]) * (linear.shift is not None)
            changes[linear.name] = (linear, Change(weight * rng.uniform(0.2, 0.9, weight.shape), shift, weight))
    return rewrite(model, changes), {name: change.share for name, (_, change) in changes.items()}


def repaired(before: onnx.ModelProto, after: onnx.ModelProto) -> Difference:
    linears, _ = linear_layers(before, before.graph.output[0].name)
    return explained(before, after, units_of(before).layers, linears)


@pytest.mark.parametrize("family", REWRITTEN)
def test_a_realigned_file_is_explained_with_how_far_each_layer_went(family):
    model = REWRITTEN[family]()
    after, shares = realigned(model)
    found = repaired(model, after)
    assert (found.other, found.zeroed) == ((), ())
    assert {name for name, _ in found.realigned} == set(shares)
    # A folded normalisation weighs the rows of a layer otherwise than the file does, and halves and integers are rounded.
    assert dict(found.realigned) == pytest.approx(shares, rel=0.3)
    if family in ("vgg_maxpool", "up_convolution", "shared_weights", "nhwc"):
        assert dict(found.realigned) == pytest.approx(shares, rel=1e-4)
    assert explained(model, after, units_of(model).layers).other, "it is the linear layers that explain it"


@pytest.mark.parametrize("family", REWRITTEN)
def test_each_layer_alone(family):
    model = REWRITTEN[family]()
    for name in realigned(model)[1]:
        found = repaired(model, realigned(model, [name])[0])
        assert found.other == ()
        assert [n for n, _ in found.realigned] == [name]


@pytest.mark.parametrize("family", REWRITTEN)
def test_units_that_are_off_and_layers_that_are_realigned(family):
    model, rng = REWRITTEN[family](), np.random.default_rng(3)
    layers = units_of(model).layers
    off = {la.name: np.flatnonzero(rng.random(la.channels) < 0.3).tolist() for la in layers}
    baked = bake(model, layers, off)
    interface = find_interface(model)
    copy = prepare(baked, interface, models.shape_of(model), DEVICE).model
    linears, _ = find_linears(baked, interface.output, copy)
    changes = {}
    for linear in linears:
        weight = read(copy, linear)
        rows = (weight != 0).any(axis=2).reshape(-1)
        shift = rng.normal(size=rows.shape) * rows * (linear.shift is not None)
        changes[linear.name] = (linear, Change(weight * rng.uniform(0.2, 0.9, weight.shape), shift, weight))
    found = repaired(model, rewrite(baked, changes))
    assert found.other == ()
    assert found.zeroed
    assert found.zeroed == compare(model, baked, layers).zeroed
    live = {linear.name for linear in linears if read(copy, linear).any()}
    assert live <= {name for name, _ in found.realigned}


def test_other_values_that_belong_to_no_linear_layer_are_not_explained():
    model = models.conv_bn_relu_residual()
    after, _ = realigned(model)
    variance = next(n for n in model.graph.node if n.op_type == "BatchNormalization").input[4]
    tensor = weight(after, variance)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), variance))
    found = repaired(model, after)
    assert found.other == (f"constant {variance} holds other values",)
    assert found.realigned


def test_a_shared_weight_that_is_changed_for_all_is_not_explained():
    model = shared_weights()
    for node, after in ((model.graph.node[0], shared_weights()), (model.graph.node[6], shared_weights())):
        tensor = weight(after, node.input[1])
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(0.5), node.input[1]))
        assert repaired(model, after).other == (f"constant {node.input[1]} holds other values",)


def test_a_shared_weight_has_two_copies_once_both_layers_are_realigned():
    model = shared_weights()
    first, second = (n.name for n in model.graph.node if n.op_type == "Conv")
    after, shares = realigned(model, [first, second])
    found = repaired(model, after)
    assert found.other == ()
    assert dict(found.realigned) == pytest.approx(shares, rel=1e-4)
    assert shares[first] != pytest.approx(shares[second], rel=1e-3)
