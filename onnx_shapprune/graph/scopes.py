"""Names in a graph and its subgraphs: what a node reads, which names are taken, renaming."""

from collections.abc import Iterator, Mapping

import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds as attributes."""
    for attribute in node.attribute:
        yield from attribute_graphs(attribute)


def attribute_graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that one attribute holds."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model: of its graph, of subgraphs and of local functions."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [inner for graph in subgraphs(node) for inner in graph.node]


def inner_uses(node: onnx.NodeProto) -> set[str]:
    """Names of the outer graph that subgraphs of a node (If, Loop, Scan) read."""
    found: set[str] = set()
    for graph in subgraphs(node):
        own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
        own.update(name for inner in graph.node for name in inner.output)
        read = {n for inner in graph.node for n in operands(inner)}
        found |= (read | {o.name for o in graph.output}) - own
    return found


def operands(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads: its inputs and what its subgraphs take from the scopes around them."""
    return [name for name in [*node.input, *sorted(inner_uses(node))] if name]


def tensor_names(graph: onnx.GraphProto) -> set[str]:
    """Names of all tensors of a graph and its subgraphs."""
    values = (*graph.input, *graph.output, *graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))
    found = {value.name for value in values}
    for node in graph.node:
        found.update(node.input, node.output, *(tensor_names(inner) for inner in subgraphs(node)))
    return found - {""}


def rename(graph: onnx.GraphProto, moved: Mapping[str, str]) -> None:
    """Rename tensors in place wherever nodes use them; inputs, outputs and initializers of `graph` itself stay."""
    for node in graph.node:
        for place in (node.input, node.output):
            for i, name in enumerate(place):
                if name in moved:
                    place[i] = moved[name]
        for inner in subgraphs(node):
            rename(inner, moved)
            for value in (*inner.input, *inner.output, *inner.initializer):
                value.name = moved.get(value.name, value.name)
