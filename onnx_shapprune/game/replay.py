"""Logits of coalitions, recomputing only what a mask can reach.

A coalition is a set of channels left switched on. Its run starts at the first layer in which a channel is off: what lies
before is cached once per picture. Starting points are few, because every one is a session of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.graph.cost import activation_bytes
from onnx_shapprune.graph.mask import cut, descendants, insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Array, Device, Session

Floats = NDArray[np.float32]
Coalitions = NDArray[np.bool_]

STARTS = 8
SESSIONS_BYTES = 320 << 20  # every start is a session with the weights twice: as they are, and packed
ROWS_BYTES = 96 << 20  # the repeated activations that one run is fed
RUN_BYTES = 768 << 20  # all activations of the pictures of one run, most of which never live at the same time


@dataclass(frozen=True, slots=True)
class Player:
    """A unit in the game: layer index in the list of layers, and channel."""

    layer: int
    channel: int


@dataclass(frozen=True, slots=True)
class _Start:
    """A cut of the masked graph. live: cached inputs by name, [pictures, ...]; masks: layers whose masks it takes."""

    session: Session
    live: dict[str, Array]
    masks: tuple[int, ...]
    rows: int


class Replay:
    """Runs coalitions of `players` on fixed model inputs.

    inputs: float32 [pictures, ...] as the graph takes them. `runs` counts pictures pushed through any part of the graph.
    """

    def __init__(
        self, prepared: Prepared, layers: Sequence[Layer], players: Sequence[Player], inputs: Floats, device: Device
    ) -> None:
        self._prepared, self._layers, self._inputs, self._device = prepared, list(layers), inputs, device
        self.players = tuple(players)
        made = {name: i for i, node in enumerate(prepared.model.graph.node) for name in node.output}
        involved = sorted({p.layer for p in players}, key=lambda i: made[layers[i].tensor])
        self._order = {layer: place for place, layer in enumerate(involved)}
        self._involved = involved
        starts = max(1, min(STARTS, SESSIONS_BYTES // (2 * max(1, prepared.model.ByteSize()))))
        places = np.unique(np.linspace(0, len(involved) - 1, min(starts, len(involved))).round().astype(int))
        self._starts = [int(p) for p in places]
        self._open: dict[int, _Start] = {}
        self._player_layer = np.array([p.layer for p in players])
        self._player_place = np.array([self._order[p.layer] for p in players])
        self._player_channel = np.array([p.channel for p in players])
        self._repeat = self._rows_per_picture()
        self.full = self._full_logits()
        self.runs = len(inputs)

    def __call__(self, coalitions: Coalitions) -> Floats:
        """Logits float32 (n, pictures, classes) of coalitions bool (n, players); True = switched on."""
        out = np.empty((len(coalitions), *self.full.shape), np.float32)
        first = np.where(coalitions, len(self._involved), self._player_place).min(axis=1, initial=len(self._involved))
        out[first == len(self._involved)] = self.full
        edges = [*self._starts, len(self._involved)]
        for start, end in pairwise(edges):
            rows = np.flatnonzero((first >= start) & (first < end))
            if len(rows):
                part = self._start(start)
                for at in range(0, len(rows), part.rows):
                    chunk = rows[at : at + part.rows]
                    out[chunk] = self._run(part, coalitions[chunk])
        return out

    def _rows_per_picture(self) -> dict[int, int]:
        """Rows of each masked tensor that belong to one picture: above 1 where attention windows join the batch.

        0 marks a tensor whose first axis is not the batch; coalitions then run one at a time.
        """
        tensors = [self._layers[i].tensor for i in self._involved]
        if not tensors:
            return {}
        first = Session(expose(self._prepared.model, tensors), self._device)
        values = first.run({self._prepared.input: self._inputs[:1]}, tensors)
        batched = [self._prepared.infos[t].shape[0] is None or not self._prepared.batch_free for t in tensors]
        return {i: len(v) if b else 0 for i, v, b in zip(self._involved, values, batched, strict=True)}

    def _full_logits(self) -> Floats:
        step = len(self._inputs) if self._prepared.batch_free else 1
        session = Session(self._prepared.model, self._device)
        parts = [
            session.run({self._prepared.input: self._inputs[i : i + step]})[0]
            for i in range(0, len(self._inputs), max(1, step))
        ]
        return np.concatenate(parts)

    def _start(self, place: int) -> _Start:
        """The session that recomputes everything from the layer at `place` on; opened at first use."""
        if place in self._open:
            return self._open[place]
        graph = self._prepared.model.graph
        later = self._involved[place:]
        sources = [self._layers[later[0]].tensor]
        reached = descendants(graph, sources)
        for layer in later[1:]:
            if self._layers[layer].tensor not in reached:  # a parallel branch, such as a shortcut convolution
                sources.append(self._layers[layer].tensor)
                reached |= descendants(graph, [self._layers[layer].tensor])
        # A source that another source reaches is recomputed, not fed.
        sources = [s for s in sources if s not in reached]
        # Layers before the start carry no mask: all their channels are on in every coalition that starts here.
        masked = insert_masks(self._prepared.model, {i: self._layers[i] for i in later}, self._prepared.infos)
        part, live = cut(masked, sources, self._prepared.infos, self._prepared.logits)
        session = Session(part, self._device)
        cached = self._values(live)
        if self._prepared.input in session.inputs:
            cached[self._prepared.input] = self._inputs if self._prepared.batch_free else self._inputs[:, None]
        row_bytes = sum(v.nbytes for n, v in cached.items() if self._per_picture(n))
        rows = max(1, ROWS_BYTES // max(1, row_bytes * 4)) if self._prepared.batch_free else 1
        rows = max(1, min(rows, RUN_BYTES // max(1, len(self._inputs) * activation_bytes(self._prepared.infos))))
        masks = tuple(i for i in later if mask_name(i) in session.inputs)
        # Integer live-ins are shapes computed before the start: they hold for one coalition's batch only.
        if any(self._repeat[i] == 0 for i in masks) or any(v.dtype.kind in "iu" for v in cached.values()):
            rows = 1
        self._open[place] = _Start(session, cached, masks, min(rows, 64))
        return self._open[place]

    def _values(self, names: Sequence[str]) -> dict[str, Array]:
        """Cached tensors of the full model for all pictures; stacked run by run where the batch cannot be freed."""
        session = Session(expose(self._prepared.model, list(names)), self._device)
        name = self._prepared.input
        if self._prepared.batch_free:
            return dict(zip(names, session.run({name: self._inputs}, list(names)), strict=True))
        runs = [session.run({name: row[None]}, list(names)) for row in self._inputs]
        return {n: np.stack([r[k] for r in runs]) for k, n in enumerate(names)}

    def _per_picture(self, name: str) -> bool:
        return self._prepared.infos[name].shape[:1] == (None,)

    def _run(self, part: _Start, coalitions: Coalitions) -> Floats:
        pictures = len(self._inputs)
        self.runs += len(coalitions) * pictures
        masks = {i: self._mask_rows(i, coalitions) for i in part.masks}
        if not self._prepared.batch_free:
            return self._run_one_by_one(part, masks, len(coalitions))
        feeds: dict[str, Array] = {}
        for name, value in part.live.items():
            batched = self._per_picture(name)
            feeds[name] = np.tile(value, (len(coalitions), *[1] * (value.ndim - 1))) if batched else value
        for i, rows in masks.items():
            feeds[mask_name(i)] = rows if len(rows) == 1 else np.repeat(rows, pictures * self._repeat[i], axis=0)
        (logits,) = part.session.run(feeds)
        return np.asarray(logits).reshape(len(coalitions), pictures, -1)

    def _run_one_by_one(self, part: _Start, masks: dict[int, Floats], n: int) -> Floats:
        """For graphs whose batch cannot be freed: one picture and one coalition a run."""
        out = np.empty((n, *self.full.shape), np.float32)
        for row in range(n):
            fixed = {mask_name(i): rows[min(row, len(rows) - 1)][None] for i, rows in masks.items()}
            for k in range(len(self._inputs)):
                live = {name: value[k] for name, value in part.live.items()}
                out[row, k] = part.session.run({**live, **fixed})[0].reshape(-1)
        return out

    def _mask_rows(self, layer: int, coalitions: Coalitions) -> Floats:
        """Mask of one layer: [n, ...channels...], or one row of ones where no coalition touches the layer."""
        mine = self._player_layer == layer
        shape = mask_shape(self._layers[layer], self._prepared.infos)
        off = ~coalitions[:, mine]
        if not off.any():
            return np.ones((1, *shape), np.float32)
        rows = np.ones((len(coalitions), self._layers[layer].channels), np.float32)
        rows[:, self._player_channel[mine]] = ~off
        return rows.reshape(len(coalitions), *shape)
