"""Replay that keeps every value where the graphs run: for CUDA, where a copy to the host and back costs more than a layer.

It gives the numbers of Replay. The choices of masks that go through a segment together are joined, masked and split inside
the graph, a fixed number at a time, so that shapes are fixed (cuDNN plans anew for every shape) and nothing but masks and
logits passes between host and device.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.game.replay import Coalitions, Floats, Player, Replay, Values
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.segments import mask_input, side_by_side, with_weights
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.session import CUDA, Device, Resident, Session, to_device

SIZES = (1, 8, 64)  # choices of masks in a run; fewer are filled up


class ResidentReplay(Replay):
    """The same numbers as Replay; where some segment cannot take several choices of masks at once, it is a plain one."""

    def __init__(
        self, prepared: Prepared, layers: Sequence[Layer], players: Sequence[Player], inputs: Floats, device: Device
    ) -> None:
        self._joined_sessions: dict[tuple[int, int], Session] = {}
        super().__init__(prepared, layers, players, inputs, device)

    def _side_by_side(self, s: int) -> int:
        return min(super()._side_by_side(s), SIZES[-1])

    def _light(self, s: int) -> bool:
        return False  # on a GPU one large run beats many small ones

    def _compute(
        self,
        part: int,
        s: int,
        rows: Sequence[int],
        off: Coalitions,
        keys: Sequence[Sequence[bytes]],
        values: dict[tuple[int, bytes], Values],
    ) -> list[Values]:
        if not (self._prepared.batch_free and all(self._joins)):
            return super()._compute(part, s, rows, off, keys, values)
        segment, count = self._segments[s], next(n for n in SIZES if n >= len(rows))
        filled = [*rows, *[rows[-1]] * (count - len(rows))]
        feeds: dict[str, Resident] = {}
        fed = dict(zip(segment.reads, segment.made_by, strict=True)) | dict(segment.without)
        for name, source in fed.items():
            if source < 0:
                held = [to_device(self._parts[part], self._device)] * count
            else:
                held = [values[source, keys[source][row]][name] for row in filled]
            if not self._batched(name):
                feeds[name] = held[0]
                continue
            feeds.update({f"{name}__{i}": value for i, value in enumerate(held)})
            if name in self._masks and name in segment.reads:
                feeds[mask_input(name)] = to_device(self._mask(name, off[filled], held[0].shape[0]), self._device)
        if (s, count) not in self._joined_sessions:
            joined = side_by_side(segment, count, self._masks, self._infos)
            self._joined_sessions[s, count] = Session(
                with_weights(joined, self._bare), self._device, weights=self._prepared.model
            )
        self.segments_run += len(rows)
        made = self._joined_sessions[s, count].run_resident(feeds)
        return [{n: made[f"{n}__{i}"] for n in segment.makes} for i in range(len(rows))]

    def _mask(self, name: str, off: Coalitions, repeat: int) -> NDArray[np.bool_]:
        """Mask rows bool (n * repeat, 1 or channels, ...) of a tensor for coalitions' `off`, bool (n, players)."""
        place = self._masks[name].place
        rank = len(self._infos[name].shape)
        axis = self._axes[place] % rank
        channels = self._infos[name].shape[axis]
        assert channels is not None
        rows = np.ones((len(off), channels), np.bool_)
        members = self._members[place]
        rows[:, self._channels[members]] = ~off[:, members]
        shape = [1] * rank
        shape[0], shape[axis] = len(off), channels
        return np.repeat(rows.reshape(shape), repeat, axis=0)


def replay_for(
    prepared: Prepared, layers: Sequence[Layer], players: Sequence[Player], inputs: Floats, device: Device
) -> Replay:
    """The replay that suits the device."""
    kind = ResidentReplay if device.provider == CUDA else Replay
    return kind(prepared, layers, players, inputs, device)
