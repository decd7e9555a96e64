"""The few graph edits that every pass is made of: look up, rename, drop what nobody uses."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[np.generic]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A deep copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def inner_uses(node: onnx.NodeProto) -> set[str]:
    """Names that subgraphs of a node (If, Loop, Scan) read; they may belong to the outer graph."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                found |= {n for n in inner.input if n} | inner_uses(inner)
            found |= {o.name for o in graph.output}
    return found


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name -> nodes that read it, a node once per reading input; graph outputs are not listed."""
    found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in [*node.input, *inner_uses(node)]:
            if name:
                found[name].append(node)
    return found


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers and the values of Constant nodes, by tensor name."""
    found = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attribute name -> Python value (int, float, bytes, list or TensorProto)."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let every top-level node input that reads `old` read `new`."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def keep_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replace the node list, then drop initializers that nothing reads."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)
    used = {n for node in graph.node for n in [*node.input, *inner_uses(node)]} | {o.name for o in graph.output}
    tensors = [t for t in graph.initializer if t.name in used]
    if len(tensors) != len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(tensors)


def prune_dead(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that no graph output needs."""
    needed = {o.name for o in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            needed |= {n for n in node.input if n} | inner_uses(node)
            kept.append(node)
    keep_nodes(graph, reversed(kept))


def tensor_of(array: Array, name: str) -> onnx.TensorProto:
    """A TensorProto in raw_data form."""
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def array_of(tensor: onnx.TensorProto) -> Array:
    """The values of a tensor whose bytes are in the message."""
    return numpy_helper.to_array(tensor)


def set_output(graph: onnx.GraphProto, name: str) -> None:
    """Make `name` the only graph output, without a declared type (onnxruntime infers it)."""
    del graph.output[:]
    graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
