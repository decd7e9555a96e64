"""Which channels are units, what zeroing them means in the file, and the reasons for refusing."""

import models
import numpy as np
import onnx
import pytest
from models import Net
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.edit import copy_of
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import Units, find_units
from onnx_shapprune.runtime.session import Device, Session

DEVICE = Device(threads=1)


def units_of(model: onnx.ModelProto) -> Units:
    onnx.checker.check_model(model)
    return find_units(model, model.graph.output[0].name)


def check_equation(model: onnx.ModelProto, off: dict[str, list[int]] | None = None) -> Units:
    """masked run == baked run for channels 0 and 1 of each layer (or `off`); the masks must matter."""
    units = units_of(model)
    off = off or {layer.name: [0, 1] for layer in units.layers}
    interface, shape = find_interface(model), models.shape_of(model)
    p = prepare(model, interface, shape, DEVICE)
    masked = Session(insert_masks(p.model, dict(enumerate(units.layers)), p.infos), DEVICE)
    x = models.pictures(model, 2)
    feeds = {"x": x}
    for i, layer in enumerate(units.layers):
        row = np.ones(layer.channels, np.float32)
        row[off.get(layer.name, [])] = 0
        feeds[mask_name(i)] = row.reshape(1, *mask_shape(layer, p.infos))
    got = masked.run(feeds)[0]
    baked = bake(model, units.layers, off)
    onnx.checker.check_model(baked)
    want = Session(prepare(baked, interface, shape, DEVICE).model, DEVICE).run({"x": x})[0]
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert np.abs(Session(p.model, DEVICE).run({"x": x})[0] - got).max() > 1e-4, "vacuous"
    return units


def constant_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = copy_of(model)
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in copy.graph.initializer]
    nodes.extend(copy.graph.node)
    del copy.graph.node[:], copy.graph.initializer[:]
    copy.graph.node.extend(nodes)
    return copy


def test_conv_with_bias_and_batch_norm_is_one_layer():
    n = Net()
    conv = n.conv("x", 3, 6)
    bn = n.bn(conv, 6)
    units = check_equation(n.model(n.head(n.op("Relu", bn), 6)))
    (layer,) = units.layers
    assert (layer.tensor, layer.channels, layer.axis, len(layer.parameters)) == (bn, 6, 1, 4)
    assert layer.nodes == (conv, bn)
    assert units.total == 6


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1)])
def test_bias_add_then_batch_norm_is_one_layer(shape):
    n = Net()
    x = n.bn(n.op("Add", n.normal(*shape, scale=1.0), n.conv("x", 3, 6, bias=False)), 6)
    units = check_equation(n.model(n.head(n.op("Relu", x), 6)))
    assert [(la.tensor, len(la.parameters)) for la in units.layers] == [(x, 4)]


@pytest.mark.parametrize("shape", [(), (1, 1, 1), (8,), (6, 8, 8)])
def test_an_add_that_is_no_bias_per_channel_stays_behind_the_mask(shape):
    """A vector added to an NCHW tensor of 8 columns and 8 channels runs along its columns, not its channels."""
    n = Net()
    channels = 8 if shape == (8,) else 6
    conv = n.conv("x", 3, channels)
    x = n.op("Relu", n.op("Add", conv, n.const(np.full(shape, 0.5, np.float32))))
    units = check_equation(n.model(n.head(x, channels)))
    assert [la.tensor for la in units.layers] == [conv]


