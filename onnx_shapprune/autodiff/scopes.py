"""Names in a graph and its subgraphs: what a node reads, which names are taken, renaming."""

from collections.abc import Iterator, Mapping

import onnx


def operands(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads: its inputs and what its subgraphs take from the scopes around them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in _subgraphs(attribute):
            inner = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            inner |= {name for child in graph.node for name in child.output}
            used = [name for child in graph.node for name in operands(child)] + [o.name for o in graph.output]
            names += [name for name in used if name not in inner]
    return names


def names_in(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of all tensors and nodes, those of subgraphs too."""
    yield from (t.name for t in graph.initializer)
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for attribute in node.attribute:
            for inner in _subgraphs(attribute):
                yield from names_in(inner)


def rename(graph: onnx.GraphProto, moved: Mapping[str, str]) -> None:
    """Rename tensors in place wherever nodes use them; inputs, outputs and initializers of `graph` itself stay."""
    for node in graph.node:
        for place in (node.input, node.output):
            for i, name in enumerate(place):
                place[i] = moved.get(name, name)
        for attribute in node.attribute:
            for inner in _subgraphs(attribute):
                rename(inner, moved)
                for output in inner.output:
                    output.name = moved.get(output.name, output.name)


def _subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs
