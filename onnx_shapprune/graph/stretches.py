"""Run a graph a stretch at a time, so that what reaches one node is known before a node behind it is changed.

Layers are edited in graph order, each on what the edited ones before it pass on. Running the whole graph anew for every
layer would cost as many runs as there are layers; here each node runs once, from the tensors that are alive where the last
stretch ended. A batch keeps its own tensors: a shape that a graph computes belongs to the batch that it was computed for.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from onnx_shapprune.graph.scopes import inner_uses
from onnx_shapprune.runtime.lanes import lanes_of, session_beside, side_by_side
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Array, Device


class Stretches:
    """One pass over `model`, whose nodes may be changed in place as long as they have not run yet.

    infos: shape and type of its tensors; batches: what goes in, float32 [n, ...] each.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        name: str,
        infos: Mapping[str, TensorInfo],
        batches: Sequence[Array],
        device: Device,
    ) -> None:
        self._model, self._infos, self._device = model, infos, device
        self._alive: list[dict[str, Array]] = [{name: batch} for batch in batches]
        self._done = 0

    def reaching(self, made: str, data: str) -> list[Array]:
        """What the node that makes `made` reads as `data`, a batch at a time; everything before that node has run then.

        Nodes are asked for in graph order: what nobody behind the last one reads is gone.
        """
        self._run_to(next(i for i, n in enumerate(self._model.graph.node) if made in n.output))
        return [alive[data] for alive in self._alive]

    def _run_to(self, end: int) -> None:
        graph = self._model.graph
        nodes = list(graph.node)[self._done : end]
        later = {n for node in list(graph.node)[end:] for n in [*node.input, *inner_uses(node)]}
        later |= {o.name for o in graph.output}
        if nodes:
            made = [n for node in nodes for n in node.output if n in later]
            read = {n for node in nodes for n in [*node.input, *inner_uses(node)]}
            fed = [n for n in self._alive[0] if n in read]
            if made:
                session = session_beside(self._part(nodes, fed, made, read), self._device)

                def run(alive: dict[str, Array]) -> None:
                    alive.update(zip(made, session.run({n: alive[n] for n in fed}, made), strict=True))

                side_by_side(run, self._alive, lanes_of(self._device))
        for alive in self._alive:
            for name in [n for n in alive if n not in later]:
                del alive[name]
        self._done = end

    def _part(
        self, nodes: Sequence[onnx.NodeProto], fed: Sequence[str], made: Sequence[str], read: set[str]
    ) -> onnx.ModelProto:
        inputs = []
        for name in fed:
            value = self._alive[0][name]
            info = self._infos.get(name)
            known = info.shape if info is not None and len(info.shape) == value.ndim else (None,) * value.ndim
            shape = [d if d is not None else f"{name}_{i}" for i, d in enumerate(known)]
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), shape))
        part = helper.make_graph(
            list(nodes),
            "stretch",
            inputs,
            [helper.make_empty_tensor_value_info(n) for n in made],
            initializer=[t for t in self._model.graph.initializer if t.name in read],
        )
        return helper.make_model(part, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)


def alive_bytes(model: onnx.ModelProto, infos: Mapping[str, TensorInfo], made: Collection[str]) -> int:
    """The most bytes that a `Stretches` holds for each picture where it stops, before the nodes that make `made`."""
    nodes = list(model.graph.node)
    last = {name: place for place, node in enumerate(nodes) for name in [*node.input, *inner_uses(node)]}
    sizes = {name: _picture_bytes(info) for name, info in infos.items() if not info.static}
    alive = {i.name for i in model.graph.input}
    widest = 0
    for place, node in enumerate(nodes):
        alive = {name for name in alive if last.get(name, -1) >= place}
        if not set(made).isdisjoint(node.output):
            widest = max(widest, sum(sizes.get(name, 0) for name in alive))
        alive.update(n for n in node.output if n)
    return widest


def _picture_bytes(info: TensorInfo) -> int:
    return int(np.prod([d or 1 for d in info.shape])) * info.dtype.itemsize


def batches_of(inputs: Array, size: int) -> list[Array]:
    """Slices of at most `size` rows."""
    return [np.ascontiguousarray(inputs[i : i + size]) for i in range(0, len(inputs), size)]
