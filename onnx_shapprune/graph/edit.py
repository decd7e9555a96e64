"""The few graph edits that every pass is made of: look up, rename, drop what nobody uses."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray
from onnx import inliner, numpy_helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph.scopes import attribute_graphs, operands, subgraphs
from onnx_shapprune.runtime.session import first_line

Array = NDArray[np.generic]
DEFAULT_DOMAIN = ("", "ai.onnx")
# Begin the domains of onnxruntime's own operators: of two things of one name it runs its own, and the inliner the other.
RUN_BY_ONNXRUNTIME = ("ai.onnx.", "com.microsoft", "com.ms.", "org.pytorch.aten")


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A deep copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with local functions written out where they are called. Raises ModelError, also where one of them has the name
    of an operator that onnxruntime may run instead.
    """
    if not model.functions:
        return copy_of(model)
    for function in model.functions:
        if function.domain in DEFAULT_DOMAIN or function.domain.startswith(RUN_BY_ONNXRUNTIME):
            name = f"{function.domain or 'ai.onnx'}.{function.name}"[:80]
            raise ModelError(f"the local function {name!r} may stand for an operator: onnxruntime would not call it")
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, EncodeError) as error:
        raise ModelError(f"local functions cannot be inlined: {first_line(error)}") from None


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name -> nodes that read it, a node once per reading input; graph outputs are not listed."""
    found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in operands(node):
            found[name].append(node)
    return found


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the default domain, the last that is named where there are several, as onnxruntime has it.

    Raises ModelError where none is named.
    """
    versions = [o.version for o in model.opset_import if o.domain in DEFAULT_DOMAIN]
    if not versions:
        raise ModelError(
            "the model uses no operator of the default ONNX domain: it is no image classifier this tool reads"
        )
    return int(versions[-1])


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


def rename_uses(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    """Let every node input that reads one of these names read the other, in subgraphs too (ONNX forbids shadowing of outer
    names).
    """
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in new:
                node.input[i] = new[name]
        for inner in subgraphs(node):
            rename_uses(inner, new)


def keep_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replace the node list, then drop initializers that nothing reads."""
    kept = list(nodes)
    del graph.node[:]
    graph.node.extend(kept)
    used = {n for node in graph.node for n in operands(node)} | {o.name for o in graph.output}
    for place in reversed(range(len(graph.initializer))):  # one by one: to put the others back would copy them
        if graph.initializer[place].name not in used:
            del graph.initializer[place]


def prune_dead(graph: onnx.GraphProto) -> None:
    """Drop nodes and initializers that no graph output needs."""
    gone = dead(graph)
    keep_nodes(graph, [node for place, node in enumerate(graph.node) if place not in gone])


def dead(graph: onnx.GraphProto) -> set[int]:
    """Places of the nodes that no graph output needs."""
    needed = {o.name for o in graph.output}
    found = set()
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if needed.intersection(node.output) - {""}:
            needed.update(operands(node))
        else:
            found.add(place)
    return found


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
        for graph in attribute_graphs(attribute):
            yield from _graph_tensors(graph)


def set_output(graph: onnx.GraphProto, *names: str) -> None:
    """Make these the only graph outputs, without a declared type (onnxruntime infers it)."""
    del graph.output[:]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
