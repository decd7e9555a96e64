"""Take Softmax and the like off the end: their gradients underflow, and margins of logits do not saturate.

Converters put a Cast behind a Softmax, exporters a Clip or a factor: none of these changes which class wins, so they are
walked back over. Without a Softmax or Sigmoid behind them they stay, because then they belong to the logits.
"""

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_OUTPUT, RAW

LAID_OUT = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
ENDS = {"Softmax", "LogSoftmax", "Sigmoid", "Identity", "Dropout"}
SILENT = ("Identity", "Dropout")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def strip_end(work: Work) -> Work:
    """Make the logits the output; what was taken off is added to `stripped`."""
    graph = work.model.graph
    stripped: list[str] = []
    while (node := end_of(graph, graph.output[0].name)) is not None:
        stripped.append(node.op_type)
        edit.set_output(graph, node.input[0])
    edit.prune_dead(graph)
    return replace(work, stripped=(*work.stripped, *(s for s in stripped if s not in SILENT)))


def end_of(graph: onnx.GraphProto, output: str) -> onnx.NodeProto | None:
    """The node to take off next, with all that is behind it; None where the output is the logits."""
    made, known = edit.producers(graph), edit.constants(graph)
    node = made.get(output)
    while node is not None and node.op_type not in ENDS:
        kept = _ordered(node, known)
        if not kept:
            return None
        node = made.get(kept)
    return node


def _ordered(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> str:
    """The input whose values the node leaves in order, "" where it does not."""
    if node.domain not in edit.DEFAULT_DOMAIN:
        return ""
    if node.op_type in (*LAID_OUT, "Clip", "Log"):
        return str(node.input[0])
    if node.op_type == "Cast":
        return str(node.input[0]) if edit.attributes(node).get("to") in FLOATS else ""
    if node.op_type not in ("Mul", "Div", "Add", "Sub"):
        return ""
    numbers = [_number(known, name) for name in node.input]
    place = 1 if node.op_type in ("Div", "Sub") or numbers[1] is not None else 0  # of the constant
    number = numbers[place]
    rising = number is not None and np.isfinite(number) and (node.op_type in ("Add", "Sub") or number > 0)
    return str(node.input[1 - place]) if rising else ""


def _number(known: dict[str, onnx.TensorProto], name: str) -> float | None:
    """The value of a constant of one element."""
    if name not in known or int(np.prod(known[name].dims)) != 1:
        return None
    return float(edit.array_of(known[name]).reshape(-1)[0])


def _ends_in_logits(model: onnx.ModelProto) -> bool:
    return end_of(model.graph, model.graph.output[0].name) is None


LOGITS = Condition("no Softmax or Sigmoid makes the output, seen through what keeps order", _ends_in_logits)

END = Pass("end", strip_end, (ONE_OUTPUT, RAW), (ONE_OUTPUT, LOGITS))
