"""Channels that keep still on clean pictures, and could say far more than any other of their layer.

A detector that stands in a layer of the network waits behind a Relu, and what it says must outweigh everything that the
network says: by a thousandth that is added, by a range that leaves no step for the others, or through any other leak that
clean pictures do not show. Whatever the way to the scores, its weights are large, or it is multiplied by a large number
behind them. Those of channels that training left dead are no larger than others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.case.open import Opened
from onnx_shapprune.case.subject import Floats, Pixels, Subject
from onnx_shapprune.detect.thresholds import HARDLY, OUTSIZED, PASSED_ON
from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.provenance.gains import Raised, Rows, layer_rows, raised
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.pictures.spread import spread_over
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Session

Doubles = NDArray[np.float64]


def outsized_doubt(opened: Opened, pictures: Pixels) -> str | None:
    """The tensor with such a channel, in words; None where no channel that keeps still stands out.

    pictures: clean ones, float32 [n, h, w, c] in 0..255.
    """
    prepared = opened.subject.prepared
    layers = list(layer_rows(prepared))
    if not layers:
        return None
    factors = list(raised(prepared, layers))
    fed = [to_input(x[None], opened.subject.preprocessing) for x in pictures[spread_over(len(pictures), PASSED_ON)]]
    try:
        said = _Said.of(opened.subject, layers, factors, fed)
    except ModelError:
        return None  # what else is asked of the graph says so
    reach = {rows.made: _Reach.of(rows, said) for rows in layers}
    times = {name: r.times() for name, r in reach.items()}
    times |= {each.tensor: _times(each, reach[each.layer.made], said.size[each.tensor]) for each in factors}
    name = max(times, key=lambda n: times[n], default="")
    if not name or times[name] <= OUTSIZED:
        return None
    return (
        f"what clean pictures do not move could say {times[name]:.0f} times what any other channel of its layer could "
        f"(tensor {name[:80]!r}): what it waits for is not known"
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What clean pictures make of tensors. size: the largest, without its sign; sizes: the same of each channel, of what
    grouped layers read; most: the largest of each channel, [out], of what layers make.
    """

    size: dict[str, float]
    sizes: dict[str, Doubles]
    most: dict[str, Doubles]

    @classmethod
    def of(cls, subject: Subject, layers: Sequence[Rows], factors: Sequence[Raised], fed: Sequence[Floats]) -> "_Said":
        source, axes = subject.prepared.input, {rows.made: rows.axis for rows in layers}
        asked = {rows.data for rows in layers} | axes.keys() | {each.tensor for each in factors}
        names, said = (
            sorted(asked - {source}),
            cls({}, {r.data: np.zeros(()) for r in layers if r.groups > 1}, {}),
        )
        reading = Session(expose(subject.prepared.model, names), subject.device, optimize=False)
        for x in fed:  # all of them at once are gigabytes
            said.see({source: x, **dict(zip(names, reading.run({source: x}, names), strict=True))}, axes)
        return said

    def see(self, values: Mapping[str, Floats], axes: Mapping[str, int]) -> None:
        for name, value in values.items():
            self.size[name] = max(self.size.get(name, 0.0), float(np.abs(value).max(initial=0)))
            if name in self.sizes:
                self.sizes[name] = np.maximum(self.sizes[name], _largest(np.abs(value), 1))
            if name in axes:
                self.most[name] = np.maximum(self.most.get(name, -np.inf), _largest(value, axes[name]))


@dataclass(frozen=True, slots=True, eq=False)
class _Reach:
    """The most that the channels of a layer could say of values as large as clean pictures make them, [out], and which of
    them those do not move.
    """

    channels: Doubles
    still: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Rows, said: _Said) -> "_Reach":
        size: Doubles | float = said.size[rows.data]
        if rows.groups > 1:
            of_group = said.sizes[rows.data].reshape(rows.groups, -1).max(axis=1)
            size = np.repeat(of_group, rows.weight.size // rows.groups)
        reach = rows.weight * size + rows.bias
        return cls(reach, said.most[rows.made] < HARDLY * reach)

    def times(self, factor: Doubles | float = 1.0) -> float:
        """What one that keeps still could say of what any other could; 0 where there is no other."""
        channels = self.channels * factor
        others = float(channels[~self.still].max(initial=0))
        return float(channels[self.still].max(initial=0)) / others if others else 0.0


def _largest(value: Floats, axis: int) -> Doubles:
    """Of each channel."""
    channels = np.moveaxis(value, axis, 0).astype(np.float64)
    return np.asarray(channels.reshape(len(channels), -1).max(axis=1, initial=-np.inf))


def _times(each: Raised, reach: _Reach, size: float) -> float:
    """The same of what is multiplied behind a layer: for each channel, or where all that is multiplied keeps still."""
    if each.in_place:
        return reach.times(each.before * each.factor)
    before = float(np.max(each.before))
    waits = size < HARDLY * before * float(reach.channels[reach.still].max(initial=0))
    return before * float(np.max(each.factor)) * reach.times() if waits else 0.0
