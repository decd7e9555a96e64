"""Channels that keep still on clean pictures, and could say far more than any other of their layer.

A detector that stands in a layer of the network waits behind a Relu, and what it says must outweigh everything that the
network says: by a thousandth that is added, by a range that leaves no step for the others, or through any other leak that
clean pictures do not show. Whatever the way to the scores, its weights are large, or it is multiplied by a large number
behind them. Those of channels that training left dead are no larger than others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.detect.thresholds import HARDLY, OUTSIZED, PASSED_ON
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.linear import LEAST
from onnx_shapprune.graph.lookup import LINEAR
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.provenance.operators import BENDS, MOVES
from onnx_shapprune.graph.rows import DENSE, geometry_of, matrices
from onnx_shapprune.graph.stored import RefusedError
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session

Doubles = NDArray[np.float64]
PARTS = frozenset({"Slice", "Split", "Gather", "ReduceMax"})  # give some of what they read
POOLS = frozenset({"MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool"})  # leave channels where they are


def outsized_doubt(opened: Opened, pictures: Pixels) -> str | None:
    """The layer with such a channel, in words; None where no channel that keeps still stands out.

    pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    prepared, preprocessing = opened.subject.prepared, opened.subject.preprocessing
    stored = {t.name: t for t in prepared.model.graph.initializer}
    layers = [node for node in prepared.model.graph.node if _is_asked(node, prepared, stored)]
    raised = list(_raised(prepared, layers, stored))
    names = {n for node in layers for n in (node.input[0], node.output[0])} | {each.tensor for each in raised}
    fed = [to_input(x[None], preprocessing) for x in pictures[spread_over(len(pictures), PASSED_ON)]]
    try:
        said = _Said.of(opened.subject, sorted(names - {prepared.input}), {n.output[0]: _axis(n) for n in layers}, fed)
    except ModelError:
        return None  # what else is asked of the graph says so
    reach = {node.output[0]: _Reach.of(node, stored, said) for node in layers}
    times = {name: r.times(1.0) for name, r in reach.items()}
    for each in raised:
        r = reach[each.layer]
        if each.in_place:
            times[each.tensor] = r.times(each.before * each.factor)
        elif r.largest(r.others) and said.size[each.tensor] < HARDLY * (least := r.largest(r.still, each.before)):
            times[each.tensor] = float(np.max(each.factor)) * least / r.largest(r.others)  # all of it keeps still
    name = max(times, key=lambda n: times[n], default="")
    if not name or times[name] <= OUTSIZED:
        return None
    return (
        f"what clean pictures do not move could say {times[name]:.0f} times what any other channel of its layer could "
        f"(tensor {name[:80]!r}): what it waits for is not known"
    )


def _is_asked(node: onnx.NodeProto, prepared: Prepared, stored: dict[str, onnx.TensorProto]) -> bool:
    read_and_made = (node.input[0], node.output[0]) if node.op_type in LINEAR else ()
    known = prepared.infos.keys() | {prepared.input}
    return bool(read_and_made) and node.input[1] in stored and known.issuperset(read_and_made)


@dataclass(frozen=True, slots=True, eq=False)
class _Raised:
    """A tensor that is multiplied by a stored `factor`, where nothing but moves, bends and other such factors, `before`, is
    between it and a layer. in_place: whether the channels are where that made them: then factors may be one for each, [out].
    """

    tensor: str
    layer: str
    before: Doubles
    factor: Doubles
    in_place: bool


def _raised(
    prepared: Prepared, layers: Sequence[onnx.NodeProto], stored: dict[str, onnx.TensorProto]
) -> Iterator[_Raised]:
    origin = {node.output[0]: (node, np.ones(()), True) for node in layers}
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
            values = np.abs(edit.array_of(stored[other]).astype(np.float64)).reshape(-1)
            factor = values if node.op_type == "Mul" else 1 / np.maximum(values, LEAST)
            in_place = in_place and factor.size in (1, _channels(layer, stored))
            factor = factor if in_place else factor.max()
            if seen[0] in prepared.infos:
                yield _Raised(seen[0], layer.output[0], before, factor, in_place)
            after = before * factor
        elif node.op_type in MOVES | PARTS:
            in_place = False
        elif node.op_type not in BENDS | POOLS:
            continue
        origin |= dict.fromkeys(node.output, (layer, after if in_place else np.max(after), in_place))


def _channels(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> int:
    try:
        geometry = geometry_of(node, stored)
    except RefusedError:
        return 0
    weight = edit.array_of(stored[node.input[1]]).astype(np.float64)
    return int(np.prod(matrices(weight, geometry).shape[:2]))


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What clean pictures make of tensors. size: the largest, without its sign; most: the largest of each channel, [n], of
    what layers make.
    """

    size: dict[str, float]
    most: dict[str, Doubles]

    @classmethod
    def of(cls, subject: Subject, names: list[str], axes: dict[str, int], fed: Sequence[Floats]) -> "_Said":
        source, said = subject.prepared.input, cls({}, {})
        reading = Session(expose(subject.prepared.model, names), subject.device, optimize=False)
        for x in fed:  # all of them at once are gigabytes
            for name, value in {source: x, **dict(zip(names, reading.run({source: x}, names), strict=True))}.items():
                said.size[name] = max(said.size.get(name, 0.0), float(np.abs(value).max(initial=0)))
                if name in axes:
                    channels = np.moveaxis(value, axes[name], 0).astype(np.float64)
                    most = channels.reshape(len(channels), -1).max(axis=1, initial=-np.inf)
                    said.most[name] = np.maximum(said.most.get(name, most), most)
        return said


@dataclass(frozen=True, slots=True, eq=False)
class _Reach:
    """The most that the channels of a layer could say, [out], and which of them clean pictures do not move; of none where it
    is not known.
    """

    channels: Doubles
    still: NDArray[np.bool_]

    @classmethod
    def of(cls, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], said: _Said) -> "_Reach":
        try:
            geometry = geometry_of(node, stored)
        except RefusedError:
            return cls(np.zeros(0), np.zeros(0, np.bool_))
        weight = edit.array_of(stored[node.input[1]]).astype(np.float64)
        reach = np.abs(matrices(weight, geometry)).sum(axis=2).reshape(-1) * said.size[node.input[0]]
        if len(node.input) > 2 and node.input[2] in stored:
            bias = edit.array_of(stored[node.input[2]]).astype(np.float64).reshape(-1)
            reach = reach + geometry.beta * (bias if bias.size in (1, reach.size) else 0)
        return cls(reach, said.most[node.output[0]] < HARDLY * reach)

    @property
    def others(self) -> NDArray[np.bool_]:
        return ~self.still

    def largest(self, which: NDArray[np.bool_], factor: Doubles | float = 1.0) -> float:
        return float((self.channels * factor)[which].max(initial=0))

    def times(self, factor: Doubles | float) -> float:
        """What one that keeps still could say of what any other could; 0 where there is no other."""
        others = self.largest(self.others, factor)
        return self.largest(self.still, factor) / others if others else 0.0


def _axis(node: onnx.NodeProto) -> int:
    """Of the channels that a layer makes."""
    return -1 if node.op_type in DENSE else 1
