"""What differs between two model files: constants, switched-off channels, and anything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.bake import readers, zero
from onnx_shapprune.graph.stored import readable, written_out
from onnx_shapprune.graph.units import Layer, Parameter

Copies = dict[tuple[tuple[str, ...], str], onnx.TensorProto]


@dataclass(frozen=True, slots=True)
class Difference:
    """changed: names of constants whose values differ; zeroed: (layer name, channel) that are all zero in `after` only;
    other: differences beyond constants' values, in words. realigned: (layer name, |N - W| / |W| as the file stores its
    weight) of linear layers that have other weights or biases, beside what is zeroed.
    """

    changed: tuple[str, ...]
    zeroed: tuple[tuple[str, int], ...]
    other: tuple[str, ...]
    realigned: tuple[tuple[str, float], ...] = ()


def compare(before: onnx.ModelProto, after: onnx.ModelProto, layers: Sequence[Layer]) -> Difference:
    """Compare two models; `layers` are the units' layers of `before`."""
    after, copies = _rejoined(before, after, layers)
    old, new = edit.constants(before.graph), edit.constants(after.graph)
    other = []
    if [_node(n) for n in before.graph.node] != [_node(n) for n in after.graph.node]:
        other.append("the nodes of the graph differ")
    if list(before.graph.input) != list(after.graph.input) or list(before.graph.output) != list(after.graph.output):
        other.append("the inputs or outputs differ")
    if list(before.opset_import) != list(after.opset_import) or list(before.functions) != list(after.functions):
        other.append("the opset or the local functions differ")
    missing, added = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    if missing:
        other.append(f"constants are missing: {', '.join(missing[:5])}")
    if added:
        other.append(f"constants were added: {', '.join(added[:5])}")
    changed = []
    for name in sorted(old.keys() & new.keys()):
        if old[name] == new[name]:
            continue
        if old[name].dims != new[name].dims or old[name].data_type != new[name].data_type:
            other.append(f"constant {name} has another shape or type")
        else:
            changed.append(name)
    same_shapes = not missing and not any("shape or type" in o for o in other)
    was = {
        p.name: old[p.name] if p.name in old else written_out(before.graph, p.name)
        for la in layers
        for p in la.parameters
    }
    zeroed = _zeroed(was, was | new, copies, layers) if same_shapes else ()
    changed += [parameter for (_, parameter), copy in copies.items() if not _same_values(was[parameter], copy)]
    return Difference(tuple(sorted(set(changed))), zeroed, tuple(other))


def explained(
    before: onnx.ModelProto, after: onnx.ModelProto, layers: Sequence[Layer], linears: Sequence[Layer] = ()
) -> Difference:
    """As `compare`, but `other` lists everything that a repair does not explain: channels that are off, and other weights in
    the `linears`, which are the linear layers of `before`.

    A parameter has to hold what it held with the channels zeroed; if not it was realigned, or changed by somebody else.
    """
    known = {layer.nodes: layer for layer in (*linears, *layers)}  # of both, the one that has units
    by_name, linear = {layer.name: layer for layer in layers}, {layer.nodes: layer.name for layer in linears}
    found, rest = compare(before, after, layers), compare(before, after, tuple(known.values()))
    off: dict[tuple[str, ...], set[int]] = {}
    for name, unit in found.zeroed:
        off.setdefault(by_name[name].nodes, set()).update(by_name[name].zeroed([unit]))
    joined, copies = _rejoined(before, after, tuple(known.values()))
    old, new = edit.constants(before.graph), edit.constants(joined.graph)
    moved: dict[str, float] = {}
    foreign = set(rest.changed) - {p.name for layer in known.values() for p in layer.parameters}
    for layer, parameter in [(la, p) for la in known.values() for p in la.parameters]:
        was = old[parameter.name] if parameter.name in old else written_out(before.graph, parameter.name)
        own = copies.get((layer.nodes, parameter.name))
        now = own or new.get(parameter.name, was)
        if was.dims != now.dims or was.data_type != now.data_type or _same_values(was, now):
            continue
        shared = own is None and not after.functions and readers(after.graph, parameter.name, layer)[1]
        expected, got = edit.array_of(was).copy(), edit.array_of(now)
        zero(expected, parameter, sorted(off.get(layer.nodes, ())), layer.channels)
        other_values = not np.array_equal(expected, got)
        if shared or (other_values and layer.nodes not in linear):  # a repair gives a layer a copy of its own instead
            foreign.add(parameter.name)
        if other_values and layer.nodes in linear:
            share = _share(expected, got, parameter.zero) if parameter == layer.parameters[0] else 0.0
            moved[linear[layer.nodes]] = max(share, moved.get(linear[layer.nodes], 0.0))
    other = [*rest.other, *(f"constant {name} holds other values" for name in sorted(foreign))]
    return replace(found, other=tuple(other), realigned=tuple(moved.items()))


