"""What differs between two model files: constants, switched-off channels, and anything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.stored import readable, written_out
from onnx_shapprune.graph.units import Layer, Parameter

Copies = dict[tuple[tuple[str, ...], str], onnx.TensorProto]


@dataclass(frozen=True, slots=True)
class Difference:
    """changed: names of constants whose values differ; zeroed: (layer name, channel) that are all zero in `after` only;
    other: differences beyond constants' values, in words. realigned: (layer name, |N - W| / |W| over its parameters) of
    linear layers that have other weights, beside what is zeroed.
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

    The channels are baked into `before`: what then still differs was realigned, or changed by somebody else.
    """
    known = {layer.nodes: layer for layer in (*linears, *layers)}  # of both, the one that has units
    found = compare(before, after, layers)
    off: dict[str, list[int]] = {}
    for name, channel in found.zeroed:
        off.setdefault(name, []).append(channel)
    baked = bake(before, layers, off)
    rest = compare(baked, after, tuple(known.values()))
    owners = {p.name: layer for layer in reversed(linears) for p in layer.parameters}
    moved: dict[str, list[str]] = {}
    other = list(rest.other)
    for name in rest.changed:
        if name in owners:
            moved.setdefault(owners[name].name, []).append(name)
        else:
            other.append(f"constant {name} holds other values")
    old = edit.constants(baked.graph)
    joined, copies = _rejoined(baked, after, tuple(known.values()))
    new = edit.constants(joined.graph) | {name: copy for (_, name), copy in copies.items()}
    realigned = tuple((layer, _share(old, new, names)) for layer, names in moved.items())
    return replace(found, other=tuple(other), realigned=realigned)


def _share(old: Mapping[str, onnx.TensorProto], new: Mapping[str, onnx.TensorProto], names: Sequence[str]) -> float:
    """How far constants moved, in their own size; 1 where they were all zero or are not stored one by one."""
    pairs = [(edit.array_of(old[n]), edit.array_of(new[n])) for n in names if n in old and n in new]
    moved = sum(float(((b.astype(np.float64) - a.astype(np.float64)) ** 2).sum()) for a, b in pairs)
    size = sum(float((a.astype(np.float64) ** 2).sum()) for a, _ in pairs)
    return float(np.sqrt(moved / size)) if size else 1.0


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
