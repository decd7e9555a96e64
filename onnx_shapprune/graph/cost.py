"""How much arithmetic and memory one picture costs: decides how wide a search can be, the same way on every machine."""

from collections.abc import Mapping

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.graph.stored import FLOATS
from onnx_shapprune.runtime.probe import TensorInfo

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def multiply_adds(model: onnx.ModelProto, infos: Mapping[str, TensorInfo]) -> int:
    """Multiply-adds of Conv, ConvTranspose, Gemm and MatMul for one picture, without those whose result is multiplied by 0.

    Measured time would be a better guide and is not used: a busy machine would then give another result than an idle one.
    """
    total = 0
    for node in _effective(model.graph):
        if node.op_type not in LINEAR:
            continue
        data, weight, out = (infos.get(name) for name in (node.input[0], node.input[1], node.output[0]))
        if data is None or weight is None or out is None:
            continue
        if node.op_type == "Conv":
            total += _size(out) * int(np.prod([d or 1 for d in weight.shape[1:]]))
        elif node.op_type == "ConvTranspose":
            total += _size(data) * int(np.prod([d or 1 for d in weight.shape[1:]]))
        else:
            total += _size(out) * (data.shape[-1] or 1)
    return total


def _effective(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that an output needs, where what a constant of zeros multiplies is not needed."""
    needed = {o.name for o in graph.output}
    zeros = {t.name for t in graph.initializer if t.data_type in FLOATS and not edit.array_of(t).any()}
    found = []
    for node in reversed(graph.node):
        if not needed.intersection(node.output):
            continue
        if node.op_type in (*LINEAR, "Mul") and zeros.intersection(node.input[:2]):
            continue
        needed.update(operands(node))
        found.append(node)
    return found


def activation_bytes(infos: Mapping[str, TensorInfo]) -> int:
    """Bytes of all tensors that depend on the batch, for one picture."""
    return sum(_size(info) * info.dtype.itemsize for info in infos.values() if not info.static)


def _size(info: TensorInfo) -> int:
    """Elements per picture: dimensions that depend on the batch count once."""
    return int(np.prod([d or 1 for d in info.shape]))