def _share(was: edit.Array, now: edit.Array, zero_point: int) -> float:
    """How far a weight moved, in its own size; 1 where it was all zero."""
    old, new = (array.astype(np.float64) - zero_point for array in (was, now))
    size = float(np.linalg.norm(old))
    return float(np.linalg.norm(new - old)) / size if size else 1.0


def _node(node: onnx.NodeProto) -> bytes:
    """A node's identity without the payload of a Constant, which is compared as a constant."""
    if node.op_type != "Constant":
        return bytes(node.SerializeToString(deterministic=True))
    return "|".join([node.name, *node.output]).encode()


def _rejoined(
    before: onnx.ModelProto, after: onnx.ModelProto, layers: Sequence[Layer]
) -> tuple[onnx.ModelProto, Copies]:
    """`after` as if no shared constant had been copied for a layer, and (its nodes, parameter) -> its copy."""
    stored = {**readable(before.graph), **{p.name: onnx.TensorProto() for la in layers for p in la.parameters}}
    made, new = edit.producers(before.graph), edit.constants(after.graph)
    owner = {node: layer for layer in layers for node in layer.nodes}
    swaps: dict[tuple[int, int], str] = {}
    copies: Copies = {}
    for i, (was, now) in enumerate(zip(before.graph.node, after.graph.node, strict=False)):
        layer = owner.get(was.output[0]) if was.output else None
        if layer is None or list(was.input) == list(now.input) or len(was.input) != len(now.input):
            continue
        for j, (then, name) in enumerate(zip(was.input, now.input, strict=True)):
            origin = edit.stored_name(stored, made, then)
            if then != name and name in new and name not in stored and any(p.name == origin for p in layer.parameters):
                copies[layer.nodes, str(origin)] = new[name]
                swaps[i, j] = then
    if not swaps:
        return after, {}
    joined = edit.copy_of(after)
    for (i, j), then in swaps.items():
        joined.graph.node[i].input[j] = then
    extra = {copy.name for copy in copies.values()}
    for values in (joined.graph.initializer, joined.graph.input):
        kept = [v for v in values if v.name not in extra]
        del values[:]
        values.extend(kept)
    return joined, copies


def _same_values(a: onnx.TensorProto, b: onnx.TensorProto) -> bool:
    return a.data_type == b.data_type and np.array_equal(edit.array_of(a), edit.array_of(b))


def _zeroed(
    old: Mapping[str, onnx.TensorProto],
    new: Mapping[str, onnx.TensorProto],
    copies: Copies,
    layers: Sequence[Layer],
) -> tuple[tuple[str, int], ...]:
    """Units that are off in `new` only; of a head not its features as well."""
    found: dict[str, list[int]] = {}
    in_heads: dict[tuple[str, ...], set[int]] = {}
    for layer in sorted(layers, key=lambda layer: not layer.heads):
        now = {p.name: copies.get((layer.nodes, p.name), new[p.name]) for p in layer.parameters}
        if all(old[p.name] == now[p.name] for p in layer.parameters):
            continue
        dead, dying = (_dead_units(values, layer) for values in (old, now))
        found[layer.name] = [int(c) for c in np.flatnonzero(dying & ~dead)]
        if layer.heads:
            in_heads.setdefault(layer.nodes, set()).update(layer.zeroed(found[layer.name]))
        else:
            found[layer.name] = [c for c in found[layer.name] if c not in in_heads.get(layer.nodes, ())]
    return tuple((layer.name, c) for layer in layers for c in found.get(layer.name, ()))


def _dead_units(
    values: Mapping[str, onnx.TensorProto], layer: Layer
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Units of which every parameter is zero: bool [units]."""
    dead = np.logical_and.reduce(
        [_by_channel(edit.array_of(values[p.name]), p, layer.channels) for p in layer.parameters]
    )
    return np.array([dead[list(head)].all() for head in layer.heads]) if layer.heads else np.asarray(dead)


def _by_channel(
    array: edit.Array, parameter: Parameter, channels: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    if not parameter.groups:
        rest = tuple(i for i in range(array.ndim) if i != parameter.axis)
        return np.asarray((array == parameter.zero).all(axis=rest))
    grouped = array.reshape(parameter.groups, array.shape[0] // parameter.groups, *array.shape[1:])
    return np.asarray((grouped == parameter.zero).all(axis=(1, *range(3, grouped.ndim))).reshape(channels))
