"""Small classifiers with random weights, one per architecture family, as plain ONNX nodes in either precision."""

from collections.abc import Callable

import numpy as np
import onnx
from derivative import Array, value_info
from onnx import helper, numpy_helper

Network = Callable[["Layers"], str]
PICTURE = (3, 12, 12)
CLASSES = 5


class Layers:
    """Collects nodes; calling it appends one and returns its output."""

    def __init__(self, dtype: type[np.floating]) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.masks: list[onnx.ValueInfoProto] = []
        self.rng = np.random.default_rng(5)

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"{op}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        node = helper.make_node(op, inputs, names, name=names[0])
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        return names[0]

    def const(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        kept = value.astype(self.dtype) if value.dtype.kind == "f" else value
        self.constants.append(numpy_helper.from_array(kept, name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def weight(self, *shape: int) -> str:
        return self.const(self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:], initial=1.0)) * 1.4)

    def conv(self, x: str, cin: int, cout: int, k: int = 3, *, group: int = 1, **attributes: list[int]) -> str:
        bias = self.const(self.rng.uniform(-0.3, 0.3, cout))
        options: dict[str, object] = {"group": group, **attributes}
        return self("Conv", x, self.weight(cout, cin // group, k, k), bias, outputs=1, **options)

    def masked(self, x: str, channels: int) -> str:
        """x times a graph input of ones and other numbers, the way coalitions switch channels off."""
        name = f"mask{len(self.masks)}"
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        self.masks.append(value_info(name, ["N", channels, 1, 1], kind))
        return self("Mul", x, name)

    def head(self, x: str, width: int) -> str:
        flat = self("Flatten", self("GlobalAveragePool", x))
        return self("Gemm", flat, self.weight(CLASSES, width), self.weight(CLASSES), transB=1)


def residual(b: Layers) -> str:
    x = b("Relu", b.masked(b.conv("x", 3, 16, pads=[1] * 4), 16))
    for stride in (1, 2):
        inner = b("Relu", b.conv(x, 16, 16, pads=[1] * 4, strides=[stride] * 2))
        inner = b.masked(b.conv(inner, 16, 16, pads=[1] * 4), 16)
        skip = x if stride == 1 else b.conv(x, 16, 16, 1, strides=[2, 2])
        x = b("Relu", b("Add", inner, skip))
    return b.head(x, 16)


def vgg(b: Layers) -> str:
    x = b("MaxPool", b("Relu", b.conv("x", 3, 16, pads=[1] * 4)), kernel_shape=[2, 2], strides=[2, 2])
    x = b("Relu", b.masked(b.conv(x, 16, 24, pads=[1] * 4), 24))
    x = b("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = b("Relu", b("Gemm", b("Flatten", x), b.weight(24 * 9, 20), b.weight(20)))
    return b("MatMul", x, b.weight(20, CLASSES))


def mobile(b: Layers) -> str:
    low, high = b.const(np.array(0.0)), b.const(np.array(6.0))
    x = b("HardSwish", b.conv("x", 3, 16, pads=[1] * 4, strides=[2, 2]))
    x = b("Clip", b.conv(x, 16, 32, 1), low, high)
    x = b("Clip", b.masked(b.conv(x, 32, 32, pads=[1] * 4, strides=[2, 2], group=32), 32), low, high)
    gate = b("Relu", b.conv(b("ReduceMean", x, b.ints(2, 3), keepdims=1), 32, 8, 1))
    x = b("Mul", x, b("HardSigmoid", b.conv(gate, 8, 32, 1)))
    return b.head(b.conv(x, 32, 16, 1), 16)


def dense(b: Layers) -> str:
    x, width = b.conv("x", 3, 8, pads=[1] * 4), 8
    for _ in range(3):
        stats = [b.const(b.rng.uniform(0.5, 1.5, width)) for _ in range(4)]
        inner = b("Relu", b("BatchNormalization", x, *stats))
        x, width = b("Concat", x, b.conv(inner, width, 4, pads=[1] * 4), axis=1), width + 4
    x = b("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    return b.head(b("Elu", x), width)


def attention(b: Layers) -> str:
    width, heads = 12, 3
    x = b.conv("x", 3, width, 4, strides=[4, 4])
    x = b("Transpose", b("Reshape", x, b.ints(0, width, -1)), perm=[0, 2, 1])
    inner = b("LayerNormalization", x, b.const(b.rng.uniform(0.5, 1.5, width)), b.weight(width))
    qkv = b("Reshape", b("MatMul", inner, b.weight(width, 3 * width)), b.ints(0, 9, 3, heads, width // heads))
    qkv = b("Transpose", qkv, perm=[2, 0, 3, 1, 4])
    q, k, v = (b("Gather", qkv, b.const(np.array(i)), axis=0) for i in range(3))
    scores = b("Mul", b("MatMul", q, b("Transpose", k, perm=[0, 1, 3, 2])), b.const(np.array(0.5)))
    mixed = b("Transpose", b("MatMul", b("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    x = b("Add", x, b("MatMul", b("Reshape", mixed, b.ints(0, 9, width)), b.weight(width, width)))
    half = b("Mul", x, b("Add", b("Erf", b("Mul", x, b.const(np.array(0.7)))), b.const(np.array(1.0))))
    return b("MatMul", b("ReduceMean", half, b.ints(1), keepdims=0), b.weight(width, CLASSES))


def shuffled(b: Layers) -> str:
    """Slice bounds computed from Shape, channel shuffle by Reshape and Transpose, Split, Resize."""
    x = b.conv("x", 3, 16, pads=[1] * 4)
    half = b("Div", b("Gather", b("Shape", x), b.ints(1)), b.ints(2))
    left = b("Slice", x, b.ints(0), half, b.ints(1))
    right = b("Slice", x, half, b.ints(1 << 62), b.ints(1))
    x = b("Concat", b("Tanh", left), b.conv(right, 8, 8, pads=[1] * 4), axis=1)
    x = b("Transpose", b("Reshape", x, b.ints(0, 2, 8, 12, 12)), perm=[0, 2, 1, 3, 4])
    x = b("Reshape", x, b.ints(0, 16, 12, 12))
    x = b("Resize", x, "", "", b.ints(7, 7), axes=[2, 3], mode="linear")
    return b.head(b("Softplus", x), 16)


NETWORKS: dict[str, Network] = {f.__name__: f for f in (residual, vgg, mobile, dense, attention, shuffled)}


def network(name: str, dtype: type[np.floating]) -> onnx.ModelProto:
    """Input x [N, 3, 12, 12], masks, output "logits" [N, 5]."""
    b = Layers(dtype)
    made = NETWORKS[name](b)
    b.nodes.append(helper.make_node("Identity", [made], ["logits"], name="logits"))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [value_info("x", ["N", *PICTURE], kind), *b.masks]
    graph = helper.make_graph(b.nodes, name, inputs, [value_info("logits", ["N", CLASSES], kind)], b.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def feeds_for(model: onnx.ModelProto, batch: int) -> dict[str, Array]:
    """Pictures and masks in float64; masks near one, so that no channel is dead."""
    rng = np.random.default_rng(11)
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [batch, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])]
        low = 0.0 if value.name == "x" else 0.8
        feeds[value.name] = rng.uniform(low, 1.2, shape)
    return feeds
