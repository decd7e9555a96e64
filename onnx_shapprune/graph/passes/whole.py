"""Pictures that a file takes in whole bytes are numbers in the copy, which can be searched by slopes; and so are scores.

That is the same as long as the file only moves the bytes about before it makes numbers of them. Sums of whole numbers wrap
round and quotients are cut off, which a trigger could wait for: such files are refused.
"""

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.binary import LAID
from onnx_shapprune.graph.passes.contract import Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_INPUT, ONE_OUTPUT, RAW
from onnx_shapprune.graph.stored import FLOATS

MOVING = {
    "Identity",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Gather",
    "Split",
    "SpaceToDepth",
}
WIDER = {  # whole numbers that hold all values of a byte
    "uint8": {TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64},
    "int8": {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64},
}


def numbers_from_bytes(work: Work) -> Work:
    """Bytes become float32 where the picture enters. Raises ModelError where the graph computes with whole numbers."""
    if work.interface.scaled:
        return work
    graph = work.model.graph
    used, known = edit.consumers(graph), edit.constants(graph)
    spelled: dict[str, list[onnx.NodeProto]] = {}
    names = [work.input]
    while names:
        name = names.pop()
        for node in used.get(name, []):
            # Gather(x, x) decides by them.
            reads = node.domain in edit.DEFAULT_DOMAIN and node.input[0] == name and list(node.input).count(name) == 1
            if node.op_type == "DequantizeLinear" and reads:
                spelled[node.output[0]] = _dequantised(graph, node, known)
            elif node.op_type == "Cast" and reads and _target(node) in WIDER[work.interface.dtype]:
                spelled[node.output[0]] = [helper.make_node("Identity", [name], node.output)]
                names.append(node.output[0])
            elif node.op_type in MOVING and reads:
                names += node.output
            elif not (reads and (node.op_type == "Shape" or (node.op_type == "Cast" and _target(node) in FLOATS))):
                raise _refused(node, f"{node.op_type} {node.name or node.output[0]!r} computes with them")
    edit.keep_nodes(graph, [n for node in graph.node for n in spelled.get(node.output[0], [node])])
    return work


def numbers_from_scores(work: Work) -> Work:
    """Scores in whole bytes become the numbers that the file rounds, by one stored step, to them; others stay."""
    graph = work.model.graph
    made, known = edit.producers(graph), edit.constants(graph)
    node = made.get(graph.output[0].name)
    while node is not None and node.op_type in LAID:
        node = made.get(node.input[0])
    if node is None or node.op_type != "QuantizeLinear":
        return work
    steps = [edit.array_of(known[n]) for n in node.input[1:] if n in known]
    if len(steps) < len(node.input) - 1 or any(s.size != 1 for s in steps):
        return work
    scale, zero = (float(s.flat[0]) for s in (*steps, np.zeros(1))[:2])
    if not 0 < scale < np.inf:  # a negative one turns the order of the scores round
        return work
    edit.set_output(graph, node.input[0])
    edit.prune_dead(graph)
    return replace(work, step=(scale, zero))


def _target(node: onnx.NodeProto) -> object:
    return edit.attributes(node).get("to")


def _dequantised(
    graph: onnx.GraphProto, node: onnx.NodeProto, known: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """(x - zero point) * scale, of one step for the whole picture."""
    y = node.output[0]
    kept = []
    for op, name in (("Sub", node.input[2] if len(node.input) > 2 else ""), ("Mul", node.input[1])):
        if not name:
            continue
        if name not in known or (value := edit.array_of(known[name])).size != 1:
            raise _refused(node, "their step is not stored as one number")
        constant = f"{y}__whole_{op}"
        graph.initializer.append(edit.tensor_of(value.reshape(()).astype(np.float32), constant))
        kept.append((op, constant))
    ends = [f"{y}__whole", y][-len(kept) :]
    starts = [node.input[0], *ends[:-1]]
    return [helper.make_node(op, [a, constant], [b]) for (op, constant), a, b in zip(kept, starts, ends, strict=True)]


def _refused(node: onnx.NodeProto, why: str) -> ModelError:
    return ModelError(
        f"pictures are whole bytes, and {why} before they are floating-point numbers (tensor {node.output[0][:80]!r}): "
        "export the model with a float32 input"
    )


BYTES = Pass("bytes", numbers_from_bytes, (ONE_INPUT,), (ONE_INPUT,))
SCORES = Pass("scores", numbers_from_scores, (ONE_OUTPUT, RAW), (ONE_OUTPUT,))
