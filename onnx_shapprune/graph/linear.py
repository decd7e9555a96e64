"""Layers that are linear in weights that the file stores, on the working copy and in the file: found, read, and written.

A unit is switched off where its parameters lie; a layer is realigned by other weights in the same place. So this looks
at the same nodes as `units`, the classifier among them, and keeps the way from a node of the working copy, where rows
are computed, to the constants of the file, where the result is written.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.bake import own_tensor, store
from onnx_shapprune.graph.rows import Geometry, geometry_of, matrices, weight_of
from onnx_shapprune.graph.scopes import inner_uses
from onnx_shapprune.graph.stored import RefusedError, Stored, readable, stored
from onnx_shapprune.graph.units import Layer, Parameter, Refused, linear_layers

Doubles = NDArray[np.float64]
INT_LIMITS = {
    np.dtype(t): (np.iinfo(t).min, np.iinfo(t).max) for t in (np.int8, np.uint8, np.int16, np.uint16, np.int32)
}


@dataclass(frozen=True, slots=True)
class Home:
    """A constant of the file. stored: where and how it lies there; steps: of a quantised one, the size of a step, one for
    all or one for each place on `axis` of the array in the file, else None.
    """

    stored: Stored
    steps: Doubles | None = None
    axis: int = 0

    def values(self, array: edit.Array) -> Doubles:
        """What an array of the file means, as the layer reads it."""
        means = array.astype(np.float64)
        if self.steps is not None:
            means = (means - self.stored.zero) * self._along(array.ndim)
        return np.asarray(np.transpose(means, self.stored.axes))

    def array(self, values: Doubles, like: edit.Array) -> edit.Array:
        """The inverse of `values`, in the shape and type of an array; integers are rounded to the next step."""
        lies = np.transpose(values, np.argsort(self.stored.axes))
        if self.steps is not None:
            lies = lies / self._along(lies.ndim) + self.stored.zero
        if like.dtype in INT_LIMITS:
            lies = np.clip(np.rint(lies), *INT_LIMITS[like.dtype])
        return np.asarray(lies.astype(like.dtype)).reshape(like.shape)

    def _along(self, rank: int) -> Doubles:
        assert self.steps is not None
        axis = self.axis % rank
        return self.steps.reshape([-1 if i == axis else 1 for i in range(rank)])


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer.

    layer: its parameters and nodes in the file. data, made: tensors that it reads and makes in the working copy. geometry:
    how its rows are gathered. weight, shift: where the file stores its weight, and the constant that is added to its output
    channels, None where it stores none. gain: [out] what the working copy multiplied the file's weight with, channel by
    channel (a folded BatchNormalization). behind: whether `shift` is added behind that gain.
    """

    layer: Layer
    data: str
    made: str
    geometry: Geometry
    weight: Home
    shift: Home | None
    gain: Doubles
    behind: bool

    @property
    def name(self) -> str:
        return self.layer.name


@dataclass(frozen=True, slots=True)
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
    """The linear layers of a model in graph order, and those that cannot be edited with the reason.

    original: the file; output: its graph output with the class scores; copy: its working copy.
    """
    layers, refused = linear_layers(original, output)
    nodes = {node.output[0]: node for node in copy.graph.node if node.output}
    values = {t.name: t for t in copy.graph.initializer}
    graph = original.graph
    known, made, used = readable(graph), edit.producers(graph), edit.consumers(graph)
    found: list[Linear] = []
    no: list[Refused] = list(refused)
    for layer in layers:
        try:
            node = next((nodes[n] for n in reversed(layer.nodes) if n in nodes and nodes[n].op_type == layer.op), None)
            if node is None or node.input[1] not in values:
                raise RefusedError("the working copy computes it otherwise")
            geometry = geometry_of(node, tuple(values[node.input[1]].dims))
            first = made[layer.nodes[0]]
            weight = _home(first.input[1], layer, known, made, used)
            theirs = matrices(weight.values(edit.array_of(known[weight.stored.name])), geometry)
            ours = matrices(edit.array_of(values[node.input[1]]).astype(np.float64), geometry)
            shift, behind = _shift_home(layer, first, known, made, used)
            found.append(
                Linear(layer, node.input[0], node.output[0], geometry, weight, shift, _gain(ours, theirs), behind)
            )
        except RefusedError as reason:
            no.append(Refused(layer.name, layer.op, str(reason)))
    return tuple(found), tuple(no)


def _home(
    name: str,
    layer: Layer,
    known: Mapping[str, onnx.TensorProto],
    made: Mapping[str, onnx.NodeProto],
    used: Mapping[str, list[onnx.NodeProto]],
) -> Home:
    found = stored(name, known, made, used)
    if found.name not in {p.name for p in layer.parameters}:
        raise RefusedError("its parameters lie elsewhere")
    quantised = next((made[n] for n in found.nodes if made[n].op_type == "DequantizeLinear"), None)
    if quantised is None:
        return Home(found)
    scale = edit.stored_name(known, made, quantised.input[1])
    if scale is None:
        raise RefusedError("the scale of its weights is computed")
    axis = int(edit.attributes(quantised).get("axis", 1))  # type: ignore[call-overload]
    return Home(found, edit.array_of(known[scale]).astype(np.float64).reshape(-1), axis)


