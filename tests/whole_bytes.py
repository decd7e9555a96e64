"""Files that take pictures, or give scores, in whole bytes, as edge devices do: a float file and what is around it there."""

from collections.abc import Callable

import numpy as np
import onnx
from models import Net
from onnx import TensorProto, helper

KINDS = {"uint8": (TensorProto.UINT8, 0), "int8": (TensorProto.INT8, -128)}
STEP = np.float32(1 / 255)
Front = Callable[[Net, str], str]


def cast(n: Net, x: str) -> str:
    return n.op("Mul", n.op("Cast", x, to=TensorProto.FLOAT), n.const(STEP))


def through_int32(n: Net, x: str) -> str:
    return cast(n, n.op("Cast", x, to=TensorProto.INT32))


def dequantised(n: Net, x: str, zero: int = 0) -> str:
    return n.op("DequantizeLinear", x, n.const(STEP), n.const(np.array(zero, np.int8 if zero else np.uint8)))


def without_zero(n: Net, x: str) -> str:
    return n.op("DequantizeLinear", x, n.const(STEP))


def laid_out(n: Net, x: str) -> str:
    return cast(n, n.op("Transpose", x, perm=[0, 3, 1, 2]))


def wrapping(n: Net, x: str) -> str:
    return cast(n, n.op("Add", x, n.const(np.array(3, np.uint8))))


def narrower(n: Net, x: str) -> str:
    return cast(n, n.op("Cast", x, to=TensorProto.INT8))


def looked_up(n: Net, x: str) -> str:
    return cast(n, n.op("Gather", x, x, axis=0))


def own_step(n: Net, x: str) -> str:
    return n.op("DequantizeLinear", x, n.op("ReduceMax", n.op("Cast", x, to=TensorProto.FLOAT), keepdims=0))


def in_bytes(
    model: onnx.ModelProto, front: Front = cast, kind: str = "uint8", *, last: bool = False
) -> onnx.ModelProto:
    """The model behind `front`, which makes its float input of bytes; last: these have their channels last."""
    made, n = onnx.compose.add_prefix(model, "net_"), Net()
    given = made.graph.input[0]
    dims = [d.dim_value or d.dim_param for d in given.type.tensor_type.shape.dim]
    dims = [dims[0], *dims[2:], dims[1]] if last else dims
    nodes = [helper.make_node("Identity", [front(n, "picture")], [given.name]), *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend([*n.nodes, *nodes])
    made.graph.initializer.extend(n.weights)
    given.CopyFrom(helper.make_tensor_value_info("picture", KINDS[kind][0], dims))
    return made


def rounded(n: Net, y: str, scale: float = 0.05, zero: int = 128) -> str:
    return n.op("QuantizeLinear", y, n.const(np.float32(scale)), n.const(np.array(zero, np.uint8)))


def laid_anew(n: Net, y: str) -> str:
    return n.op("Unsqueeze", rounded(n, y), n.const(np.array([2], np.int64)))


def from_softmax(n: Net, y: str) -> str:
    return n.op("QuantizeLinear", n.op("Softmax", y), n.const(np.float32(1 / 256)), n.const(np.array(-128, np.int8)))


def by_an_integer_operator(n: Net, y: str) -> str:
    scale, zero, one = n.const(np.float32(0.05)), n.const(np.array(128, np.uint8)), n.const(np.float32(1 / 127))
    q = n.op("QuantizeLinear", y, scale, zero)
    weight = n.const((127 * np.eye(4)).astype(np.int8)), one, n.const(np.array(0, np.int8))
    return n.op("QLinearMatMul", q, scale, zero, *weight, scale, zero)


def cut_off(n: Net, y: str) -> str:
    return n.op("Cast", y, to=TensorProto.UINT8)


def by_the_picture(n: Net, y: str) -> str:
    return n.op("QuantizeLinear", y, n.op("ReduceMax", n.op("Abs", y), keepdims=0), n.const(np.array(128, np.uint8)))


def turned_round(n: Net, y: str) -> str:
    return rounded(n, y, scale=-0.05)


def out_in_bytes(model: onnx.ModelProto, end: Front, kind: str = "uint8") -> onnx.ModelProto:
    """The model and `end`, which makes bytes of its scores."""
    made, n = onnx.compose.add_prefix(model, "net_"), Net()
    result = made.graph.output[0]
    dims = [d.dim_value or d.dim_param for d in result.type.tensor_type.shape.dim]
    last = end(n, result.name)
    made.graph.node.extend(n.nodes)
    made.graph.initializer.extend(n.weights)
    dims += [1] if n.nodes[-1].op_type == "Unsqueeze" else []
    result.CopyFrom(helper.make_tensor_value_info(last, KINDS[kind][0], dims))
    return made
