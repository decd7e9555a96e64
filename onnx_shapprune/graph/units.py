"""Find the channels that can be switched off, and what zeroing each of them means in the file.

A unit is one output channel of a Conv, ConvTranspose, Gemm or MatMul, one channel of a normalisation that belongs to
none of these, or an attention head: all features of the value projection that belong to it. It is switched off at the
tensor where multiplying by 0 equals zeroing parameters of the file: the layer's own output, or that of the bias Add and
BatchNormalization that alone read it; of heads what attention makes of their values. Never behind an activation: on
Conv -> BN -> Relu that differs from zeroing the Conv by whole logits.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.heads import UNCHANGED, origin, readings
from onnx_shapprune.graph.lookup import INTEGER, LINEAR, NORMS, RECURRENT, Lookup, kind, look_up, scores
from onnx_shapprune.graph.passes.dialects import is_fused
from onnx_shapprune.graph.passes.pairs import FIRST, REAL, channels_last
from onnx_shapprune.graph.rows import DIAGONAL
from onnx_shapprune.graph.stored import FLOATS, QUANTISED, RefusedError, Stored, integers

FEATURES_LAST = ("MatMul", "LayerNormalization")
ATTENTION = "Attention"  # op of layers whose units are heads
SEPARATE = ("BatchNormalization", "InstanceNormalization")
GROUP_SCALES_UNTIL = 20  # opset; GroupNormalization had one scale a group then


@dataclass(frozen=True, slots=True)
class Parameter:
    """A constant of the file of which channel c is the slice at index c of `axis`.

    groups > 0 marks a ConvTranspose weight [C_in, C_out/groups, ...]: channel c then is the rows of group
    c // (C_out/groups) at column c % (C_out/groups). zero: the stored number that means 0, another than 0 where the
    file is quantised.
    """

    name: str
    axis: int
    groups: int = 0
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose channels are units.

    name: the node's name (its output where that is empty or not unique). tensor: where a mask multiplies, channels on
    `axis` (1, or counted from the end).
    parameters: constants of which channel c is zeroed to switch unit c off.
    nodes: first outputs of the nodes that read these parameters: the layer, its bias Add, its BatchNormalization, and
    what stands between them and the file (DequantizeLinear, Transpose, Cast).
    heads: of attention, the channels of the value projection that make up each unit; parameters and nodes are the
    projection's.
    """

    name: str
    op: str
    tensor: str
    channels: int
    axis: int
    parameters: tuple[Parameter, ...]
    nodes: tuple[str, ...]
    heads: tuple[tuple[int, ...], ...] = ()

    def zeroed(self, units: Iterable[int]) -> list[int]:
        """Channels of the parameters that switching off `units` zeroes, ascending."""
        return sorted({c for u in units for c in (self.heads[u] if self.heads else (u,))})


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


def find_units(model: onnx.ModelProto, output: str) -> Units:
    """Units of a model (read only). `output` is the graph output that holds the class scores."""
    whole = edit.inlined(model) if model.functions else model
    graph = whole.graph
    context = look_up(whole, output)
    classifier = scores(output, context)
    names = _names(graph)
    layers: list[Layer] = []
    refused: list[Refused] = []
    taken: set[str] = set()
    for node in graph.node:
        if not node.output or node.output[0] in taken:
            continue
        name = names[node.output[0]]
        if kind(node) is None:
            if reason := _foreign(node, context):
                refused.append(Refused(name, node.op_type, reason))
            continue
        attention = False
        if node.op_type.endswith(("MatMul", "MatMulInteger")) and context.product(node):
            attention = _weighs_values(node, context)
            if not attention or node.output[0] not in context.live:
                continue  # any other product of two activations has no weights
        try:
            if attention:
                layer = _heads(node, name, layers, context)
            else:
                layer = _absorb_followers(_layer(node, name, classifier, context), context, taken)
                if model.functions:
                    _outside(layer, model.graph, context)
        except RefusedError as reason:
            refused.append(Refused(name, ATTENTION if attention else node.op_type, str(reason)))
        else:
            layers.append(layer)
    last = tuple(names[n.output[0]] for n in graph.node if n.output[0] in classifier and kind(n) in (*LINEAR, *INTEGER))
    return Units(tuple(layers), tuple(refused), last)


