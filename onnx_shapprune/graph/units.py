"""Find the channels that can be switched off, and what zeroing each of them means in the file.

A unit is one output channel of a Conv, ConvTranspose, Gemm or MatMul, or one channel of a BatchNormalization that
belongs to none of these. It is switched off at the tensor where multiplying by 0 equals zeroing parameters of the file:
the layer's own output, or that of the bias Add and BatchNormalization that alone read it. Never behind an activation:
on Conv -> BN -> Relu that differs from zeroing the Conv by whole logits.
"""

from collections import Counter
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto

from onnx_shapprune.graph import edit

DEFAULT_DOMAIN = ("", "ai.onnx")
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constant of the file of which channel c is the slice at index c of `axis`.

    groups > 0 marks a ConvTranspose weight [C_in, C_out/groups, ...]: channel c then is the rows of group
    c // (C_out/groups) at column c % (C_out/groups).
    """

    name: str
    axis: int
    groups: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose channels are units.

    name: the node's name (its output where that is empty or not unique). tensor: where a mask multiplies, channels on
    `axis` (1 or -1).
    parameters: constants of which channel c is zeroed to switch unit c off.
    nodes: first outputs of the nodes that read these parameters: the layer, its bias Add, its BatchNormalization.
    """

    name: str
    op: str
    tensor: str
    channels: int
    axis: int
    parameters: tuple[Parameter, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A layer whose channels are not units, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class Units:
    """All layers of a model in graph order. `classifier` names the layers that make the class scores."""

    layers: tuple[Layer, ...]
    refused: tuple[Refused, ...]
    classifier: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(layer.channels for layer in self.layers)


class _RefusedError(Exception):
    """Raised inside this module with the reason why a layer has no units."""


def find_units(model: onnx.ModelProto, output: str) -> Units:
    """Units of a model (read only). `output` is the graph output that holds the class scores."""
    graph = model.graph
    context = _context(graph, output)
    classifier = _classifier(output, context)
    names = _names(graph)
    layers: list[Layer] = []
    refused: list[Refused] = []
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type not in (*LINEAR, "BatchNormalization") or node.domain not in DEFAULT_DOMAIN:
            continue
        if node.output[0] in taken:
            continue
        if node.op_type == "MatMul" and context.dynamic.issuperset(node.input):
            continue  # a product of two activations (attention) has no weights
        name = names[node.output[0]]
        try:
            layer = _absorb_followers(_layer(node, name, classifier, context), context, taken)
        except _RefusedError as reason:
            refused.append(Refused(name, node.op_type, str(reason)))
        else:
            layers.append(layer)
    last = tuple(names[n.output[0]] for n in graph.node if n.output[0] in classifier and n.op_type in LINEAR)
    return Units(tuple(layers), tuple(refused), last)


@dataclass(frozen=True, slots=True)
class _Context:
    """The graph, looked up. live: tensors the scores need. dynamic: tensors that depend on a graph input."""

    constants: dict[str, onnx.TensorProto]
    made: dict[str, onnx.NodeProto]
    used: dict[str, list[onnx.NodeProto]]
    output: str
    live: set[str]
    dynamic: set[str]

    def stored(self, name: str) -> str:
        """The name under which the file stores `name`'s value, through Identity nodes; refuses computed values."""
        found = edit.stored_name(self.constants, self.made, name)
        if found is None:
            node = self.made.get(name)
            raise _RefusedError(
                f"its parameters are computed by {node.op_type}" if node else "its parameters are an input"
            )
        if self.constants[found].data_type not in FLOATS:
            raise _RefusedError("its parameters are no floating-point numbers")
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.constants[name].dims)

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


def _context(graph: onnx.GraphProto, output: str) -> _Context:
    constants = edit.constants(graph)
    live = {output}
    for node in reversed(graph.node):
        if live.intersection(node.output):
            live.update(n for n in [*node.input, *edit.inner_uses(node)] if n)
    dynamic = {i.name for i in graph.input} - set(constants)
    for node in graph.node:
        if dynamic.intersection([*node.input, *edit.inner_uses(node)]):
            dynamic.update(n for n in node.output if n)
    # Nodes that the scores do not need are gone in the working copy, so they do not count as readers here.
    needed = onnx.GraphProto(node=[n for n in graph.node if live.intersection(n.output)])
    return _Context(constants, edit.producers(graph), edit.consumers(needed), output, live, dynamic)


def _names(graph: onnx.GraphProto) -> dict[str, str]:
    """First output of each node -> a name for the node that no other node shares."""
    count = Counter(n.name for n in graph.node)
    tensors = {o for n in graph.node for o in n.output}
    return {
        n.output[0]: n.name
        if n.name and count[n.name] == 1 and (n.name not in tensors or n.name in n.output)
        else n.output[0]
        for n in graph.node
        if n.output
    }


