"""Find the channels that can be switched off, and what zeroing each of them means in the file.

A unit is one output channel of a Conv, ConvTranspose, Gemm or MatMul, or one channel of a BatchNormalization that
belongs to none of these. It is switched off at the tensor where multiplying by 0 equals zeroing parameters of the file:
the layer's own output, or that of the bias Add and BatchNormalization that alone read it. Never behind an activation:
on Conv -> BN -> Relu that differs from zeroing the Conv by whole logits.
"""

from dataclasses import dataclass, replace

import onnx

from onnx_shapprune.graph import edit

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Operators that keep "one channel per class" when walking back from the scores to the layer that makes them.
CHANNEL_KEEPING = {
    "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Relu", "LeakyRelu", "Elu", "Tanh", "Clip", "Dropout", "Flatten",
    "Reshape", "Squeeze", "Unsqueeze", "Transpose", "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool",
    "ReduceMean", "ReduceMax", "Cast", "Add", "Sub", "Mul", "Div", "BatchNormalization", "Slice", "DequantizeLinear",
    "QuantizeLinear",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constant of the file of which channel c is the slice at index c of `axis`.

    groups > 0 marks a ConvTranspose weight [C_in, C_out/groups, ...]: channel c then is rows of group c // (C_out/groups)
    at column c % (C_out/groups).
    """

    name: str
    axis: int
    groups: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose channels are units.

    name: the node's name (its output where it has none). tensor: where a mask multiplies, channels on `axis` (1 or -1).
    parameters: constants of which channel c is zeroed to switch unit c off.
    """

    name: str
    op: str
    tensor: str
    channels: int
    axis: int
    parameters: tuple[Parameter, ...]


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


class _Refuse(Exception):
    """Raised inside this module with the reason why a layer has no units."""


def find_units(model: onnx.ModelProto, output: str) -> Units:
    """Units of a model (read only). `output` is the graph output that holds the class scores."""
    graph = model.graph
    constants = edit.constants(graph)
    made, used = edit.producers(graph), edit.consumers(graph)
    outputs = {o.name for o in graph.output}
    context = _Context(constants, made, used, outputs)
    classifier = _classifier(output, made, constants)
    layers: list[Layer] = []
    refused: list[Refused] = []
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type not in (*LINEAR, "BatchNormalization") or node.output[0] in taken:
            continue
        if node.op_type == "MatMul" and not any(context.constant(n) for n in node.input):
            continue  # a product of two activations (attention) has no weights
        name = node.name or node.output[0]
        if node.output[0] in classifier:
            refused.append(Refused(name, node.op_type, "makes the class scores"))
            continue
        try:
            layer = _layer(node, name, context)
            layer = _absorb_followers(layer, context, taken)
        except _Refuse as reason:
            refused.append(Refused(name, node.op_type, str(reason)))
        else:
            layers.append(layer)
    names = tuple(n.name or n.output[0] for n in graph.node if n.output[0] in classifier and n.op_type in LINEAR)
    return Units(tuple(layers), tuple(refused), names)


@dataclass(frozen=True, slots=True)
class _Context:
    constants: dict[str, onnx.TensorProto]
    made: dict[str, onnx.NodeProto]
    used: dict[str, list[onnx.NodeProto]]
    outputs: set[str]

    def constant(self, name: str) -> str | None:
        """The name under which the file stores `name`'s value, through Identity nodes; None when it is computed."""
        while name not in self.constants:
            node = self.made.get(name)
            if node is None or node.op_type != "Identity":
                return None
            name = node.input[0]
        return name

    def stored(self, name: str) -> str:
        found = self.constant(name)
        if found is None:
            node = self.made.get(name)
            raise _Refuse(f"its parameters are computed by {node.op_type}" if node else "its parameters are an input")
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.constants[name].dims)

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        readers = self.used.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def _layer(node: onnx.NodeProto, name: str, context: _Context) -> Layer:
    attributes = edit.attributes(node)
    if node.op_type == "BatchNormalization":
        scale, bias = (context.stored(n) for n in node.input[1:3])
        parameters = (Parameter(scale, 0), Parameter(bias, 0))
        return Layer(name, node.op_type, node.output[0], context.shape(scale)[0], 1, parameters)
    weight = context.stored(node.input[1])
    shape = context.shape(weight)
    if node.op_type == "Conv":
        channels, parameter, axis = shape[0], Parameter(weight, 0), 1
    elif node.op_type == "ConvTranspose":
        group = int(attributes.get("group", 1))  # type: ignore[call-overload]
        channels, parameter, axis = shape[1] * group, Parameter(weight, 1, group), 1
    elif node.op_type == "Gemm":
        out = 0 if attributes.get("transB", 0) else 1
        channels, parameter, axis = shape[out], Parameter(weight, out), -1
    else:
        if len(shape) != 2:
            raise _Refuse(f"its weight has {len(shape)} dimensions instead of 2")
        channels, parameter, axis = shape[1], Parameter(weight, 1), -1
    layer = Layer(name, node.op_type, node.output[0], channels, axis, (parameter,))
    if len(node.input) > 2 and node.input[2]:
        layer = _with_bias(layer, context.stored(node.input[2]), context)
    return layer


