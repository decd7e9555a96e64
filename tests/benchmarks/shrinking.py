"""Replay for walks over whole networks: channels that are off for the rest of a walk are taken out on the way.

A walk from the full network to nothing has half of its channels off on average, and most of the arithmetic is then
multiplied by zero. The commands play games that switch off too little for this: it serves replay.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.game.replay import Coalitions, Floats, Player, Replay
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.session import Device
from tests.benchmarks.shrink import shrink, shrinkable

WORTHWHILE = 1 / 8  # of the channels that are left: building a smaller copy takes as long as a few dozen coalitions


@dataclass(frozen=True, slots=True)
class _Smaller:
    """A replay of the copy without the players `off`, bool (players,); columns: the players who play on in it."""

    off: NDArray[np.bool_]
    columns: NDArray[np.int64]
    replay: Replay


class ShrinkingReplay(Replay):
    """The same numbers as Replay. It shrinks for what all coalitions of a call have off, so it is for few walks at a time:
    one after the other is best.
    """

    def __init__(
        self, prepared: Prepared, layers: Sequence[Layer], players: Sequence[Player], inputs: Floats, device: Device
    ) -> None:
        self._smaller: _Smaller | None = None
        self._layers = list(layers)
        self._channels_in_all = sum(layer.channels for layer in layers)
        layers_that_shrink = shrinkable(prepared, layers)
        self._removable = np.array([p.layer in layers_that_shrink for p in players], np.bool_)
        super().__init__(prepared, layers, players, inputs, device)

    def __call__(self, coalitions: Coalitions) -> Floats:
        """As Replay."""
        off: NDArray[np.bool_] = ~coalitions.any(axis=0) & self._removable
        if self._smaller and (self._smaller.off & ~off).any():
            self._smaller = None  # another walk has begun
        before = int(self._smaller.off.sum()) if self._smaller else 0
        if off.any() and off.sum() - before > WORTHWHILE * (self._channels_in_all - before):
            self._smaller = None  # its memory first, and that of the sessions that the rest of the walk has no use for
            self.rest()
            self._smaller = self._without(off)
        if self._smaller is None:
            return super().__call__(coalitions)
        return self._smaller.replay(coalitions[:, self._smaller.columns])

    def _without(self, off: NDArray[np.bool_]) -> _Smaller:
        gone: dict[int, list[int]] = {}
        for i in np.flatnonzero(off):
            gone.setdefault(self.players[i].layer, []).append(self.players[i].channel)
        small = shrink(self._prepared, self._layers, gone, self._device)
        columns = np.flatnonzero(~off)
        place = [{int(c): k for k, c in enumerate(kept)} for kept in small.kept]
        left = [Player(p.layer, place[p.layer][p.channel]) for p in (self.players[i] for i in columns)]
        return _Smaller(off, columns, Replay(small.prepared, small.layers, left, self._inputs, self._device))