def _shift_home(
    layer: Layer,
    first: onnx.NodeProto,
    known: Mapping[str, onnx.TensorProto],
    made: Mapping[str, onnx.NodeProto],
    used: Mapping[str, list[onnx.NodeProto]],
) -> tuple[Home | None, bool]:
    """Where a constant per output channel can be added: the layer's own bias, that of an Add or BatchNormalization behind
    it, and whether it stands behind a normalisation.
    """
    bias = first.input[2] if len(first.input) > 2 else ""
    behind = False
    followers = [made[n] for n in layer.nodes[1:] if n in made]
    norms = [n for n in followers if n.op_type == "BatchNormalization"]
    if bias:
        name = bias
    elif norms:
        name, behind = norms[-1].input[2], True
    else:
        adds = [n for n in followers if n.op_type == "Add"]
        names = [i for n in adds for i in n.input if edit.stored_name(known, made, i) is not None]
        if not names:
            return None, False
        name = names[0]
    try:
        home = _home(name, layer, known, made, used)
    except RefusedError:
        return None, False
    return home, behind


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


def change_copy(copy: onnx.ModelProto, linear: Linear, change: Change) -> None:
    """Give a layer of the working copy other weights, in place."""
    graph = copy.graph
    place, node = next((i, n) for i, n in enumerate(graph.node) if linear.made in n.output)
    weight, shift = f"{linear.made}__realigned_w", f"{linear.made}__realigned_b"
    tensors = {t.name: t for t in graph.initializer}
    values = weight_of(change.weight, linear.geometry).astype(np.float32)
    added = change.shift.astype(np.float32)
    if node.op_type != "MatMul" and len(node.input) > 2 and node.input[2]:
        added = (edit.array_of(tensors[node.input[2]]).astype(np.float64) + added).astype(np.float32)
    _put(graph, tensors, weight, values)
    node.input[1] = weight
    if node.op_type == "MatMul":
        if shift not in tensors and np.any(change.shift):
            inner = f"{linear.made}__realigned"
            node.output[0] = inner
            graph.node.insert(place + 1, onnx.helper.make_node("Add", [inner, shift], [linear.made]))
        if not np.any(change.shift):
            return
    elif len(node.input) > 2:
        node.input[2] = shift
    else:
        node.input.append(shift)
    _put(graph, tensors, shift, added)


def _put(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto], name: str, values: edit.Array) -> None:
    if name in tensors:
        tensors[name].CopyFrom(edit.tensor_of(values, name))
    else:
        graph.initializer.append(edit.tensor_of(values, name))


def rewrite(original: onnx.ModelProto, changes: Mapping[str, tuple[Linear, Change]]) -> onnx.ModelProto:
    """A copy of the file with other weights in some layers, by name; nothing but their constants differs."""
    copy = edit.copy_of(original)
    for linear, change in changes.values():
        groups, rows, _ = change.weight.shape
        gain = np.where(np.abs(linear.gain) > 1e-12, linear.gain, 1.0)
        theirs = change.weight / gain.reshape(groups, rows, 1)
        _write(copy, linear, linear.weight, weight_of(theirs, linear.geometry))
        if linear.shift is not None:
            shift = change.shift if linear.behind else change.shift / gain
            _add(copy, linear, linear.shift, shift)
    return copy


def _write(model: onnx.ModelProto, linear: Linear, home: Home, values: Doubles) -> None:
    """Store values, as the layer reads them, at their place and in their type."""
    tensor = own_tensor(model, Parameter(home.stored.name, 0), linear.layer)
    store(tensor, home.array(values, edit.array_of(tensor)))


def _add(model: onnx.ModelProto, linear: Linear, home: Home, shift: Doubles) -> None:
    """Add a constant to every output channel where the file adds one."""
    tensor = own_tensor(model, Parameter(home.stored.name, 0), linear.layer)
    before = edit.array_of(tensor)
    means = home.values(before)
    store(tensor, home.array(means + shift.reshape([-1 if d > 1 else 1 for d in means.shape]), before))


def consumers(copy: onnx.ModelProto, linears: Sequence[Linear], tensors: Collection[str]) -> tuple[Linear, ...]:
    """Those of the layers that read one of the tensors, or what is computed of it without another layer between."""
    by_output = {linear.made: linear for linear in linears}
    reached, found = set(tensors), set[str]()
    for node in copy.graph.node:
        if not reached.intersection([*node.input, *inner_uses(node)]):
            continue
        made = next((n for n in node.output if n in by_output), None)
        if made is None:
            reached.update(n for n in node.output if n)
        elif reached.intersection(node.input[:1]):
            found.add(made)
    return tuple(linear for linear in linears if linear.made in found)