def _layer(node: onnx.NodeProto, name: str, classifier: set[str], context: _Context) -> Layer:
    made = node.output[0]
    if made not in context.live:
        raise _RefusedError("does not feed the class scores")
    if made in classifier:
        raise _RefusedError("makes the class scores")
    if node.input[0] not in context.dynamic:
        left = node.input[1] in context.dynamic
        raise _RefusedError("its weight is the left factor" if left else "its data is constant")
    attributes = edit.attributes(node)
    if node.op_type == "BatchNormalization":
        scale, bias = (context.stored(n) for n in node.input[1:3])
        parameters = (Parameter(scale, 0), Parameter(bias, 0))
        if len(context.shape(scale)) != 1 or context.shape(bias) != context.shape(scale):
            raise _RefusedError("its scale and bias are not one value per channel")
        return Layer(name, node.op_type, made, context.shape(scale)[0], 1, parameters, (made,))
    weight = context.stored(node.input[1])
    shape = context.shape(weight)
    if len(shape) < 2 or (len(shape) != 2 and node.op_type in ("Gemm", "MatMul")):
        raise _RefusedError(f"its weight has {len(shape)} dimensions")
    if node.op_type == "Conv":
        channels, parameter, axis = shape[0], Parameter(weight, 0), 1
    elif node.op_type == "ConvTranspose":
        group = int(attributes.get("group", 1))  # type: ignore[call-overload]
        channels, parameter, axis = shape[1] * group, Parameter(weight, 1, group), 1
    elif node.op_type == "Gemm":
        out = 0 if attributes.get("transB", 0) else 1
        channels, parameter, axis = shape[out], Parameter(weight, out), -1
    else:
        channels, parameter, axis = shape[1], Parameter(weight, 1), -1
    layer = Layer(name, node.op_type, made, channels, axis, (parameter,), (made,))
    if len(node.input) > 2 and node.input[2]:
        bias = context.stored(node.input[2])
        # The Conv's own bias is a vector; a Gemm's broadcasts like that of an Add.
        place = _bias_axis(replace(layer, axis=-1), context.shape(bias), len(shape))
        layer = replace(layer, parameters=(*layer.parameters, Parameter(bias, place)))
    return layer


def _bias_axis(layer: Layer, shape: tuple[int, ...], rank: int) -> int:
    """The axis of an added constant that runs along the channels of a layer's output of `rank` dimensions."""
    from_end = rank - layer.axis if layer.axis > 0 else 1
    place = len(shape) - from_end
    if place < 0 or shape[place] != layer.channels or any(d != 1 for i, d in enumerate(shape) if i != place):
        raise _RefusedError(f"its bias of shape {shape} is not one value per channel")
    return place


def _absorb_followers(layer: Layer, context: _Context, taken: set[str]) -> Layer:
    """Move the insertion point behind a bias Add and a BatchNormalization that alone read the layer."""
    while (found := context.only_reader(layer.tensor)) is not None:
        reader, name = found
        extra: tuple[Parameter, ...]
        if reader.op_type == "Add" and layer.op != "BatchNormalization":
            others = [n for n in reader.input if n != name]
            try:
                bias = context.stored(others[0]) if len(others) == 1 else ""
                rank = len(context.shape(layer.parameters[0].name))
                extra = (Parameter(bias, _bias_axis(layer, context.shape(bias), rank)),) if bias else ()
            except _RefusedError:
                break  # not a bias per channel: the mask before it is exact too
            if not extra:
                break
        elif reader.op_type == "BatchNormalization" and reader.input[0] == name and layer.op != "MatMul":
            scale, bias = (context.stored(n) for n in reader.input[1:3])
            extra = (Parameter(scale, 0), Parameter(bias, 0))
            taken.add(reader.output[0])
        else:
            break
        made = reader.output[0]
        layer = replace(layer, tensor=made, parameters=(*layer.parameters, *extra), nodes=(*layer.nodes, made))
    return layer


def _classifier(output: str, context: _Context) -> set[str]:
    """First outputs of the nodes between the last layers with weights and the scores, these layers included.

    Every operator is walked through: an unknown one behind the last layer must not turn classes into units.
    """
    found: set[str] = set()
    open_names = [output]
    while open_names:
        node = context.made.get(open_names.pop())
        if node is None or node.output[0] in found or node.output[0] not in context.dynamic:
            continue
        if node.op_type in ("Shape", "Size"):
            continue  # sizes carry no scores
        found.add(node.output[0])
        if node.op_type not in LINEAR or context.dynamic.issuperset(n for n in node.input[:2]):
            open_names.extend(n for n in [*node.input, *edit.inner_uses(node)] if n)
    return found