def linear_layers(model: onnx.ModelProto, output: str) -> tuple[tuple[Layer, ...], tuple[Refused, ...]]:
    """Layers that are linear in stored weights, those that make the class scores among them, and normalisations that belong
    to none of them, in graph order; and the rest with the reason. Their parameters and nodes are as those of units.
    """
    whole = edit.inlined(model) if model.functions else model
    graph = whole.graph
    context = look_up(whole, output)
    names, found, refused, taken = _names(graph), list[Layer](), list[Refused](), set[str]()
    for node in graph.node:
        if kind(node) not in (*LINEAR, *INTEGER, *DIAGONAL) or node.output[0] in taken or context.product(node):
            continue
        try:
            layer = _absorb_followers(_layer(node, names[node.output[0]], set(), context), context, taken)
            if model.functions:
                _outside(layer, model.graph, context)
            found.append(layer)
        except RefusedError as reason:
            refused.append(Refused(names[node.output[0]], node.op_type, str(reason)))
    return tuple(found), tuple(refused)


def _foreign(node: onnx.NodeProto, context: Lookup) -> str:
    """Why a node that has weights of its own has no units; "" where it is no layer."""
    weights = [t for n in node.input[1:] if (t := context.constants.get(n)) is not None and len(t.dims) > 1]
    if node.domain in edit.DEFAULT_DOMAIN and node.op_type in RECURRENT:
        return "its channels are read again in the next step"
    if not any(t.data_type in (*FLOATS, *QUANTISED) for t in weights) or node.domain in edit.DEFAULT_DOMAIN:
        return ""
    return f"the operator {node.domain}::{node.op_type} is not known here"


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


def _layer(node: onnx.NodeProto, name: str, classifier: set[str], context: Lookup) -> Layer:
    made = node.output[0]
    if made not in context.live:
        raise RefusedError("does not feed the class scores")
    if made in classifier:
        raise RefusedError("makes the class scores")
    if node.input[0] not in context.dynamic:
        left = context.dynamic.intersection(node.input[1:2])
        raise RefusedError("its weight is the left factor" if left else "its data is constant")
    attributes = edit.attributes(node)
    if node.op_type in NORMS:
        if node.op_type == "LayerNormalization" and attributes.get("axis", -1) not in (-1, context.last_axis(node)):
            raise RefusedError("it normalises over several axes")
        if node.op_type == "GroupNormalization" and context.opset <= GROUP_SCALES_UNTIL:
            raise RefusedError("it has one scale a group, not a channel")
        shape = context.stored(node.input[1]).shape
        layer = Layer(name, node.op_type, made, shape[0] if shape else 0, NORMS[node.op_type], (), (made,))
        return _normalised(layer, node, context)
    if node.op_type in INTEGER:
        return _integer_layer(node, name, context)
    weight = context.stored(node.input[1])
    shape = weight.shape
    if len(shape) < 2 or (len(shape) != 2 and kind(node) in ("Gemm", "MatMul")):
        raise RefusedError(f"its weight has {len(shape)} dimensions")
    group, op = 0, kind(node)
    if op == "Conv":
        channels, out, axis = shape[0], 0, 1
    elif op == "ConvTranspose":
        group = int(attributes.get("group", 1))  # type: ignore[call-overload]
        channels, out, axis = shape[1] * group, 1, 1
        if weight.axes[:2] != (0, 1):
            raise RefusedError("its weight is transposed")
    else:
        out = 0 if attributes.get("transB", 0) else 1
        channels, axis = shape[out], -1
    tensor = f"{made}{REAL}" if is_fused(node) else made
    layer = _with(Layer(name, node.op_type, tensor, channels, axis, (), (made,)), weight, out, group)
    if len(node.input) > 2 and node.input[2]:
        bias = context.stored(node.input[2])
        # The Conv's own bias is a vector; a Gemm's broadcasts like that of an Add.
        layer = _with(layer, bias, _bias_axis(replace(layer, axis=-1), bias.shape, len(shape)))
    return layer


def _integer_layer(node: onnx.NodeProto, name: str, context: Lookup) -> Layer:
    inputs = [*node.input, *[""] * 9]
    place, zero, bias = INTEGER[node.op_type]
    weight = integers(inputs[place], inputs[zero], context.constants, context.made)
    if "Conv" in node.op_type:
        out, axis = 0, 1
    else:
        out, axis = 0 if edit.attributes(node).get("transB") else 1, -1
    if len(weight.shape) < 2 or (axis == -1 and len(weight.shape) != 2):
        raise RefusedError(f"its weight has {len(weight.shape)} dimensions")
    made = node.output[0]
    real = f"{made}{FIRST}{REAL}" if channels_last(node) else f"{made}{REAL}"
    layer = _with(Layer(name, node.op_type, real, weight.shape[out], axis, (), (made,)), weight, out)
    if bias is not None and inputs[bias]:
        added = integers(inputs[bias], "", context.constants, context.made)
        layer = _with(layer, added, _bias_axis(replace(layer, axis=-1), added.shape, 2))
    return layer


