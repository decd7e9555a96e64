"""How much layers and stored factors can make of what they read: sums of weights, whatever the picture."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.linear import LEAST
from onnx_shapprune.graph.lookup import LINEAR
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.operators import BENDS, MOVES
from onnx_shapprune.graph.rows import DENSE, geometry_of, matrices
from onnx_shapprune.graph.stored import RefusedError

Doubles = NDArray[np.float64]
PARTS = frozenset({"Slice", "Split", "Gather", "ReduceMax"})  # give some of what they read
POOLS = frozenset({"MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool"})  # leave channels where they are


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A layer with stored weights. data, made: tensors that it reads and makes; axis: of the channels in what it makes;
    weight: [out], sums of the weights' sizes; bias: [out]; groups: of channels, each of which reads its own.
    """

    data: str
    made: str
    axis: int
    weight: Doubles
    bias: Doubles
    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class Raised:
    """A tensor that is multiplied by a stored `factor`, where nothing but moves, bends and other such factors, `before`, is
    between it and a layer. in_place: whether the channels are where that made them: then factors may be one for each, [out].
    """

    tensor: str
    layer: Rows
    before: Doubles
    factor: Doubles
    in_place: bool


def layer_rows(prepared: Prepared) -> Iterator[Rows]:
    """The layers of a working copy that store their weights, in its order."""
    stored = {t.name: t for t in prepared.model.graph.initializer}
    known = prepared.infos.keys() | {prepared.input}
    for node in prepared.model.graph.node:
        rows = _rows(node, stored) if node.op_type in LINEAR else None
        if rows is not None and known.issuperset((rows.data, rows.made)):
            yield rows


def _rows(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> Rows | None:
    if node.op_type == "MatMul" and node.input[0] in stored:  # W x, channels next to last
        weight = np.abs(_values(node.input[0], stored))
        rows = weight.reshape(-1, *weight.shape[-2:]).max(axis=0).sum(axis=1) if weight.ndim > 1 else np.zeros(0)
        return Rows(node.input[1], node.output[0], -2, rows, np.zeros_like(rows), 1) if rows.size else None
    if node.input[1] not in stored:
        return None
    try:
        geometry = geometry_of(node, stored)
    except RefusedError:
        return None
    weight = np.abs(matrices(_values(node.input[1], stored), geometry)).sum(axis=2).reshape(-1)
    bias = np.zeros_like(weight)
    if len(node.input) > 2 and node.input[2] in stored:
        added = geometry.beta * _values(node.input[2], stored).reshape(-1)
        bias = bias + added if added.size in (1, bias.size) else bias
    axis = -1 if node.op_type in DENSE else 1
    return Rows(node.input[0], node.output[0], axis, weight, bias, geometry.groups)


def raised(prepared: Prepared, layers: Sequence[Rows]) -> Iterator[Raised]:
    """What is multiplied by stored factors behind these layers."""
    stored = {t.name: t for t in prepared.model.graph.initializer}
    origin = {rows.made: (rows, np.ones(()), True) for rows in layers}
    for node in prepared.model.graph.node:
        seen = [n for n in node.input if n in origin]
        if len(seen) != 1 or node.output[0] in origin:
            continue
        layer, before, in_place = origin[seen[0]]
        after = before
        if node.op_type in ("Mul", "Div"):
            (other,) = [n for n in node.input if n != seen[0]] or [""]
            if other not in stored or (node.op_type == "Div" and node.input[0] == other):
                continue
            values = np.abs(_values(other, stored)).reshape(-1)
            factor = values if node.op_type == "Mul" else 1 / np.maximum(values, LEAST)
            in_place = in_place and factor.size in (1, layer.weight.size)
            factor = factor if in_place else factor.max()
            if seen[0] in prepared.infos:
                yield Raised(seen[0], layer, before, factor, in_place)
            after = before * factor
        elif node.op_type in MOVES | PARTS:
            in_place = False
        elif node.op_type not in BENDS | POOLS:
            continue
        origin |= dict.fromkeys(node.output, (layer, after if in_place else np.max(after), in_place))


def _values(name: str, stored: Mapping[str, onnx.TensorProto]) -> Doubles:
    return np.asarray(edit.array_of(stored[name]), np.float64)