def _with_bias(layer: Layer, bias: str, context: _Context) -> Layer:
    """The layer with a bias constant that broadcasts along its channels."""
    shape = context.shape(bias)
    if layer.axis == 1 and layer.op in ("Conv", "ConvTranspose") and len(shape) == 1:
        place = 0  # the node's own bias input
    elif layer.axis == 1:
        place = next((i for i, d in enumerate(shape) if d == layer.channels), -1)
        if place < 0 or any(d != 1 for i, d in enumerate(shape) if i != place) or len(shape) - place != 3:
            raise _Refuse(f"its bias of shape {shape} is not one value per channel")
    else:
        place = len(shape) - 1
        if not shape or shape[-1] != layer.channels or any(d != 1 for d in shape[:-1]):
            raise _Refuse(f"its bias of shape {shape} is not one value per channel")
    if layer.channels != shape[place]:
        raise _Refuse(f"its bias has {shape[place]} values for {layer.channels} channels")
    return replace(layer, parameters=(*layer.parameters, Parameter(bias, place)))


def _absorb_followers(layer: Layer, context: _Context, taken: set[str]) -> Layer:
    """Move the insertion point behind a bias Add and a BatchNormalization that alone read the layer."""
    while (reader := context.only_reader(layer.tensor)) is not None:
        if reader.op_type == "Add" and layer.op != "BatchNormalization":
            others = [n for n in reader.input if n != layer.tensor]
            if len(others) != 1 or context.constant(others[0]) is None:
                break
            try:
                layer = _with_bias(layer, context.stored(others[0]), context)
            except _Refuse:
                # Not a bias per channel: the mask before it is exact too, what follows is none of this layer's.
                break
        elif reader.op_type == "BatchNormalization" and reader.input[0] == layer.tensor and layer.axis == 1:
            scale, bias = (context.stored(n) for n in reader.input[1:3])
            layer = replace(layer, parameters=(*layer.parameters, Parameter(scale, 0), Parameter(bias, 0)))
            taken.add(reader.output[0])
        elif reader.op_type == "Identity":
            pass
        else:
            break
        layer = replace(layer, tensor=reader.output[0])
    return layer


def _classifier(output: str, made: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> set[str]:
    """First outputs of the nodes between the last linear layers and the scores, these layers included."""
    found: set[str] = set()
    open_names = [output]
    while open_names:
        node = made.get(open_names.pop())
        if node is None or node.output[0] in found:
            continue
        if node.op_type in LINEAR:
            found.add(node.output[0])
        elif node.op_type in CHANNEL_KEEPING:
            found.add(node.output[0])
            open_names.extend(n for n in node.input if n and n not in constants)
    return found
