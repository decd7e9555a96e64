"""Gradients straight through quantisation: those of a float twin that only cuts off at the ends of the range."""

import numpy as np
import onnx
import pytest
from derivative import DEVICE, gradient_model, value_info
from onnx import helper, numpy_helper

from onnx_shapprune.errors import UnsupportedOpError
from onnx_shapprune.runtime.probe import probe
from onnx_shapprune.runtime.session import Session

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4, 6)).astype(np.float32) * 2


def through(scale: np.ndarray, zero: np.ndarray, axis: int = 1, **attributes: int) -> onnx.ModelProto:
    """y = tanh(dequantise(transpose(quantise(x))))"""
    constants = [numpy_helper.from_array(v, n) for n, v in (("s", scale), ("z", zero))]
    moved = {1: 2, 2: 1, 0: 0}[axis]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis, **attributes),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("DequantizeLinear", ["t", "s", "z"], ["d"], axis=moved),
        helper.make_node("Tanh", ["d"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "q", [value_info("x", ["N", 4, 6])], [value_info("y", ["N", 6, 4])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def straight_through(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """(y, gradient of sum(y)) at X."""
    made = gradient_model(model, probe(model, {"x": X[:2]}, {"x": X}, DEVICE), "y", ["x"], weighted=False)
    return Session(model, DEVICE).run({"x": X})[0], Session(made, DEVICE).run({"x": X})[0]


@pytest.mark.parametrize(
    ("scale", "zero"),
    [(np.float32(0.02), np.uint8(100)), (RNG.uniform(0.005, 0.02, 4).astype(np.float32), np.zeros(4, np.int8))],
    ids=["one", "per-channel"],
)
def test_only_the_ends_of_the_range_stop_a_gradient(scale, zero):
    y, got = straight_through(through(np.asarray(scale), np.asarray(zero)))
    limits = np.iinfo(zero.dtype)
    s, z = (np.reshape(v, (-1, 1)).astype(np.float64) for v in (scale, zero))
    inside = (X / s + z > limits.min) & (X / s + z < limits.max)
    assert 0.1 < inside.mean() < 0.9, "vacuous"
    want = inside * (1 - y.transpose(0, 2, 1).astype(np.float64) ** 2)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_scale_made_of_the_picture_is_refused():
    model = through(np.asarray(np.float32(0.02)), np.asarray(np.uint8(0)))
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0))
    model.graph.node[1].input[1] = "peak"
    with pytest.raises(UnsupportedOpError, match="QuantizeLinear"):
        straight_through(model)
