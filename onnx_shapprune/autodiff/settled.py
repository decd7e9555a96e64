"""Values that a graph computes but that no picture can change: from initializers and from fixed dimensions.

Exporters write slice bounds and pads as arithmetic on Shape outputs. Those are run here, with every dimension that
depends on the batch replaced by an arbitrary number; what comes out equal for two such numbers is a constant.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.runtime.probe import TensorInfo
from onnx_shapprune.runtime.session import Array, Device, Session

STAND_INS = (5, 11)  # two batch sizes that are unlike each other and unlike 1
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def settle(
    name: str,
    producers: Mapping[str, onnx.NodeProto],
    initializers: Mapping[str, onnx.TensorProto],
    infos: Mapping[str, TensorInfo],
    opset: int,
) -> Array | None:
    """The value of tensor `name`, or None where it depends on a graph input or on the batch size."""
    nodes: list[onnx.NodeProto] = []
    leaves: dict[str, onnx.TensorProto] = {}
    shapes: dict[str, onnx.NodeProto] = {}
    pending, seen = [name], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        node = producers.get(current)
        if current in initializers:
            leaves[current] = initializers[current]
        elif node is None:
            return None
        elif node.op_type == "Shape" and node.input[0] in infos:
            shapes[current] = node
        elif (
            node.domain not in ("", "ai.onnx") or node.op_type in RANDOM or any(a.HasField("g") for a in node.attribute)
        ):
            return None
        else:
            nodes.append(node)
            pending.extend(x for x in node.input if x)
    if any(t.data_type == onnx.TensorProto.STRING for t in leaves.values()):
        return None
    first, second = (_run(name, nodes, leaves, shapes, infos, opset, batch) for batch in STAND_INS)
    return first if first is not None and second is not None and np.array_equal(first, second) else None


def _run(
    name: str,
    nodes: list[onnx.NodeProto],
    leaves: Mapping[str, onnx.TensorProto],
    shapes: Mapping[str, onnx.NodeProto],
    infos: Mapping[str, TensorInfo],
    opset: int,
    batch: int,
) -> Array | None:
    graph = onnx.GraphProto(name="settle")
    graph.initializer.extend(leaves.values())
    for made, node in shapes.items():
        dims = np.array([batch if d is None else d for d in infos[node.input[0]].shape], np.int64)
        bounds = {a.name: a.i for a in node.attribute}
        dims = dims[bounds.get("start", 0) : bounds.get("end")]
        graph.initializer.append(numpy_helper.from_array(dims, made))
    graph.node.extend(_sorted(nodes, {t.name for t in graph.initializer}))
    graph.output.append(helper.make_empty_tensor_value_info(name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if name in {t.name for t in graph.initializer}:
        return np.asarray(numpy_helper.to_array(next(t for t in graph.initializer if t.name == name)))
    try:
        return np.asarray(Session(model, Device(threads=1), optimize=False).run({})[0])
    except ModelError:
        return None


def _sorted(nodes: list[onnx.NodeProto], ready: set[str]) -> list[onnx.NodeProto]:
    """Topological order; nodes were met from the output backwards and a node with two outputs may come twice."""
    unique = {n.output[0] or id(n): n for n in nodes}
    waiting, ordered = list(unique.values()), []
    while waiting:
        free = [n for n in waiting if all(x in ready for x in n.input if x)]
        if not free:
            return []
        ordered += free
        ready |= {o for n in free for o in n.output}
        waiting = [n for n in waiting if n not in free]
    return ordered