@pytest.mark.parametrize("group", [1, 2, 6])
def test_grouped_conv_transpose(group):
    n = Net()
    x = n.op(
        "ConvTranspose", n.op("Relu", n.conv("x", 3, 6)), n.normal(6, 12 // group, 2, 2), n.normal(12), group=group
    )
    x = n.bn(x, 12)
    units = check_equation(
        n.model(n.head(n.op("Relu", x), 12)), {x.replace("BatchNormalization_3", "ConvTranspose_2"): [1, 7, 8]}
    )
    assert units.layers[1].parameters[0].groups == group
    assert units.layers[1].channels == 12


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_both_ways_with_batch_norm(trans):
    n = Net()
    w = n.normal(9, 192) if trans else n.normal(192, 9, scale=0.1)
    gemm = n.op("Gemm", n.op("Flatten", "x"), w, n.normal(1, 9), transB=trans)
    bn = n.bn(gemm, 9)
    units = check_equation(n.model(n.dense(n.op("Relu", bn), 9, 4)))
    assert [(la.tensor, la.parameters[0].axis) for la in units.layers] == [(bn, 0 if trans else 1)]


@pytest.mark.parametrize("between", ["Identity", "Dropout"])
def test_identity_and_dropout_are_looked_through(between):
    n = Net()
    x = n.op(between, n.bn(n.op(between, n.conv("x", 3, 6)), 6))
    units = check_equation(n.model(n.head(n.op("Relu", x), 6)))
    assert [la.op for la in units.layers] == ["Conv"]
    assert units.layers[0].tensor.startswith("BatchNormalization")


def test_weights_as_constant_nodes_give_the_same_units():
    model = models.conv_bn_relu_residual()
    units = check_equation(constant_nodes(model))
    assert units == units_of(model)


def test_a_weight_shared_through_identity_is_split():
    n = Net()
    w = n.normal(6, 6, 3, 3)
    through = n.op("Identity", w)
    x = n.op("Relu", n.conv("x", 3, 6))
    first = n.op("Conv", x, through, pads=[1] * 4)
    second = n.op("Conv", n.op("Relu", first), through, pads=[1] * 4)
    third = n.op("Conv", n.op("Relu", second), w, pads=[1] * 4)
    model = n.model(n.head(n.op("Relu", third), 6))
    units = check_equation(model, {first: [0, 3]})
    check_equation(model, {second: [1], third: [2, 5], first: [4]})
    baked = bake(model, units.layers, {first: [0]})
    assert baked.graph.initializer[0] == model.graph.initializer[0]
    assert len(baked.graph.initializer) == len(model.graph.initializer) + 1


def test_a_bias_that_reaches_its_add_through_identity_first():
    n = Net()
    shared = n.normal(6, 1, 1)
    x = n.op("Relu", n.op("Add", n.op("Identity", shared), n.conv("x", 3, 6, bias=False)))
    x = n.op("Relu", n.op("Add", n.op("Identity", shared), n.conv(x, 6, 6, bias=False)))
    units = check_equation(n.model(n.head(x, 6)))
    assert [len(la.parameters) for la in units.layers] == [2, 2]
    check_equation(n.model(n.head(x, 6)), {units.layers[0].name: [0, 1]})


def test_batch_norm_scale_that_is_also_its_variance_is_split():
    n = Net()
    ones, zeros = n.const(np.ones(6, np.float32)), n.const(np.zeros(6, np.float32))
    x = n.op("BatchNormalization", n.conv("x", 3, 6), ones, zeros, zeros, ones)
    x = n.op("BatchNormalization", n.conv(n.op("Relu", x), 6, 6), ones, zeros, zeros, ones)
    model = n.model(n.head(n.op("Relu", x), 6))
    units = check_equation(model)
    baked = bake(model, units.layers, {units.layers[0].name: [2]})
    assert baked.graph.initializer[:2] == model.graph.initializer[:2]
    norm = next(node for node in baked.graph.node if node.op_type == "BatchNormalization")
    assert norm.input[3:] == [zeros, ones]
    assert not {ones, zeros} & set(norm.input[1:3])


def test_splitting_in_an_old_file_keeps_it_valid():
    n = Net()
    w = n.normal(6, 6, 3, 3)
    x = n.op("Relu", n.conv("x", 3, 6))
    x = n.op("Relu", n.op("Conv", n.op("Relu", n.op("Conv", x, w, pads=[1] * 4)), w, pads=[1] * 4))
    model = n.model(n.head(x, 6), ir_version=3, opset=8)
    for t in n.weights:
        model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    check_equation(model)


def test_units_of_another_model_are_refused_by_bake():
    model = models.vgg_maxpool()
    layers = find_units(model, model.graph.output[0].name).layers
    off = {layers[1].name: [0]}
    with pytest.raises(VerifyError, match="layers that the model does not have: nothing"):
        bake(model, layers, {"nothing": [0]})
    with pytest.raises(VerifyError, match="was found in another model"):
        bake(models.attention(), layers, off)


@pytest.mark.parametrize("end", ["pool", "residual", "log", "concat", "unknown"])
def test_layers_that_make_the_scores_are_never_units(end):
    n = Net()
    x = n.op("Relu", n.conv("x", 3, 4))
    last = n.conv(x, 4, 4)
    expected = {last}
    if end == "residual":
        other = n.conv(x, 4, 4, 1)
        expected.add(other)
        last = n.op("Relu", n.op("Add", last, other))
    elif end == "concat":
        halves = [n.conv(x, 4, 2) for _ in range(2)]
        expected = {*halves}
        last = n.op("Concat", *halves, axis=1)
    elif end == "unknown":
        last = n.op("Erf", n.op("Exp", last))
    y = n.op("Softmax", n.op("Flatten", n.op("GlobalAveragePool", last)), axis=1)
    model = n.model(n.op("Log", y) if end == "log" else y)
    units = find_units(model, model.graph.output[0].name)
    assert set(units.classifier) == expected
    assert {r.name for r in units.refused if r.reason == "makes the class scores"} == expected
    assert len(units.layers) == 1


def test_branches_that_do_not_feed_the_scores_are_no_units():
    n = Net()
    conv = n.conv("x", 3, 6)
    bn = n.bn(conv, 6)
    side = n.head(conv, 6)
    model = n.model(n.head(n.op("Relu", bn), 6))
    model.graph.output.append(helper.make_tensor_value_info(side, TensorProto.FLOAT, ["N", 4]))
    units = find_units(model, model.graph.output[0].name)
    assert [(r.name, r.reason) for r in units.refused if r.name == side] == [(side, "does not feed the class scores")]
    assert [la.tensor for la in units.layers] == [bn]


def test_reasons_for_refusing():
    n = Net()
    computed = n.op("Conv", "x", n.op("Mul", n.normal(6, 3, 3, 3), n.normal(1)), pads=[1] * 4)
    scalar = n.op("Gemm", n.op("Flatten", n.op("Relu", computed)), n.normal(384, 8, scale=0.1), n.normal(1))
    left = n.op("MatMul", n.normal(1, 8, 8), n.op("Reshape", scalar, n.const(np.array([-1, 8, 1]))))
    constant = n.op("MatMul", n.normal(8, 8), n.normal(8, 4))
    y = n.op("MatMul", n.op("Flatten", left), constant)
    units = units_of(n.model(y))
    assert {r.name: r.reason for r in units.refused} == {
        computed: "its parameters are computed by Mul",
        scalar: "its bias of shape (1,) is not one value per channel",
        left: "its weight is the left factor",
        constant: "its data is constant",
        y: "makes the class scores",
    }
    assert units.layers == ()


def test_equal_or_missing_node_names_are_told_apart():
    model = models.vgg_maxpool()
    for node in model.graph.node:
        node.name = ""
    check_equation(model)
    for node in model.graph.node:
        node.name = "same"
    units = units_of(model)
    assert len({la.name for la in units.layers}) == len(units.layers) == 3


@pytest.mark.parametrize("store", ["raw", "float_data", "half", "half_int32"])
def test_bake_changes_the_planned_bytes_and_nothing_else(store):
    model = models.conv_bn_relu_residual()
    model.metadata_props.add(key="author", value="somebody")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if "half" in store:
            array = array.astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        if store == "float_data":
            tensor.ClearField("raw_data")
            tensor.float_data.extend(array.reshape(-1).tolist())
        elif store == "half_int32":
            tensor.ClearField("raw_data")
            tensor.int32_data.extend(array.reshape(-1).view(np.uint16).astype(np.int32).tolist())
    before = copy_of(model)
    units = find_units(model, model.graph.output[0].name)
    layer = units.layers[1]
    baked = bake(model, units.layers, {layer.name: [1, 4], units.layers[0].name: []})
    assert model == before
    planned = {p.name for p in layer.parameters}
    for old, new in zip(model.graph.initializer, baked.graph.initializer, strict=True):
        if old.name not in planned:
            assert old == new
            continue
        a, b = numpy_helper.to_array(old).copy(), numpy_helper.to_array(new)
        assert not b[[1, 4]].any()
        assert a[[1, 4]].any()
        a[[1, 4]] = 0
        np.testing.assert_array_equal(a, b)
        assert {f.name for f, _ in old.ListFields()} == {f.name for f, _ in new.ListFields()}
    copy, original = copy_of(baked), copy_of(model)
    del copy.graph.initializer[:], original.graph.initializer[:]
    assert copy == original
