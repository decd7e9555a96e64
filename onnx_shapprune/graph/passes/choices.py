"""Write out control flow that sizes decide: the branch that an If always takes, and a Loop that always ends after as many
rounds. Exporters ask for the size of an axis before they drop it, and count sizes where a model was written with loops.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_INPUT, RAW, raw_constants
from onnx_shapprune.graph.scopes import rename, subgraphs, tensor_names
from onnx_shapprune.graph.sizes import Numbers, inferred_shapes, known_sizes

CONTROL = ("If", "Loop")
# A file must not be able to make itself large for free: no loop is written out beyond this.
MOST_NODES = 20_000  # of the whole graph then
MOST_BYTES = 4 << 20  # of the nodes of one loop


def write_out_control_flow(model: onnx.ModelProto) -> bool:
    """Write out every If and Loop that sizes decide, in place; whether there was one.

    The shapes behind one are known only once it is written out, so this goes on until no further one can be.
    """
    written = False
    while decided := _decided(model):
        written, taken = True, tensor_names(model.graph)
        nodes: list[onnx.NodeProto] = []
        for place, node in enumerate(model.graph.node):
            graphs = decided.get(place)
            nodes += [node] if graphs is None else _written_out(model.graph, node, graphs, taken)
        edit.keep_nodes(model.graph, nodes)
    return written


def _decided(model: onnx.ModelProto) -> dict[int, list[onnx.GraphProto]]:
    """Place of each node that can be decided -> the graphs that run, one after another."""
    nodes = model.graph.node
    waiting = [place for place, node in enumerate(nodes) if _is_control(node)]
    if not waiting:
        return {}
    sizes = known_sizes(model.graph, inferred_shapes(model))
    found: dict[int, list[onnx.GraphProto]] = {}
    room = MOST_NODES - _count(nodes)
    for place in waiting:
        graphs = _branch(nodes[place], sizes) if nodes[place].op_type == "If" else _rounds(nodes[place], sizes, room)
        if graphs is not None and not any(graph.sparse_initializer for graph in graphs):
            found[place] = graphs
            room -= sum(_count(graph.node) for graph in graphs)
    return found


def _is_control(node: onnx.NodeProto) -> bool:
    return node.op_type in CONTROL and node.domain in edit.DEFAULT_DOMAIN


def _single(name: str, sizes: Mapping[str, Numbers]) -> int | float | bool | None:
    value = sizes.get(name)
    return None if value is None or value.size != 1 else value.reshape(-1)[0]


def _inside(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    found: onnx.GraphProto = next(a.g for a in node.attribute if a.name == name)
    return found


def _branch(node: onnx.NodeProto, sizes: Mapping[str, Numbers]) -> list[onnx.GraphProto] | None:
    choice = _single(node.input[0], sizes)
    return None if choice is None else [_inside(node, "then_branch" if choice else "else_branch")]


def _rounds(node: onnx.NodeProto, sizes: Mapping[str, Numbers], room: int) -> list[onnx.GraphProto] | None:
    """The body as often as it runs; None where that is open or too much, and where a value is kept of each round."""
    body, carried = _inside(node, "body"), len(node.input[2:])
    count = _single(node.input[0], sizes)
    begins = _single(node.input[1], sizes) if any(node.input[1:2]) else True
    if count is None or begins is None or not _goes_on(body):
        return None
    count = max(0, int(count)) if begins else 0
    keeps = (len(body.input), len(body.output)) != (2 + carried, 1 + carried)
    too_much = count * (_count(body.node) + carried) > room or count * _bytes(body) > MOST_BYTES
    return None if keeps or too_much else [body] * count


def _count(nodes: Iterable[onnx.NodeProto]) -> int:
    """Nodes, with those of the graphs that they hold."""
    return sum(1 + sum(_count(graph.node) for graph in subgraphs(node)) for node in nodes)


def _bytes(body: onnx.GraphProto) -> int:
    return sum(node.ByteSize() for node in body.node)


def _goes_on(body: onnx.GraphProto) -> bool:
    """Whether the condition that a round leaves is true whatever it computes: the one it was given, or a constant."""
    made, here = edit.producers(body), body.output[0].name
    while here in made and _keeps_truth(made[here]):
        here = made[here].input[0]
    return here == body.input[1].name or bool(_single(here, known_sizes(body, {})))


def _keeps_truth(node: onnx.NodeProto) -> bool:
    to_truth = node.op_type == "Cast" and edit.attributes(node).get("to") == TensorProto.BOOL
    return node.domain in edit.DEFAULT_DOMAIN and (node.op_type == "Identity" or to_truth)


def _written_out(
    graph: onnx.GraphProto, node: onnx.NodeProto, rounds: list[onnx.GraphProto], taken: set[str]
) -> list[onnx.NodeProto]:
    """The nodes of all rounds under names that nothing else has; what the last one leaves is what the node gave.

    taken: names so far, to which those given here are added by how they begin.
    """
    stem = next((name for name in node.output if name), "unused") + "__"
    while any(name.startswith(stem) for name in taken):
        stem += "_"
    taken.add(stem)
    loops, ends = node.op_type == "Loop", list(node.input[2:])
    nodes: list[onnx.NodeProto] = []
    for number, body in enumerate(rounds):
        stored = {tensor.name: stem + tensor.name for tensor in body.initializer}  # once for all rounds
        inner, moved = _with_names_of_its_own(body, f"{stem}{number}__" if loops else stem, stored)
        given = [moved[value.name] for value in inner.input]
        if loops:
            counter, condition = np.array(number, np.int64), np.array(True)
            graph.initializer.extend([edit.tensor_of(counter, given[0]), edit.tensor_of(condition, given[1])])
        if not number:
            graph.initializer.extend(inner.initializer)
        nodes += [helper.make_node("Identity", [end], [name]) for end, name in zip(ends, given[2:], strict=True)]
        nodes += inner.node
        ends = [moved.get(value.name, value.name) for value in inner.output[loops:]]
    return nodes + [
        helper.make_node("Identity", [end], [result]) for end, result in zip(ends, node.output, strict=False) if result
    ]


def _with_names_of_its_own(
    body: onnx.GraphProto, prefix: str, stored: Mapping[str, str]
) -> tuple[onnx.GraphProto, dict[str, str]]:
    """A copy of a body under other names, and which these are. stored: those of its initializers."""
    copy = onnx.GraphProto()
    copy.CopyFrom(body)
    own = {value.name for value in copy.input}.union(*(inner.output for inner in copy.node)) - {""}
    moved = {**{name: prefix + name for name in own}, **stored}
    rename(copy, moved)
    for tensor in copy.initializer:
        tensor.name = moved[tensor.name]
    for inner in copy.node:
        inner.name = prefix + inner.name if inner.name else ""
    return copy, moved


def _undecided_only(model: onnx.ModelProto) -> bool:
    return not _decided(model)


def _chosen(work: Work) -> Work:
    return raw_constants(work) if write_out_control_flow(work.model) else work


CHOSEN = Condition("no If or Loop that sizes decide", _undecided_only)

CHOICES = Pass("choices", _chosen, (ONE_INPUT, RAW), (CHOSEN, RAW))
