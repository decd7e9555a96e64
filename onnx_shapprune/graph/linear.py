"""Layers that are linear in weights that the file stores, on the working copy and in the file: found, read, and written.

A unit is switched off where its parameters lie; a layer is realigned by other weights in the same place. So this looks
at the same nodes as `units`, the classifier among them, and keeps the way from a node of the working copy, where rows
are computed, to the constants of the file, where the result is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.bake import own_tensor, store
from onnx_shapprune.graph.homes import Home, file_array, home_of, integer_homes
from onnx_shapprune.graph.lookup import INTEGER, LINEAR, Lookup, look_up
from onnx_shapprune.graph.passes.plain import taken_names
from onnx_shapprune.graph.rows import DIAGONAL, Geometry, geometry_of, matrices, weight_of
from onnx_shapprune.graph.stored import RefusedError
from onnx_shapprune.graph.units import Layer, Parameter, Refused, linear_layers

Doubles = NDArray[np.float64]
LEAST = 1e-12  # what is multiplied with less cannot be told from a layer that is off


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """One linear layer.

    layer: its parameters and nodes in the file. data, made: tensors that it reads and makes in the working copy. geometry:
    how its rows are gathered. weight, shift: where the file stores its weight, and the constant that is added to its output
    channels, None where it stores none. gain: [out] what the working copy multiplied the file's weight with, channel by
    channel (a folded BatchNormalization); shift_gain: [out] what 1 more in `shift` adds to the output in the copy.
    """

    layer: Layer
    data: str
    made: str
    geometry: Geometry
    weight: Home
    shift: Home | None
    gain: Doubles
    shift_gain: Doubles

    @property
    def name(self) -> str:
        return self.layer.name


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """New values of one layer, in terms of the working copy. weight: [groups, out/groups, fan_in]; shift: [out], what is
    added to its output beside that. before: the weight that it replaces.
    """

    weight: Doubles
    shift: Doubles
    before: Doubles

    @property
    def share(self) -> float:
        """How much the weight changes, |N - W| / |W| in the Frobenius norm."""
        size = float(np.linalg.norm(self.before))
        return float(np.linalg.norm(self.weight - self.before)) / size if size else 0.0

    @property
    def rank(self) -> int:
        """The rank of the change, over all groups: singular values above a thousandth of the largest."""
        moved = self.weight - self.before
        squares = np.linalg.eigvalsh(moved @ moved.swapaxes(1, 2))
        return int((squares > 1e-6 * squares.max(initial=0.0)).sum())


def find_linears(
    original: onnx.ModelProto, output: str, copy: onnx.ModelProto
) -> tuple[tuple[Linear, ...], tuple[Refused, ...]]:
    """The linear layers of a model in the order of the working copy, and those that cannot be edited with the reason.

    original: the file; output: its graph output with the class scores; copy: its working copy.
    """
    layers, refused = linear_layers(original, output)
    whole = edit.inlined(original) if original.functions else original
    context, renamed = look_up(whole, output), taken_names(whole.graph)
    nodes = {node.output[0]: node for node in copy.graph.node if node.output}
    values = {t.name: t for t in copy.graph.initializer}
    found: list[Linear] = []
    no: list[Refused] = list(refused)
    for layer in layers:
        try:
            node = _twin(layer, nodes, renamed)
            if node is None or node.input[1] not in values:
                raise RefusedError("the working copy computes it otherwise")
            found.append(_linear(layer, node, values, context, renamed))
        except RefusedError as reason:
            no.append(Refused(layer.name, layer.op, str(reason)))
    order = {name: place for place, name in enumerate(nodes)}
    return tuple(sorted(found, key=lambda linear: order[linear.made])), tuple(no)


def _twin(layer: Layer, nodes: Mapping[str, onnx.NodeProto], renamed: Mapping[str, str]) -> onnx.NodeProto | None:
    """The node of the working copy that does what a layer of the file does."""
    ops = (layer.op,) if layer.op in (*LINEAR, *DIAGONAL) else LINEAR
    names = layer.nodes[:1] if layer.op in DIAGONAL else (layer.tensor, *reversed(layer.nodes))
    twins = (nodes.get(renamed.get(n, n)) for n in names)
    return next((node for node in twins if node is not None and node.op_type in ops), None)


def _linear(
    layer: Layer,
    node: onnx.NodeProto,
    values: dict[str, onnx.TensorProto],
    context: Lookup,
    renamed: Mapping[str, str],
) -> Linear:
    geometry = geometry_of(node, values)
    first = context.made[layer.nodes[0]]
    whole = layer.op in INTEGER
    weight, bias = integer_homes(first, context) if whole else (home_of(first.input[1], layer, context), None)
    theirs = matrices(weight.values(file_array(context.model.graph, weight.stored.name)), geometry)
    ours = matrices(edit.array_of(values[node.input[1]]).astype(np.float64), geometry)
    gain = _gain(ours, theirs)
    if whole:
        shift, shift_gain = bias, np.ones_like(gain)
    else:
        norms = [n for n in layer.nodes[1:] if context.made[n].op_type == "BatchNormalization"]
        folded = next((n for n in norms if renamed.get(n, n) == node.output[0]), "")
        shift, shift_gain = _shift_home(layer, folded, gain * geometry.beta, context)
    return Linear(layer, node.input[0], node.output[0], geometry, weight, shift, gain, shift_gain)


def _shift_home(layer: Layer, folded: str, own: Doubles, context: Lookup) -> tuple[Home | None, Doubles]:
    """Where a constant per output channel can be added, and what 1 more there adds to the output in the copy: the bias of
    the normalisation that the copy folded into the layer, the layer's own, that of an Add behind it.

    folded: output of that normalisation; own: what the layer's own bias is multiplied with.
    """
    first, ones = context.made[layer.nodes[0]], np.ones_like(own)
    places: list[tuple[str, Doubles]] = []
    if folded:
        places.append((context.made[folded].input[2], ones))
    if len(first.input) > 2 and first.input[2] and own.any():
        places.append((first.input[2], own))
    if not folded:
        adds = [context.made[n] for n in layer.nodes[1:] if n in context.made and context.made[n].op_type == "Add"]
        places += [(name, ones) for node in adds for name in node.input if name not in context.dynamic]
    for name, gain in places:
        try:
            return home_of(name, layer, context), gain
        except RefusedError:
            continue
    return None, ones


def _gain(ours: Doubles, theirs: Doubles) -> Doubles:
    """What each output row of the file's weight was multiplied with; 1 for rows of zeros."""
    if ours.shape != theirs.shape:
        raise RefusedError("the working copy has another weight")
    power = (theirs**2).sum(axis=2)
    gain = np.divide((ours * theirs).sum(axis=2), power, out=np.ones_like(power), where=power > 0)
    if np.abs(ours - gain[..., None] * theirs).max(initial=0.0) > 1e-3 * np.abs(ours).max(initial=1e-30):
        raise RefusedError("the working copy has another weight")
    return np.asarray(gain.reshape(-1))


def read(copy: onnx.ModelProto, linear: Linear) -> Doubles:
    """The weight of a layer in the working copy, [groups, out/groups, fan_in]."""
    node = next(n for n in copy.graph.node if linear.made in n.output)
    tensor = next(t for t in copy.graph.initializer if t.name == node.input[1])
    return matrices(edit.array_of(tensor).astype(np.float64), linear.geometry)


def before_shift(linear: Linear) -> str:
    """The tensor of a changed working copy that a MatMul makes, whose shift an Add of its own puts on."""
    return f"{linear.made}__realigned"


def change_copy(copy: onnx.ModelProto, linear: Linear, change: Change) -> None:
    """Give a layer of the working copy other weights, in place."""
    graph = copy.graph
    place, node = next((i, n) for i, n in enumerate(graph.node) if linear.made in n.output)
    weight, shift = f"{linear.made}__realigned_w", f"{linear.made}__realigned_b"
    tensors = {t.name: t for t in graph.initializer}
    _put(graph, tensors, weight, weight_of(change.weight, linear.geometry).astype(np.float32))
    node.input[1] = weight
    if not np.any(change.shift):
        return
    if node.op_type == "MatMul" or not linear.geometry.beta:
        node.output[0] = before_shift(linear)
        graph.node.insert(place + 1, onnx.helper.make_node("Add", [node.output[0], shift], [linear.made]))
        _put(graph, tensors, shift, change.shift.astype(np.float32))
        return
    added = change.shift / linear.geometry.beta
    if len(node.input) > 2 and node.input[2]:
        added = edit.array_of(tensors[node.input[2]]).astype(np.float64) + added
    _put(graph, tensors, shift, added.astype(np.float32))
    if len(node.input) > 2:
        node.input[2] = shift
    else:
        node.input.append(shift)


def _put(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto], name: str, values: edit.Array) -> None:
    if name in tensors:
        tensors[name].CopyFrom(edit.tensor_of(values, name))
    else:
        graph.initializer.append(edit.tensor_of(values, name))


def rewrite(original: onnx.ModelProto, changes: Mapping[str, tuple[Linear, Change]]) -> onnx.ModelProto:
    """A copy of the file with other weights in some layers, by name; nothing but their constants differs."""
    copy = edit.copy_of(original)
    for linear, change in changes.values():
        tensor = own_tensor(copy, Parameter(linear.weight.stored.name, 0), linear.layer)
        array = edit.array_of(tensor)
        before = matrices(linear.weight.values(array), linear.geometry)
        gain = linear.gain.reshape(*before.shape[:2], 1)
        theirs = np.divide(change.weight, gain, out=before, where=np.abs(gain) > LEAST)
        store(tensor, linear.weight.array(weight_of(theirs, linear.geometry), array))
        if linear.shift is not None and change.shift.any():
            kept = np.abs(linear.shift_gain) > LEAST
            more = np.divide(change.shift, linear.shift_gain, out=np.zeros_like(change.shift), where=kept)
            _add(copy, linear, linear.shift, more)
    return copy


def _add(model: onnx.ModelProto, linear: Linear, home: Home, shift: Doubles) -> None:
    """Add a constant to every output channel where the file adds one."""
    tensor = own_tensor(model, Parameter(home.stored.name, 0), linear.layer)
    before = edit.array_of(tensor)
    means = home.values(before)
    store(tensor, home.array(means + shift.reshape([-1 if d > 1 else 1 for d in means.shape]), before))


def with_products(linears: Sequence[Linear]) -> tuple[Linear, ...]:
    """The layers without scales and shifts of normalisations: a channel's own scale cannot tell a trigger from what it looks
    like, and fits with them and without agreed to three digits on WRN-16-1, a ViT and Swin.
    """
    return tuple(linear for linear in linears if linear.geometry.kind not in DIAGONAL)
