"""Integer operators as their float twins between Q/DQ pairs: the same numbers up to rounding, with units and gradients.

QLinearConv(x, w) is QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w))), and so on; ConvInteger and
MatMulInteger leave the scales to the nodes behind them. The float result is called <output>__real.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work

REAL = "__real"
FIRST = "__first"  # what an operator with channels last makes, with its channels first
ONE = "shapprune__one"  # the scale of sums that are scaled later
MICROSOFT = ("channels_last", "opset")  # attributes that the float twins do not have
Nodes = Iterator[onnx.NodeProto]


def write_as_pairs(graph: onnx.GraphProto) -> None:
    """Rewrite every integer operator that is known here, in place; others stay. Raises ModelError for broken nodes."""
    nodes: list[onnx.NodeProto] = []
    scales: dict[str, tuple[str, str]] = {}  # integer tensor -> scale, zero point
    whole: set[str] = set()  # int32 sums, of which the float twin is known
    for node in graph.node:
        twin = TWINS.get(node.op_type)
        if twin is not None:
            try:
                made = list(_channels_first(node, twin) if channels_last(node) else twin(node))
            except (TypeError, ValueError):  # the checker knows only the standard operators' numbers of inputs
                raise ModelError(f"{node.op_type} {node.name!r} cannot have {len(node.input)} inputs") from None
        elif node.op_type == "MaxPool" and node.input[0] in scales and len(node.output) == 1:
            made = list(_pooled(node, *scales[node.input[0]]))
        elif node.op_type == "Cast" and node.input[0] in whole and edit.attributes(node)["to"] == TensorProto.FLOAT:
            made = [helper.make_node("Identity", [f"{node.input[0]}{REAL}"], list(node.output))]
        else:
            made = [node]
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            whole.add(node.output[0])
        scales.update((n.output[0], (n.input[1], [*n.input, ""][2])) for n in made if n.op_type == "QuantizeLinear")
        nodes += made
    if any(ONE in node.input for node in nodes):
        graph.initializer.append(edit.tensor_of(np.array(1, np.float32), ONE))
    edit.keep_nodes(graph, nodes)


def channels_last(node: onnx.NodeProto) -> bool:
    """Whether an integer operator has its channels on the last axis, as onnxruntime writes it for itself."""
    return bool(edit.attributes(node).get("channels_last"))


def _channels_first(node: onnx.NodeProto, twin: Callable[[onnx.NodeProto], Nodes]) -> Nodes:
    """The twin between two Transposes. Without a kernel there is no telling the rank: a picture's is taken."""
    kernel = edit.attributes(node).get("kernel_shape")
    rank = len(kernel) + 2 if isinstance(kernel, list) else 4
    x, y = node.input[0], node.output[0]
    inner = onnx.NodeProto()
    inner.CopyFrom(node)
    inner.input[0], inner.output[0] = f"{y}{FIRST}_{x}", f"{y}{FIRST}"
    yield helper.make_node("Transpose", [x], [inner.input[0]], perm=[0, rank - 1, *range(1, rank - 1)])
    yield from twin(inner)
    yield helper.make_node("Transpose", [inner.output[0]], [y], perm=[0, *range(2, rank), 1])


def _pair(node: onnx.NodeProto, x: str, scale: str, zero: str, axis: int = 1) -> tuple[onnx.NodeProto, str]:
    """(DequantizeLinear, its output) of an operand."""
    made = f"{node.output[0]}__{x}"
    return helper.make_node("DequantizeLinear", [x, scale, zero] if zero else [x, scale], [made], axis=axis), made


def _float(node: onnx.NodeProto, op: str, inputs: list[str], scale: str, zero: str) -> Nodes:
    """The float twin, and its result quantised; `op` keeps the attributes."""
    real = f"{node.output[0]}{REAL}"
    twin = helper.make_node(op, inputs, [real], name=node.name)
    twin.attribute.extend(a for a in node.attribute if a.name not in MICROSOFT)
    yield twin
    yield helper.make_node("QuantizeLinear", [n for n in (real, scale, zero) if n], [node.output[0]])


def _conv(node: onnx.NodeProto) -> Nodes:
    x, xs, xz, w, ws, wz, ys, yz = node.input[:8]
    data, a = _pair(node, x, xs, xz)
    weight, b = _pair(node, w, ws, wz, axis=0)
    yield from (data, weight)
    inputs = [a, b]
    if len(node.input) > 8 and node.input[8]:
        yield from _bias(node, node.input[8], xs, ws)
        inputs.append(f"{node.output[0]}__bias")
    yield from _float(node, "Conv", inputs, ys, yz)


