"""What can be read off a graph without running it: declared shapes, operators, sizes, number of classes."""

import math
from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.pairs import TWINS
from onnx_shapprune.graph.scopes import all_nodes
from onnx_shapprune.graph.stored import FLOATS
from onnx_shapprune.graph.units import Units

ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear", *TWINS})
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass(frozen=True, slots=True)
class Declared:
    """A graph input or output as the file declares it; dims: size, symbol, or None where nothing is said."""

    name: str
    type: str
    dims: tuple[int | str | None, ...]


def declared_inputs(model: onnx.ModelProto) -> tuple[Declared, ...]:
    """Inputs that a caller must feed."""
    constants = {t.name for t in model.graph.initializer}
    return tuple(_declared(value) for value in model.graph.input if value.name not in constants)


def declared_outputs(model: onnx.ModelProto) -> tuple[Declared, ...]:
    return tuple(_declared(value) for value in model.graph.output)


def opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Imported operator sets, domain -> version; the default domain is called ai.onnx."""
    return {entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import}


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Operator -> count, most frequent first, subgraphs and local functions counted; others than standard as
    domain::op.
    """
    found = Counter(
        node.op_type if node.domain in edit.DEFAULT_DOMAIN else f"{node.domain}::{node.op_type}"
        for node in all_nodes(model)
    )
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def parameters(model: onnx.ModelProto) -> int:
    """Numbers in all floating-point initializers, and in those of 8-bit integers: quantised weights."""
    kinds = (*FLOATS, TensorProto.INT8, TensorProto.UINT8)
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type in kinds)


def integer_operators(model: onnx.ModelProto) -> tuple[str, ...]:
    """Operators that compute in integers and of which no float twin is known, sorted."""
    names = {op.rsplit("::", 1)[-1] for op in operators(model)}
    integer = {n for n in names if n.startswith(("QLinear", "QGemm", "DynamicQuant")) or n.endswith("Integer")}
    return tuple(sorted(integer - TWINS.keys()))


def has_half(model: onnx.ModelProto) -> bool:
    """Whether any stored tensor is fp16."""
    return any(t.data_type == TensorProto.FLOAT16 for t in edit.all_tensors(model))


def class_count(model: onnx.ModelProto, output: str, units: Units | None) -> int | None:
    """How many classes an output tells apart: from its declared shape, else from the last layer; None if neither."""
    dims = next((d.dims for d in declared_outputs(model) if d.name == output), ())
    sizes = [d for d in dims[1:] if isinstance(d, int)]
    if len(dims) > 1 and len(sizes) == len(dims) - 1:
        return math.prod(sizes)
    widths = {_width(model, name) for name in units.classifier} if units else set()
    return widths.pop() if len(widths) == 1 else None


def _width(model: onnx.ModelProto, layer: str) -> int | None:
    constants = edit.constants(model.graph)
    made = edit.producers(model.graph)
    node = next((n for n in model.graph.node if layer in (n.name, *n.output)), None)
    stored = edit.stored_name(constants, made, node.input[1]) if node is not None and len(node.input) > 1 else None
    if node is None or stored is None:
        return None
    dims = constants[stored].dims
    attributes = edit.attributes(node)
    if node.op_type == "ConvTranspose" or len(dims) < 2:
        return None
    rows = node.op_type == "Conv" or (node.op_type == "Gemm" and attributes.get("transB", 0))
    return int(dims[0] if rows else dims[-1])


def _declared(value: onnx.ValueInfoProto) -> Declared:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Declared(value.name, "undeclared" if kind is None else kind.removesuffix("_type"), ())
    tensor = value.type.tensor_type
    known = tensor.elem_type in TensorProto.DataType.values()
    name = TensorProto.DataType.Name(tensor.elem_type).lower() if known else f"type {tensor.elem_type}"
    dims = tuple(
        int(d.dim_value) if d.HasField("dim_value") else d.dim_param if d.HasField("dim_param") else None
        for d in tensor.shape.dim
    )
    return Declared(value.name, name, dims)