def _with(layer: Layer, found: Stored, axis: int, groups: int = 0) -> Layer:
    """The layer with one more parameter, whose channels lie on `axis` of what the node reads."""
    parameter = Parameter(found.name, found.axes[axis], groups, found.zero)
    return replace(layer, parameters=(*layer.parameters, parameter), nodes=(*layer.nodes, *found.nodes))


def _normalised(layer: Layer, node: onnx.NodeProto, context: Lookup) -> Layer:
    """The layer with the scale and the bias of a normalisation."""
    for name in filter(None, node.input[1:3]):
        found = context.stored(name)
        if found.shape != (layer.channels,):
            raise RefusedError("its scale and bias are not one value per channel")
        layer = _with(layer, found, 0)
    return layer


def _outside(layer: Layer, graph: onnx.GraphProto, context: Lookup) -> None:
    """Refuse parameters that a local function holds, or that several of its calls share."""
    known = edit.constants(graph)
    for parameter in layer.parameters:
        if parameter.name not in known or len(context.used.get(parameter.name, [])) != 1:
            raise RefusedError("its parameters are inside a local function, or shared by calls of it")


def _bias_axis(layer: Layer, shape: tuple[int, ...], rank: int) -> int:
    """The axis of an added constant that runs along the channels of a layer's output of `rank` dimensions."""
    from_end = rank - layer.axis if layer.axis > 0 else 1
    place = len(shape) - from_end
    if place < 0 or shape[place] != layer.channels or any(d != 1 for i, d in enumerate(shape) if i != place):
        raise RefusedError(f"its bias of shape {shape} is not one value per channel")
    return place


def _absorb_followers(layer: Layer, context: Lookup, taken: set[str]) -> Layer:
    """Move the insertion point behind a bias Add and a normalisation per channel that alone read the layer."""
    if layer.op in INTEGER or layer.tensor not in context.made:
        return layer  # its own tensor is inside the operator
    rank = 0 if layer.op in NORMS else len(context.stored(context.made[layer.tensor].input[1]).shape)
    while (found := context.only_reader(layer.tensor)) is not None:
        reader, name = found
        if reader.op_type == "Add" and rank:
            others = [n for n in reader.input if n != name]
            try:
                bias = context.stored(others[0]) if others else None
                grown = _with(layer, bias, _bias_axis(layer, bias.shape, rank)) if bias else layer
            except RefusedError:
                break  # not a bias per channel: the mask before it is exact too
            if bias is None:
                break
        elif reader.op_type in SEPARATE and reader.input[0] == name and layer.op not in FEATURES_LAST:
            grown = _normalised(layer, reader, context)
            taken.add(reader.output[0])
        else:
            break
        made = reader.output[0]
        layer = replace(grown, tensor=made, nodes=(*grown.nodes, made))
    return layer


def _weighs_values(node: onnx.NodeProto, context: Lookup) -> bool:
    """Whether a product of two activations is that of attention: its left factor comes out of a Softmax."""
    made = context.made.get(node.input[0])
    while made is not None and made.op_type in UNCHANGED:
        made = context.made.get(made.input[0])
    return node.op_type == "MatMul" and made is not None and made.op_type == "Softmax"


def _heads(node: onnx.NodeProto, name: str, layers: list[Layer], context: Lookup) -> Layer:
    """The heads of attention whose values are the right factor of `node`.

    Zeroing the features of a head zeroes what attention makes of it, and nothing else, where only `node` reads them.
    """
    by_tensor = {layer.tensor: layer for layer in layers if layer.axis == -1 and layer.op not in NORMS}
    values = next((by_tensor[t] for t in origin(node.input[1], context.made) if t in by_tensor), None)
    if values is None:
        raise RefusedError("its values are not features of one layer, moved only")
    found = list(readings(values.tensor, values.channels, context.used, context.shapes))
    mine = [v for reader, v in found if reader.output[0] == node.output[0] and v.tensor == node.input[1]]
    others = [v for reader, v in found if reader.output[0] != node.output[0]]
    if len(mine) != 1 or (mine[0].rank is None and mine[0].tensor != values.tensor):
        raise RefusedError("how its values are split into heads cannot be told from the graph")
    columns, places = mine[0].columns, mine[0].places
    if places[:1] == (-1,) and len(places) == 2:
        columns, places = columns.T, places[::-1]
    if len(places) != 2 or places[1] != -1 or not -(mine[0].rank or 0) < places[0] < -2:
        raise RefusedError("its heads have no axis of their own")
    if any(np.isin(columns, view.columns).any() for view in others):
        raise RefusedError("its values are read elsewhere too")
    units = tuple(tuple(row) for row in columns.tolist())
    return replace(
        values, name=name, op=ATTENTION, tensor=node.output[0], channels=len(units), axis=places[0], heads=units
    )