def _bias(node: onnx.NodeProto, bias: str, data_scale: str, weight_scale: str) -> Nodes:
    """A bias of int32, whose scale is the product of the others'."""
    y = node.output[0]
    yield helper.make_node("Mul", [data_scale, weight_scale], [f"{y}__bias_scale"])
    yield helper.make_node("DequantizeLinear", [bias, f"{y}__bias_scale"], [f"{y}__bias"], axis=0)


def _matmul(node: onnx.NodeProto) -> Nodes:
    a, a_s, a_z, b, b_s, b_z, ys, yz = node.input
    left, x = _pair(node, a, a_s, a_z)
    right, w = _pair(node, b, b_s, b_z)
    yield from (left, right)
    yield from _float(node, "MatMul", [x, w], ys, yz)


def _gemm(node: onnx.NodeProto) -> Nodes:
    a, a_s, a_z, b, b_s, b_z, c, *out = node.input
    left, x = _pair(node, a, a_s, a_z)
    right, w = _pair(node, b, b_s, b_z, axis=0 if edit.attributes(node).get("transB") else 1)
    yield from (left, right)
    inputs = [x, w]
    if c:
        yield from _bias(node, c, a_s, b_s)
        inputs.append(f"{node.output[0]}__bias")
    *nodes, rounded = _float(node, "Gemm", inputs, *(out or ("", "")))
    yield from nodes
    yield rounded if out and out[0] else helper.make_node("Identity", [f"{node.output[0]}{REAL}"], [node.output[0]])


def _two(op: str) -> Callable[[onnx.NodeProto], Nodes]:
    def twin(node: onnx.NodeProto) -> Nodes:
        a, a_s, a_z, b, b_s, b_z, ys, *yz = node.input
        left, x = _pair(node, a, a_s, a_z)
        right = helper.make_node("DequantizeLinear", [n for n in (b, b_s, b_z) if n], [f"{node.output[0]}__right"])
        yield from (left, right)
        yield from _float(node, op, [x, right.output[0]], ys, *(yz or [""]))

    return twin


def _one(op: str) -> Callable[[onnx.NodeProto], Nodes]:
    def twin(node: onnx.NodeProto) -> Nodes:
        x, xs, xz, ys, *yz = node.input
        data, a = _pair(node, x, xs, xz)
        yield data
        yield from _float(node, op, [a], ys, *(yz or [""]))

    return twin


def _pooled(node: onnx.NodeProto, scale: str, zero: str) -> Nodes:
    data, a = _pair(node, node.input[0], scale, zero)
    yield data
    yield from _float(node, "MaxPool", [a], scale, zero)


def _integer(op: str) -> Callable[[onnx.NodeProto], Nodes]:
    def twin(node: onnx.NodeProto) -> Nodes:
        zeros = [*node.input[2:], "", ""]
        inputs = []
        for x, zero in zip(node.input[:2], zeros, strict=False):
            data, a = _pair(node, x, ONE, zero)
            yield data
            inputs.append(a)
        real = f"{node.output[0]}{REAL}"
        made = helper.make_node(op, inputs, [real], name=node.name)
        made.attribute.extend(node.attribute)
        yield made
        yield helper.make_node("Cast", [real], list(node.output), to=TensorProto.INT32)

    return twin


def _dynamic(node: onnx.NodeProto) -> Nodes:
    """The scale and the zero point stay; gradients take them for constants."""
    y, scale, zero = node.output
    yield helper.make_node("DynamicQuantizeLinear", list(node.input), [f"{y}__unused", scale, zero], name=node.name)
    yield helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [y])


TWINS: dict[str, Callable[[onnx.NodeProto], Nodes]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearAdd": _two("Add"),
    "QLinearMul": _two("Mul"),
    "QLinearGlobalAveragePool": _one("GlobalAveragePool"),
    "QLinearAveragePool": _one("AveragePool"),
    "QLinearSigmoid": _one("Sigmoid"),
    "QLinearSoftmax": _one("Softmax"),
    "QLinearLeakyRelu": _one("LeakyRelu"),
    "ConvInteger": _integer("Conv"),
    "MatMulInteger": _integer("MatMul"),
    "DynamicQuantizeLinear": _dynamic,
}


def _paired(work: Work) -> Work:
    write_as_pairs(work.model.graph)
    quantised = any(node.op_type == "QuantizeLinear" for node in work.model.graph.node)
    return replace(work, rounding="quantised") if quantised else work


def _floats(model: onnx.ModelProto) -> bool:
    kept = {"DynamicQuantizeLinear"}  # for its scale
    return not any(node.op_type in TWINS.keys() - kept for node in model.graph.node)


FLOAT_TWINS = Condition("no integer operator of which the float twin is known", _floats)

PAIRS = Pass("pairs", _paired, (), (FLOAT_TWINS,))
