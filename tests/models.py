"""Tiny deterministic classifiers, one per family of networks met in the wild: input x, 4 classes, few weights."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLASSES = 4
SHAPE = (3, 8, 8)
NHWC_SHAPE = (8, 8, 3)
Attribute = int | float | str | Sequence[int] | Sequence[float]


class Net:
    """Collects nodes and weights; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """A node with one output; node and output share a numbered name."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def const(self, array: NDArray[np.generic]) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int, scale: float | None = None) -> str:
        """Random weights, scaled by the fan-in unless told otherwise."""
        spread = scale if scale is not None else 1.5 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.const((self.rng.normal(size=shape) * spread).astype(np.float32))

    def conv(self, x: str, before: int, after: int, size: int = 3, *, group: int = 1, bias: bool = True) -> str:
        w = self.normal(after, before // group, size, size)
        extra = [self.normal(after, scale=0.3)] if bias else []
        return self.op("Conv", x, w, *extra, group=group, kernel_shape=[size, size], pads=[size // 2] * 4)

    def bn(self, x: str, channels: int) -> str:
        scale, var = (self.const(self.rng.uniform(0.5, 1.5, channels).astype(np.float32)) for _ in range(2))
        bias, mean = (self.normal(channels, scale=0.3) for _ in range(2))
        return self.op("BatchNormalization", x, scale, bias, mean, var)

    def dense(self, x: str, before: int, after: int) -> str:
        return self.op("Gemm", x, self.normal(after, before), self.normal(after, scale=0.3), transB=1)

    def head(self, x: str, channels: int) -> str:
        """Global average pool, flatten, dense layer to the classes."""
        return self.dense(self.op("Flatten", self.op("GlobalAveragePool", x)), channels, CLASSES)

    def model(
        self, y: str, *, shape: Sequence[int] = SHAPE, classes: int = CLASSES, opset: int = 17,
        batch: int | None = None, input_name: str = "x", ir_version: int = 8,
    ) -> onnx.ModelProto:  # fmt: skip
        x = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch or "N", *shape])
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, [batch or "N", classes])
        graph = helper.make_graph(self.nodes, "tiny", [x], [out], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def conv_bn_relu_residual(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    stem = n.op("Relu", n.bn(n.conv("x", 3, 6, bias=False), 6))
    inner = n.op("Relu", n.bn(n.conv(stem, 6, 6, bias=False), 6))
    main = n.bn(n.conv(inner, 6, 8), 8)
    short = n.bn(n.conv(stem, 6, 8, 1, bias=False), 8)
    return n.model(n.head(n.op("Relu", n.op("Add", main, short)), 8))


def vgg_maxpool(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.op("MaxPool", n.op("Relu", n.conv("x", 3, 5)), kernel_shape=[2, 2], strides=[2, 2])
    x = n.op("MaxPool", n.op("Relu", n.conv(x, 5, 6)), kernel_shape=[2, 2], strides=[2, 2])
    x = n.op("Relu", n.dense(n.op("Flatten", x), 24, 7))
    return n.model(n.op("Softmax", n.dense(x, 7, CLASSES), axis=1))


def depthwise(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.op("Clip", n.bn(n.conv("x", 3, 6, bias=False), 6), n.const(np.float32(0)), n.const(np.float32(6)))
    x = n.op("Relu", n.bn(n.conv(x, 6, 6, group=6, bias=False), 6))
    x = n.op("Relu", n.conv(n.conv(x, 6, 8, 1), 8, 8, group=2))
    return n.model(n.head(x, 8))


def concat(seed: int = 0) -> onnx.ModelProto:
    """Densely connected: each layer reads all earlier ones, and BatchNorms stand behind Concats."""
    n = Net(seed)
    x = n.conv("x", 3, 4, bias=False)
    channels = 4
    for _ in range(2):
        new = n.conv(n.op("Relu", n.bn(x, channels)), channels, 3, bias=False)
        x = n.op("Concat", x, new, axis=1)
        channels += 3
    return n.model(n.head(n.op("Relu", n.bn(x, channels)), channels))


def squeeze_excite(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.op("Relu", n.conv("x", 3, 6))
    gate = n.op("Relu", n.conv(n.op("GlobalAveragePool", x), 6, 3, 1))
    gate = n.op("HardSigmoid", n.conv(gate, 3, 6, 1))
    return n.model(n.head(n.conv(n.op("Mul", x, gate), 6, 6), 6))


def attention(seed: int = 0) -> onnx.ModelProto:
    """One transformer block over 16 patches of 2 x 2 with a class token, exported at batch 1."""
    n = Net(seed)
    d, tokens = 6, 17

    def linear(x: str, before: int, after: int) -> str:
        return n.op("Add", n.normal(after, scale=0.2), n.op("MatMul", x, n.normal(before, after)))

    def norm(x: str) -> str:
        return n.op("LayerNormalization", x, n.normal(d, scale=1.0), n.normal(d, scale=0.2), axis=-1)

    patches = n.op("Conv", "x", n.normal(d, 3, 2, 2), n.normal(d), kernel_shape=[2, 2], strides=[2, 2])
    x = n.op("Reshape", patches, n.const(np.array([1, d, 16])))
    x = n.op("Concat", n.normal(1, 1, d, scale=1.0), n.op("Transpose", x, perm=[0, 2, 1]), axis=1)
    q, k, v = (linear(norm(x), d, d) for _ in range(3))
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
    x = n.op("Add", x, linear(n.op("MatMul", scores, v), d, d))
    x = n.op("Add", x, linear(n.op("Relu", linear(norm(x), d, 9)), 9, d))
    x = n.op("Gather", n.op("Reshape", norm(x), n.const(np.array([1, tokens, d]))), n.const(np.array(0)), axis=1)
    return n.model(n.dense(x, d, CLASSES), batch=1)


def nhwc(seed: int = 0) -> onnx.ModelProto:
    """Channels-last at both ends with a MatMul head, as converters from TensorFlow write it."""
    n = Net(seed)
    x = n.op("Relu", n.conv(n.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 5))
    x = n.op("Relu", n.op("Transpose", n.conv(x, 5, 6), perm=[0, 2, 3, 1]))
    x = n.op("ReduceMean", x, axes=[1, 2], keepdims=0)
    x = n.op("Relu", n.op("Add", n.op("MatMul", x, n.normal(6, 7)), n.normal(7)))
    y = n.op("Add", n.op("MatMul", x, n.normal(7, CLASSES)), n.normal(CLASSES))
    return n.model(n.op("Softmax", y), shape=NHWC_SHAPE)


def cntk(seed: int = 0) -> onnx.ModelProto:
    """Bias by Add of [C, 1, 1], weights behind a Reshape, fixed batch 1, initializers listed as inputs."""
    n = Net(seed)
    x = n.op("Relu", n.op("Add", n.conv("x", 3, 5, bias=False), n.normal(5, 1, 1)))
    x = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = n.op("Reshape", x, n.const(np.array([1, 80])))
    w = n.op("Reshape", n.normal(5, 16, CLASSES), n.const(np.array([80, CLASSES])))
    model = n.model(n.op("Add", n.op("MatMul", x, w), n.normal(1, CLASSES)), opset=8, batch=1, ir_version=3)
    for tensor in n.weights:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return model


def preact(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed)
    x = n.conv("x", 3, 6)
    x = n.op("Add", x, n.conv(n.op("Relu", n.bn(x, 6)), 6, 6))
    x = n.op("Add", x, n.conv(n.op("Relu", n.bn(x, 6)), 6, 6, bias=False))
    return n.model(n.head(n.op("Relu", n.bn(x, 6)), 6))


FAMILIES: dict[str, Callable[..., onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        conv_bn_relu_residual, vgg_maxpool, depthwise, concat, squeeze_excite, attention, nhwc, cntk, preact,
    )
}  # fmt: skip


def shape_of(model: onnx.ModelProto) -> tuple[int, ...]:
    """The picture shape of a tiny model, without the batch dimension."""
    return tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])


def pictures(model: onnx.ModelProto, count: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 [count, ...] in 0..1."""
    return np.random.default_rng(seed).random((count, *shape_of(model)), np.float32)
