"""Take the branch that an If always takes: exporters ask for the size of an axis before they drop it."""

import onnx
from onnx import helper

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_INPUT, RAW, raw_constants
from onnx_shapprune.graph.scopes import rename
from onnx_shapprune.graph.sizes import inferred_shapes, known_sizes


def take_branches(model: onnx.ModelProto) -> bool:
    """Write out the branch of every If whose condition follows from sizes, in place; whether there was one.

    The shapes behind a branch are known only once it is taken, so this goes on until no further one can be.
    """
    taken = False
    while found := _decided(model):
        taken = True
        nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            choice = found.get(node.output[0])
            nodes += [node] if choice is None else _written_out(model.graph, node, choice)
        edit.keep_nodes(model.graph, nodes)
    return taken


def _decided(model: onnx.ModelProto) -> dict[str, bool]:
    """First output of each If that can be decided -> what its condition is."""
    waiting = [node for node in model.graph.node if node.op_type == "If"]
    if not waiting:
        return {}
    sizes = known_sizes(model.graph, inferred_shapes(model))
    values = {node.output[0]: sizes.get(node.input[0]) for node in waiting}
    return {
        name: bool(value.reshape(-1)[0])
        for name, value in values.items()
        if value is not None and value.size == 1 and value.reshape(-1)[0] is not None
    }


def _written_out(graph: onnx.GraphProto, node: onnx.NodeProto, choice: bool) -> list[onnx.NodeProto]:
    """The nodes of a branch, under names that no other branch has, and its results under those of the If."""
    branch = onnx.GraphProto()
    branch.CopyFrom(edit.attributes(node)["then_branch" if choice else "else_branch"])
    own = {t.name for t in branch.initializer} | {name for inner in branch.node for name in inner.output if name}
    moved = {name: f"{node.output[0]}__{name}" for name in own}
    rename(branch, moved)
    for tensor in branch.initializer:
        tensor.name = moved[tensor.name]
    for inner in branch.node:
        inner.name = f"{node.output[0]}__{inner.name}" if inner.name else ""
    graph.initializer.extend(branch.initializer)
    ends = [moved.get(value.name, value.name) for value in branch.output]
    results = [
        helper.make_node("Identity", [end], [result]) for end, result in zip(ends, node.output, strict=False) if result
    ]
    return [*branch.node, *results]


def _undecided_only(model: onnx.ModelProto) -> bool:
    return not _decided(model)


def _chosen(work: Work) -> Work:
    return raw_constants(work) if take_branches(work.model) else work


CHOSEN = Condition("no If whose condition follows from sizes", _undecided_only)

CHOICES = Pass("choices", _chosen, (ONE_INPUT, RAW), (CHOSEN, RAW))
