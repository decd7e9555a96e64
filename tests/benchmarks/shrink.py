"""A smaller working copy, without the channels that stay off: what is multiplied by zero need not be computed.

Channels that an Add joins can only go together, and nothing goes where an operator might turn zeros into something else
or mix channels. Where a channel must stay although it is off, its weights are zeroed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.scopes import operands
from onnx_shapprune.graph.segments import KEEP_ZERO_PLANES, keeps_zero
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.probe import TensorInfo, probe
from onnx_shapprune.runtime.session import Device

Channels = NDArray[np.int64]
BLOCK = 8  # convolutions run fastest on multiples of it
JOINS = {"Add", "Sub", "Sum"}


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smaller copy, the layers as they are in it, and per layer the old number of every channel it still has."""

    prepared: Prepared
    layers: tuple[Layer, ...]
    kept: tuple[Channels, ...]


def shrink(prepared: Prepared, layers: Sequence[Layer], off: Mapping[int, Sequence[int]], device: Device) -> Shrunk:
    """Take channels `off` (index in `layers` -> channels) out of the working copy; its logits are those with them masked.

    The layers that come back are for masks only: their parameters are named after the original file. Raises ValueError
    for a layer that is not one of `shrinkable`.
    """
    if not set(off) <= shrinkable(prepared, layers):
        raise ValueError("only layers that are a Conv without groups or a Gemm can be made smaller")
    model = edit.copy_of(prepared.model)
    graph, infos = model.graph, prepared.infos
    stored = {t.name: t for t in graph.initializer}
    linear = _linear(graph)
    classes = _classes(graph, infos, linear, stored, {prepared.input, prepared.logits})
    gone = {layers[i].tensor: np.asarray(channels, np.int64) for i, channels in off.items()}
    by_tensor = {layer.tensor for layer in layers}
    kept: dict[str, Channels] = {}
    for root in set(classes.values()):
        producers = [name for name in linear if classes.get(name) == root]
        count = infos[producers[0]].shape[1] if producers else None
        if count is None:
            continue
        alive = np.zeros(count, bool)
        for name in producers:
            alive |= True if name not in by_tensor else ~np.isin(np.arange(count), gone.get(name, ()))
        spare = np.flatnonzero(~alive)
        alive[spare[: max(int(not alive.any()), -int(alive.sum()) % BLOCK)]] = True
        kept[root] = np.flatnonzero(alive)
    for number, node in enumerate(graph.node):
        if node.output[0] in linear:
            rows, columns = (kept.get(classes.get(name, "")) for name in (node.output[0], node.input[0]))
            _slice(graph, node, f"__{number}", linear[node.output[0]], stored, gone.get(node.output[0]), rows, columns)
    edit.prune_dead(graph)
    rng = np.random.default_rng(0)
    small, large = (
        {prepared.input: rng.random((n, *prepared.input_shape), np.float32)}
        for n in ((2, 3) if prepared.batch_free else (1, 1))
    )
    smaller = replace(prepared, model=model, infos=probe(model, small, large, device))
    left = tuple(kept.get(classes.get(u.tensor, ""), np.arange(u.channels)) for u in layers)
    return Shrunk(smaller, tuple(replace(u, channels=len(k)) for u, k in zip(layers, left, strict=True)), left)


def shrinkable(prepared: Prepared, layers: Sequence[Layer]) -> set[int]:
    """Indices of the layers whose channels can be taken out: their tensor is what a Conv or Gemm itself makes."""
    linear = _linear(prepared.model.graph)
    return {i for i, layer in enumerate(layers) if layer.tensor in linear}


@dataclass(frozen=True, slots=True)
class _Weights:
    """A Conv or Gemm with constant weights: which of their axes are the outputs and the inputs."""

    out_axis: int
    in_axis: int


