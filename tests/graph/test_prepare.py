"""Folding, freeing the batch, stripping the end, and files that cannot be prepared."""

import models
import numpy as np
import onnx
import pytest
from models import Net
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.interface import find_interface
from onnx_shapprune.graph.passes.batch import free_batch
from onnx_shapprune.graph.passes.fold import fold_batch_norms, fold_constants
from onnx_shapprune.graph.prepare import Prepared, prepare
from onnx_shapprune.runtime.session import Device, Session

DEVICE = Device(threads=1)


def prepared(model: onnx.ModelProto, **interface) -> Prepared:
    return prepare(model, find_interface(model, **interface), models.shape_of(model), DEVICE)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return Session(model, DEVICE).run({"x": x})[0]


@pytest.mark.parametrize("kind", ["conv", "grouped", "transpose", "grouped_transpose", "gemm", "gemm_t"])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_folded_exactly(kind, bias):
    n = Net()
    extra = [n.normal(6, scale=1.0)] if bias else []
    stem = n.conv("x", 3, 4)
    if "gemm" in kind:
        w = n.normal(6, 192) if kind == "gemm_t" else n.normal(192, 6, scale=0.1)
        y = n.op("Gemm", n.op("Flatten", "x"), w, *extra, transB=int(kind == "gemm_t"))
    elif "transpose" in kind:
        group = 2 if "grouped" in kind else 1
        y = n.op("ConvTranspose", stem, n.normal(4, 6 // group, 2, 2), *extra, group=group)
    else:
        group = 2 if "grouped" in kind else 1
        y = n.op("Conv", stem, n.normal(6, 4 // group, 3, 3), *extra, group=group)
    y = n.op("Relu", n.bn(y, 6))
    model = n.model(n.dense(y, 6, 4) if "gemm" in kind else n.head(y, 6))
    x = models.pictures(model, 2)
    want = run(model, x)
    fold_batch_norms(model.graph)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, x), want, atol=2e-6)


def test_constants_are_folded_and_random_numbers_are_not():
    n = Net()
    w = n.op("Transpose", n.op("Mul", n.normal(4, 192), n.normal(1, scale=1.0)), perm=[1, 0])
    y = n.op("MatMul", n.op("Flatten", "x"), w)
    model = n.model(n.op("Add", y, n.op("RandomNormal", shape=[4])))
    fold_constants(model, DEVICE)
    assert [node.op_type for node in model.graph.node] == ["Flatten", "MatMul", "RandomNormal", "Add"]
    assert [t.name for t in model.graph.initializer] == [w]


@pytest.mark.parametrize("family", ["cntk", "attention"])
def test_a_batch_fixed_at_one_is_freed(family):
    model = models.FAMILIES[family]()
    p = prepared(model)
    assert p.batch_free
    assert p.infos[p.logits].shape == (None, 4)


def test_a_graph_that_starts_with_a_fixed_reshape_is_freed():
    n = Net()
    y = n.dense(n.op("Relu", n.dense(n.op("Reshape", "x", n.const(np.array([1, 192]))), 192, 8)), 8, 4)
    assert prepared(n.model(y, batch=1)).batch_free


def test_a_batch_merged_into_another_axis_is_left_to_loops():
    n = Net()
    x = n.op("Reshape", n.op("Transpose", "x", perm=[1, 0, 2, 3]), n.const(np.array([3, 64])))
    x = n.op("Reshape", n.op("Transpose", x, perm=[1, 0]), n.const(np.array([1, 192])))
    model = n.model(n.dense(x, 192, 4), batch=1)
    p = prepared(model)
    assert not p.batch_free
    picture = models.pictures(model, 1)
    np.testing.assert_allclose(run(p.model, picture), run(model, picture), atol=2e-6)


def test_a_fixed_batch_that_cannot_be_opened_is_refused():
    n = Net()
    x = n.op("Reshape", n.op("Transpose", "x", perm=[1, 0, 2, 3]), n.const(np.array([3, 128])))
    x = n.op("Reshape", n.op("Transpose", x, perm=[1, 0]), n.const(np.array([2, 192])))
    with pytest.raises(ModelError, match="takes 2 pictures at a time and cannot be opened for one"):
        prepared(n.model(n.dense(x, 192, 4), batch=2))


def test_pictures_that_influence_each_other_do_not_count_as_batched():
    n = Net()
    centred = n.op("Sub", "x", n.op("ReduceMean", "x", axes=[0]))
    model = n.model(n.dense(n.op("Flatten", n.op("Add", centred, "x")), 192, 4))
    assert free_batch(model, "x", models.SHAPE, DEVICE) == (model, False)


@pytest.mark.parametrize("opset", [9, 12, 13, 17])
@pytest.mark.parametrize("after", [(), ("Identity",), ("Dropout",)])
def test_a_final_softmax_is_stripped_at_every_opset(opset, after):
    n = Net()
    y = n.op("Softmax", n.head(n.op("Relu", n.conv("x", 3, 5)), 5), axis=1)
    for op in after:
        y = n.op(op, y)
    p = prepared(n.model(y, opset=opset))
    assert p.stripped == ("Softmax",)
    assert p.model.graph.node[-1].op_type == "Gemm"


def test_sigmoid_and_four_dimensional_ends():
    n = Net()
    y = n.op("Sigmoid", n.op("GlobalAveragePool", n.conv("x", 3, 4)))
    model = n.model(y)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", 4, 1, 1]))
    p = prepared(model)
    assert (p.stripped, p.classes, p.infos[p.logits].shape) == (("Sigmoid",), 4, (None, 4))


def test_half_precision_files_become_single_precision():
    model = models.conv_bn_relu_residual()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in [*model.graph.input, *model.graph.output]:
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    p = prepared(model)
    assert {t.data_type for t in p.model.graph.initializer} == {TensorProto.FLOAT}
    assert 0 < p.difference < 2e-2


def test_a_file_fixed_at_batch_four_is_prepared():
    n = Net()
    p = prepared(n.model(n.head(n.op("Relu", n.conv("x", 3, 5)), 5), batch=4))
    assert p.batch_free
    assert p.difference < 1e-6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("one_class", "has one value per picture"),
        ("nan", "NaN or infinity"),
        ("custom", "cannot open the graph"),
        ("silent", "gives no scores"),
        ("by place", "one picture gets 2 rows of scores"),
    ],
)
def test_files_that_cannot_be_prepared(change, reason):
    n = Net()
    y = n.dense(n.op("Flatten", "x"), 192, 1 if change == "one_class" else 4)
    model = n.model(y, classes=1 if change == "one_class" else 4)
    if change == "silent":  # the batch is cut away
        cut = [n.const(np.array([v])) for v in (9, 9, 0)]
        nothing = n.op("Slice", "x", *cut)
        y = n.dense(n.op("Flatten", nothing), 192, 4)
        model = n.model(y)
    if change == "by place":
        y = n.dense(n.op("Flatten", n.op("Mul", "x", n.const(np.ones((2, 1, 1, 1), np.float32)))), 192, 4)
        model = n.model(y, batch=2)
    if change == "nan":
        bias = numpy_helper.to_array(model.graph.initializer[1]) * np.float32("nan")
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(bias, model.graph.initializer[1].name))
    if change == "custom":
        model.graph.node[0].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelError, match=reason):
        prepared(model)
