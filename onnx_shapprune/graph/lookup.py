"""A graph, looked up for its layers: what is stored, who reads what, and what the class scores depend on."""

from dataclasses import dataclass
from functools import cached_property

import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.heads import Shapes
from onnx_shapprune.graph.passes.dialects import FUSED, is_fused
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.graph.sizes import inferred_shapes
from onnx_shapprune.graph.stored import Stored, readable, stored

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
RECURRENT = ("LSTM", "GRU", "RNN")
# Operator -> which inputs are its weight, the weight's zero point, its bias. Masks stand at the float twin's output.
INTEGER = {
    "QLinearConv": (3, 5, 8),
    "QLinearMatMul": (3, 5, None),
    "QGemm": (3, 5, 6),
    "ConvInteger": (1, 3, None),
    "MatMulInteger": (1, 3, None),
}
# Operator -> axis of the channels that its scale and bias belong to. The first two treat every channel alone.
NORMS = {"BatchNormalization": 1, "InstanceNormalization": 1, "GroupNormalization": 1, "LayerNormalization": -1}


def kind(node: onnx.NodeProto) -> str | None:
    """The operator whose channels a node's units are: of a fused layer its own; None for one without units."""
    if is_fused(node):
        return FUSED[node.domain, node.op_type]
    standard = node.domain in edit.DEFAULT_DOMAIN and node.op_type in (*LINEAR, *NORMS)
    return str(node.op_type) if standard or node.op_type in INTEGER else None


@dataclass(frozen=True)
class Lookup:
    """The graph, looked up. live: tensors the scores need. dynamic: tensors that depend on a graph input."""

    constants: dict[str, onnx.TensorProto]
    made: dict[str, onnx.NodeProto]
    used: dict[str, list[onnx.NodeProto]]
    output: str
    live: set[str]
    dynamic: set[str]
    opset: int
    model: onnx.ModelProto

    @cached_property
    def shapes(self) -> Shapes:
        return Shapes(self.constants, self.made, inferred_shapes(self.model))

    def last_axis(self, node: onnx.NodeProto) -> int:
        """The last axis of what a node reads, counted from the first; -1 where its rank is not known."""
        return len(self.shapes.inferred.get(node.input[0], ())) - 1

    def stored(self, name: str) -> Stored:
        return stored(name, self.constants, self.made, self.used)

    def product(self, node: onnx.NodeProto) -> bool:
        """Whether both factors of a linear operator depend on the picture."""
        weight = INTEGER[node.op_type][0] if node.op_type in INTEGER else 1
        return len(node.input) > weight and self.dynamic.issuperset([node.input[0], node.input[weight]])

    def only_reader(self, tensor: str) -> tuple[onnx.NodeProto, str] | None:
        """The one node that reads `tensor` and the name it reads it by; Identity and Dropout are looked through."""
        while tensor != self.output and len(self.used.get(tensor, [])) == 1:
            reader = self.used[tensor][0]
            if tensor not in reader.input:
                return None  # read by a subgraph
            if reader.op_type not in ("Identity", "Dropout"):
                return reader, tensor
            tensor = reader.output[0]
        return None


def look_up(model: onnx.ModelProto, output: str) -> Lookup:
    """Look up a graph without local functions whose class scores are `output`."""
    graph = model.graph
    constants = readable(graph)
    live = {output}
    for node in reversed(graph.node):
        if live.intersection(node.output):
            live.update(operands(node))
    dynamic = {i.name for i in graph.input} - set(constants)
    for node in graph.node:
        if dynamic.intersection(operands(node)):
            dynamic.update(n for n in node.output if n)
    # Nodes that the scores do not need are gone in the working copy, so they do not count as readers here.
    needed = onnx.GraphProto(node=[n for n in graph.node if live.intersection(n.output)])
    used, opset = edit.consumers(needed), edit.opset_of(model)
    return Lookup(constants, edit.producers(graph), used, output, live, dynamic, opset, model)


def scores(output: str, context: Lookup) -> set[str]:
    """First outputs of the nodes between the last layers with weights and the scores, these layers included.

    Every operator is walked through: an unknown one behind the last layer must not turn classes into units.
    """
    found: set[str] = set()
    open_names = [output]
    while open_names:
        node = context.made.get(open_names.pop())
        if node is None or node.output[0] in found or node.output[0] not in context.dynamic:
            continue
        if node.op_type in ("Shape", "Size", "DynamicQuantizeLinear"):
            continue  # sizes and scales carry no scores
        found.add(node.output[0])
        if kind(node) not in (*LINEAR, *INTEGER) or context.product(node):
            open_names.extend(operands(node))
    return found
