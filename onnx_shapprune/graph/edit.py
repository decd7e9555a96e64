"""The few graph edits that every pass is made of: look up, rename, drop what nobody uses."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray
from onnx import inliner, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.runtime.session import first_line

Array = NDArray[np.generic]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A deep copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with local functions written out where they are called. Raises ModelError."""
    if not model.functions:
        return copy_of(model)
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, EncodeError) as error:
        raise ModelError(f"local functions cannot be inlined: {first_line(error)}") from None


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def inner_uses(node: onnx.NodeProto) -> set[str]:
    """Names of the outer graph that subgraphs of a node (If, Loop, Scan) read."""
    found: set[str] = set()
    for graph in subgraphs(node):
        own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
        own.update(name for inner in graph.node for name in inner.output)
        read = {n for inner in graph.node for n in [*inner.input, *inner_uses(inner)] if n}
        found |= (read | {o.name for o in graph.output}) - own
    return found


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds as attributes."""
    for attribute in node.attribute:
        yield from _graphs(attribute)


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


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


def stored_name(known: Mapping[str, onnx.TensorProto], made: Mapping[str, onnx.NodeProto], name: str) -> str | None:
    """The constant behind `name`, through Identity nodes; None when it is computed or fed."""
    while name not in known:
        node = made.get(name)
        if node is None or node.op_type != "Identity":
            return None
        name = node.input[0]
    return name


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attribute name -> Python value (int, float, bytes, list or TensorProto)."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let every node input that reads `old` read `new`, in subgraphs too (ONNX forbids shadowing of outer names)."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        for inner in subgraphs(node):
            rename_uses(inner, old, new)


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
    """The values of a tensor whose bytes are in the message. Raises ModelError when they do not fit its shape."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:  # onnx would open whatever it names
        raise ModelError(f"tensor {tensor.name!r} is kept outside the file and was not read in")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {str(error)[:200]}") from None


def dense(sparse: onnx.SparseTensorProto) -> Array:
    """A sparse tensor with its zeros."""
    values, index = array_of(sparse.values), array_of(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    array.reshape(-1)[index if index.ndim == 1 else np.ravel_multi_index(tuple(index.T), array.shape)] = values
    return array


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored anywhere in a model: initializers, attributes, sparse parts, subgraphs, functions."""
    for graph in [model.graph, *(g for t in model.training_info for g in (t.initialization, t.algorithm))]:
        yield from _graph_tensors(graph)
    for function in model.functions:
        yield from _attribute_tensors(function.attribute_proto)
        for node in function.node:
            yield from _attribute_tensors(node.attribute)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in [
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            *attribute.sparse_tensors,
        ]:
            yield from (sparse.values, sparse.indices)
        for graph in _graphs(attribute):
            yield from _graph_tensors(graph)


def set_output(graph: onnx.GraphProto, name: str) -> None:
    """Make `name` the only graph output, without a declared type (onnxruntime infers it)."""
    del graph.output[:]
    graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
