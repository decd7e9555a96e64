"""Where a file stores the parameter that a layer reads, and on which axis its channels lie there.

Exporters put Identity, Cast, Transpose and DequantizeLinear between a weight and its layer, or make it by
ConstantOfShape. What is behind them can be zeroed in the file as long as nobody else reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto

from onnx_shapprune.errors import VerifyError
from onnx_shapprune.graph import edit

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
QUANTISED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32)
Constants = Mapping[str, onnx.TensorProto]


class RefusedError(Exception):
    """The reason why a parameter cannot be zeroed in the file."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A parameter as the file has it.

    name: tensor; shape: as the layer reads it; axes[i]: where axis i of that lies in the file; zero: the stored number
    that means 0; nodes: first outputs of the nodes between, from the file to the layer.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    zero: int = 0
    nodes: tuple[str, ...] = ()


def stored(
    name: str, constants: Constants, made: Mapping[str, onnx.NodeProto], used: Mapping[str, list[onnx.NodeProto]]
) -> Stored:
    """Trace `name`, which a layer reads, to the file. Raises RefusedError with the reason why it cannot be."""
    perms: list[tuple[int, ...]] = []  # of the Transposes on the way, the layer's first
    nodes: list[str] = []
    found: Stored | None = None
    while name not in constants and found is None:
        node = made.get(name)
        if node is None:
            raise RefusedError("its parameters are an input")
        if node.op_type not in ("Identity", "ConstantOfShape", "Cast", "Transpose", "DequantizeLinear"):
            raise RefusedError(f"its parameters are computed by {node.op_type}")
        if node.op_type not in ("Identity", "ConstantOfShape"):
            if len(used.get(name, [])) > 1:
                raise RefusedError(f"its parameters are shared behind {node.op_type}")
            nodes.insert(0, name)
        if node.op_type == "ConstantOfShape":
            found = _plain(name, generated(node, constants))
        if node.op_type == "DequantizeLinear":
            found = integers(node.input[0], node.input[2] if len(node.input) > 2 else "", constants, made)
        if node.op_type == "Transpose":
            perm = edit.attributes(node).get("perm")
            perms.append(tuple(perm) if isinstance(perm, list) else ())
        name = node.input[0]
    if found is None:
        if constants[name].data_type not in FLOATS:
            raise RefusedError("its parameters are no floating-point numbers")
        found = _plain(name, constants[name])
    axes, shape = found.axes, found.shape
    for perm in reversed(perms):
        order = perm or tuple(range(len(shape))[::-1])
        if sorted(order) != list(range(len(shape))):
            raise RefusedError("its parameters are transposed by what is no permutation")
        axes, shape = tuple(axes[i] for i in order), tuple(shape[i] for i in order)
    return replace(found, shape=shape, axes=axes, nodes=tuple(nodes))


def _plain(name: str, tensor: onnx.TensorProto, zero: int = 0) -> Stored:
    return Stored(name, tuple(tensor.dims), tuple(range(len(tensor.dims))), zero)


def generated(node: onnx.NodeProto, constants: Constants) -> onnx.TensorProto:
    """Shape, type and, as its only element, the value of what a ConstantOfShape makes."""
    if node.input[0] not in constants:
        raise RefusedError("its parameters are computed by ConstantOfShape")
    value = edit.attributes(node).get("value")
    header = onnx.TensorProto(name=node.output[0], data_type=TensorProto.FLOAT, float_data=[0.0])
    if isinstance(value, onnx.TensorProto):
        header.CopyFrom(value)
        header.name = node.output[0]
    if header.data_type not in FLOATS or edit.array_of(header).size != 1:
        raise RefusedError("its parameters are no floating-point numbers")
    del header.dims[:]
    header.dims.extend(int(d) for d in edit.array_of(constants[node.input[0]]).reshape(-1))
    return header


def readable(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constants of the graph by name; of sparse ones only shape and type."""
    found = edit.constants(graph)
    for sparse in graph.sparse_initializer:
        header = onnx.TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
        found[header.name] = header
    return found


def written_out(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    """A parameter that the file keeps in short, sparse or made by ConstantOfShape, element by element."""
    for sparse in graph.sparse_initializer:
        if sparse.values.name == name:
            return edit.tensor_of(edit.dense(sparse), name)
    node = edit.producers(graph).get(name)
    if node is None or node.op_type != "ConstantOfShape":
        raise VerifyError(f"the model stores no parameter {name!r}: it was found in another one")
    header = generated(node, edit.constants(graph))
    shape = tuple(header.dims)
    header.dims[:] = [1]
    return edit.tensor_of(np.full(shape, edit.array_of(header)[0]), name)


def integers(name: str, zero_point: str, constants: Constants, made: Mapping[str, onnx.NodeProto]) -> Stored:
    """Trace integers, and the zero point that they have in common ("": none), to the file. Raises RefusedError."""
    found = edit.stored_name(constants, made, name)
    if found is None or constants[found].data_type not in QUANTISED:
        raise RefusedError("its quantised parameters are not stored as integers of 8, 16 or 32 bits")
    zero = 0
    if zero_point:
        point = edit.stored_name(constants, made, zero_point)
        values = [] if point is None else edit.array_of(constants[point]).reshape(-1).tolist()
        if len(set(values)) != 1 or not isinstance(values[0], int):
            raise RefusedError("its quantised parameters have several zero points")
        zero = int(values[0])
    return _plain(found, constants[found], zero)