def _linear(graph: onnx.GraphProto) -> dict[str, _Weights]:
    """What such nodes make -> their weights' axes."""
    stored = {t.name: t for t in graph.initializer}
    return {node.output[0]: weights for node in graph.node if (weights := _weights(node, stored)) is not None}


def _weights(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> _Weights | None:
    if node.op_type not in ("Conv", "Gemm") or not all(name in stored for name in node.input[1:] if name):
        return None
    given = edit.attributes(node)
    if node.op_type == "Conv":
        return _Weights(0, 1) if given.get("group", 1) == 1 else None
    bias = len(stored[node.input[2]].dims) if len(node.input) > 2 and node.input[2] else 1
    if given.get("transA", 0) or bias != 1:
        return None
    return _Weights(0, 1) if given.get("transB", 0) else _Weights(1, 0)


def _classes(
    graph: onnx.GraphProto,
    infos: Mapping[str, TensorInfo],
    linear: Mapping[str, _Weights],
    stored: Mapping[str, onnx.TensorProto],
    fixed: set[str],
) -> dict[str, str]:
    """Tensors whose channels, axis 1, go together -> a name of their class; tensors that must stay whole are not in it."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    frozen = set(fixed)
    for node in graph.node:
        read = [n for n in operands(node) if n and n not in stored]
        if node.output[0] in linear:
            find(node.input[0]), find(node.output[0])
        elif _same_channels(graph, node, infos, read):
            for name in read:
                parent[find(name)] = find(node.output[0])
        else:
            frozen.update([*read, *node.output])
    roots = {find(name) for name in frozen}
    return {name: find(name) for name in parent if find(name) not in roots}


def _same_channels(
    graph: onnx.GraphProto, node: onnx.NodeProto, infos: Mapping[str, TensorInfo], read: Sequence[str]
) -> bool:
    """Whether channel c of the output is 0 when it is 0 in all that is read, and depends on no other channel."""
    if len(node.output) != 1 or not read or any(name not in infos for name in [*read, node.output[0]]):
        return False
    shapes = [infos[name].shape for name in read]
    if any(len(s) < 2 or s[0] is not None or s[:2] != infos[node.output[0]].shape[:2] for s in shapes):
        return False
    if node.op_type in JOINS:
        return len(read) == len(node.input) and all(s == infos[node.output[0]].shape for s in shapes)
    if len(read) != 1:
        return False
    if node.op_type == "ReduceMean":
        given = edit.attributes(node)
        constants = {t.name: t for t in graph.initializer}
        axes = given.get("axes") or (edit.array_of(constants[node.input[1]]).tolist() if len(node.input) > 1 else [])
        return isinstance(axes, list) and bool(axes) and all(a % len(shapes[0]) > 1 for a in axes)
    if node.op_type == "Flatten":
        return edit.attributes(node).get("axis", 1) == 1 and all(d == 1 for d in shapes[0][2:])
    return (node.op_type in KEEP_ZERO_PLANES and len(shapes[0]) > 2) or (
        keeps_zero(graph, node) and node.op_type != "PRelu"  # its slopes are per channel and would have to shrink too
    )


def _slice(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    suffix: str,
    weights: _Weights,
    stored: Mapping[str, onnx.TensorProto],
    gone: Channels | None,
    rows: Channels | None,
    columns: Channels | None,
) -> None:
    """Give a node its own weights: 0 for outputs that are `gone`, only `rows` of its outputs, `columns` of its inputs."""
    for place, name in enumerate(node.input):
        if place == 0 or not name:
            continue
        array = edit.array_of(stored[name]).copy()
        out_axis = weights.out_axis if place == 1 else 0
        if gone is not None:
            array[(slice(None),) * out_axis + (gone,)] = 0
        if rows is not None:
            array = array.take(rows, axis=out_axis)
        if columns is not None and place == 1:
            array = array.take(columns, axis=weights.in_axis)
        node.input[place] = f"{name}{suffix}"
        graph.initializer.append(edit.tensor_of(array, node.input[place]))
