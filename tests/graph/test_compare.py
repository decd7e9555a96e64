"""What differs between two files: exactly the planned zeros, and nothing is overlooked."""

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.compare import compare, explained
from onnx_shapprune.graph.units import Units, find_units


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
