"""Logits of coalitions, each part of the network computed once for every choice of the masks that reach it.

A coalition is a set of channels left switched on. Two that differ only in late layers share everything before these: a
walk that switches off one channel after the other recomputes, at each step, what lies behind that channel and nothing
else, and walks side by side go through a segment together. Values between segments are kept while memory allows.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.graph.cost import activation_bytes, multiply_adds
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.segments import Segment, cut, with_weights
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.session import Array, Device, Session
from onnx_shapprune.runtime.weights import elsewhere, shell

Floats = NDArray[np.float32]
Coalitions = NDArray[np.bool_]

# Shares of the memory: values between segments, kept for later coalitions; all activations of the pictures of one run,
# most of which never live at the same time.
KEPT_SHARE, RUN_SHARE = 1 / 8, 3 / 8
ARENA_BYTES = 32 << 20  # a segment whose runs need more gives its memory back
CACHE_BYTES = 256 << 10
TOGETHER = 64  # coalitions a run


@dataclass(frozen=True, slots=True)
class Player:
    """A unit in the game: layer index in the list of layers, and channel."""

    layer: int
    channel: int


Values = dict[str, Any]  # what a segment makes, for a part of the pictures and one choice of masks: arrays or Residents
_Key = tuple[int, int, bytes]  # part of the pictures, segment, choice of masks


class Replay:
    """Runs coalitions of `players` on fixed model inputs.

    inputs: float32 [pictures, ...] as the graph takes them. full: logits float32 [pictures, classes] with all players on.
    """

    def __init__(
        self, prepared: Prepared, layers: Sequence[Layer], players: Sequence[Player], inputs: Floats, device: Device
    ) -> None:
        self._prepared, self._inputs, self._device = prepared, inputs, device
        self._bare = shell(prepared.model, elsewhere)
        self.players = tuple(players)
        made = {name: i for i, node in enumerate(prepared.model.graph.node) for name in node.output}
        involved = sorted({p.layer for p in players}, key=lambda i: made[layers[i].tensor])
        masked = [layers[i] for i in involved]
        pieces = cut(prepared.model, masked, prepared.infos, prepared.logits)
        self._segments, self._masks, self._infos = pieces.segments, pieces.masks, pieces.infos
        self._axes = [layer.axis for layer in masked]
        places = np.array([involved.index(p.layer) for p in players], np.int64)
        self._members = [np.flatnonzero(places == place) for place in range(len(involved))]
        self._channels = np.array([p.channel for p in players], np.int64)
        self._reach = [np.flatnonzero(np.isin(places, s.depends)) for s in self._segments]
        self._joins = [self._joined(s) for s in self._segments]
        self._sessions: dict[int, Session] = {}
        self._known: OrderedDict[_Key, Values] = OrderedDict()
        self._kept_bytes = 0
        self.segments_run = 0
        each = max(1, activation_bytes({n: self._infos[n] for s in self._segments for n in s.makes}))
        self._keepable, self._runnable = int(KEPT_SHARE * device.memory), int(RUN_SHARE * device.memory)
        # Pictures are independent: where not even one choice of masks fits, they take turns.
        turns = min(len(inputs), max(1, -(-each * len(inputs) // max(1, self._keepable))))
        self._parts = np.array_split(inputs, turns)
        self._at_once = max(1, min(TOGETHER, self._keepable // (each * len(self._parts[0]))))
        self._together = [self._side_by_side(s) for s in range(len(self._segments))]
        self.full = self(np.ones((1, len(players)), bool))[0]

    def __call__(self, coalitions: Coalitions) -> Floats:
        """Logits float32 (n, pictures, classes) of coalitions bool (n, players); True = switched on."""
        step = self._at_once
        if not len(coalitions):
            return np.empty((0, *self.full.shape), np.float32)
        turns = [
            np.concatenate([self._run(part, coalitions[i : i + step]) for i in range(0, len(coalitions), step)])
            for part in range(len(self._parts))
        ]
        return np.concatenate(turns, axis=1)

    def rest(self) -> None:
        """Give back sessions and kept values; the next call makes them anew."""
        self._sessions.clear()
        self._known.clear()
        self._kept_bytes = 0

    def _run(self, part: int, coalitions: Coalitions) -> Floats:
        off = ~coalitions
        keys = [[row.tobytes() for row in np.packbits(off[:, reach], axis=1)] for reach in self._reach]
        last = len(self._segments) - 1
        # Backwards: what is missing, and what that needs. The row stands for all coalitions with the same key.
        missing: list[dict[bytes, int]] = [{} for _ in self._segments]
        values: dict[tuple[int, bytes], Values] = {}  # of this call
        wanted: list[dict[bytes, int]] = [{} for _ in self._segments]
        wanted[last] = dict(zip(keys[last], range(len(off)), strict=True))
        for s in range(last, -1, -1):
            for key, row in wanted[s].items():
                if (part, s, key) in self._known:
                    self._known.move_to_end((part, s, key))
                    values[s, key] = self._known[part, s, key]
                    continue
                missing[s][key] = row
                for source in (*self._segments[s].made_by, *(made_by for _, made_by in self._segments[s].without)):
                    if source >= 0:
                        wanted[source].setdefault(keys[source][row], row)
        for s, todo in enumerate(missing):
            rows = list(todo.values())
            for at in range(0, len(rows), self._together[s]):
                chunk = rows[at : at + self._together[s]]
                for row, found in zip(chunk, self._compute(part, s, chunk, off, keys, values), strict=True):
                    values[s, keys[s][row]] = found
        self._keep(((part, s, key), values[s, key]) for s, todo in enumerate(missing) for key in todo)
        logits = self._prepared.logits
        return np.stack([values[last, key][logits].reshape(len(self._parts[part]), -1) for key in keys[last]])

    def _joined(self, segment: Segment) -> bool:
        """Whether several choices of masks may go through the segment as one batch: not where a tensor without the batch
        in front, or a shape, depends on a mask, is made behind one, or holds pictures elsewhere.
        """
        infos = self._infos

        def batched(name: str) -> bool:
            return infos[name].dtype.kind == "f" and infos[name].shape[:1] == (None,)

        reads = all(
            batched(n) or (infos[n].dtype.kind == "f" and None not in infos[n].shape and source <= 0)
            for n, source in zip(segment.reads, segment.made_by, strict=True)
        )
        makes = not segment.depends or all(map(batched, segment.makes))
        return (reads and makes) or not self._prepared.batch_free

    def _side_by_side(self, s: int) -> int:
        """How many choices of masks go through segment s in one run."""
        if not self._joins[s] or self._light(s):
            return 1
        return max(1, min(TOGETHER, self._runnable // max(1, self._run_bytes(s))))

    def _light(self, s: int) -> bool:
        """Whether segment s does little more than move values: then those of one choice of masks are in the cache, and
        those of many are not.
        """
        made = multiply_adds(self._segments[s].model, self._infos) * len(self._parts[0])
        return self._run_bytes(s) > CACHE_BYTES and 4 * made < self._run_bytes(s)

    def _run_bytes(self, s: int) -> int:
        """Activations of segment s for one choice of masks."""
        made = {o for node in self._segments[s].model.graph.node for o in node.output}
        return activation_bytes({n: i for n, i in self._infos.items() if n in made}) * len(self._parts[0])

    def _compute(
        self,
        part: int,
        s: int,
        rows: Sequence[int],
        off: Coalitions,
        keys: Sequence[Sequence[bytes]],
        values: dict[tuple[int, bytes], Values],
    ) -> list[Values]:
        """What segment s makes of one part of the pictures for the masks of each row."""
        segment, inputs = self._segments[s], self._parts[part]
        feeds: dict[str, Array] = {}
        made_by = dict(segment.without)

        def without(name: str, row: int) -> Array | None:
            """What a channel of a masked tensor is a copy of when it is off; None: zeros."""
            other = self._masks[name].without
            return None if other is None else values[made_by[other], keys[made_by[other]][row]][other]

        for name, source in zip(segment.reads, segment.made_by, strict=True):
            if source < 0:
                parts: list[Array] = [inputs if self._prepared.batch_free else inputs[:, None]] * len(rows)
            else:
                parts = [values[source, keys[source][row]][name] for row in rows]
            if not self._batched(name):
                feeds[name] = parts[0]
                if name in self._masks:
                    feeds[name] = self._switched(name, parts[0].copy(), off[rows[0]], without(name, rows[0]))
                continue
            joined = feeds[name] = parts[0] if len(parts) == 1 and name not in self._masks else np.concatenate(parts)
            if name in self._masks:
                each = len(joined) // len(rows)
                for i, row in enumerate(rows):
                    self._switched(name, joined[i * each : (i + 1) * each], off[row], without(name, row))
        if s not in self._sessions:
            small = self._run_bytes(s) * self._at_once <= ARENA_BYTES
            whole = with_weights(segment.model, self._bare)
            self._sessions[s] = Session(whole, self._device, arena=small, weights=self._prepared.model)
        self.segments_run += len(rows)
        if self._prepared.batch_free:
            made = self._sessions[s].run(feeds, segment.makes)
        else:
            runs = [
                self._sessions[s].run({n: v[i, ...] for n, v in feeds.items()}, segment.makes)
                for i in range(len(rows) * len(inputs))
            ]
            made = [np.stack(column) for column in zip(*runs, strict=True)]
        if len(rows) == 1:
            return [dict(zip(segment.makes, made, strict=True))]
        # Copies: a view would keep the whole batch alive for the sake of one row.
        split = [np.split(array, len(rows)) for array in made]
        return [{n: arrays[i].copy() for n, arrays in zip(segment.makes, split, strict=True)} for i in range(len(rows))]

    def _batched(self, name: str) -> bool:
        return not self._prepared.batch_free or self._infos[name].shape[:1] == (None,)

    def _switched(self, name: str, array: Array, off: NDArray[np.bool_], without: Array | None) -> Array:
        """`array` with the channels that are off replaced, in place: by those of `without`, or zeros."""
        place = self._masks[name].place
        members = self._members[place]
        channels = self._channels[members[off[members]]]
        if len(channels):
            rank = len(self._infos[name].shape)
            where = (slice(None),) * (self._axes[place] % rank + array.ndim - rank) + (channels,)
            array[where] = 0 if without is None else without[where]
        return array

    def _keep(self, found: Iterable[tuple[_Key, Values]]) -> None:
        for key, made in found:
            self._known[key] = made
            self._kept_bytes += _bytes(made)
        while self._kept_bytes > self._keepable and len(self._known) > 1:
            _, made = self._known.popitem(last=False)
            self._kept_bytes -= _bytes(made)


def _bytes(values: Values) -> int:
    return sum(int(v.nbytes) for v in values.values())
