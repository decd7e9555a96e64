"""Take Softmax and the like off the end: their gradients underflow, and margins of logits do not saturate.

Converters put a Cast behind a Softmax, exporters a Clip or a factor: none of these changes which class wins, so they are
walked back over (`before`). Without a Softmax or Sigmoid before them they stay here, because then they belong to the
logits, with which the copy is compared; for searches and statistics they come off too (graph/canonical.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import TensorProto

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.passes.contract import Condition, Pass, Work
from onnx_shapprune.graph.passes.plain import ONE_OUTPUT, RAW
from onnx_shapprune.runtime.probe import TensorInfo

ENDS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
SILENT = frozenset({"Identity", "Dropout"})
# Lay the scores out in another way; quantised ones are as good as whole where one step holds for all.
LAYING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"})
# Rise, or stay, with each score by itself.
RISING = (
    ENDS
    | SILENT
    | {
        "HardSigmoid",
        "Tanh",
        "Softplus",
        "Softsign",
        "Elu",
        "Selu",
        "Celu",
        "LeakyRelu",
        "Relu",
        "Clip",
        "Exp",
        "Log",
        "Sqrt",
        "Erf",
        "Atan",
        "Sinh",
        "Asinh",
        "Cast",
    }
)
BOUNDED = frozenset({"Clip", "QuantizeLinear", "DequantizeLinear"})
POSITIVE = frozenset({"Exp", "Softmax", "Sigmoid", "HardSigmoid", "Softplus", "Relu", "Sqrt", "Pow", "Abs"})
NORMS = frozenset({"ReduceL1", "ReduceL2", "ReduceSumSquare"})
# One number for all scores that is no larger than they are by much: behind what else is added, all of them could be equal.
USUAL = frozenset({"ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceLogSumExp", "ReduceL1", "ReduceL2"})
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Tail:
    """A graph that is walked back from its scores. made: tensor -> the node that makes it; known: its constants; infos: its
    tensors, and classes: how many scores a picture has, where that was measured; without, less can be told.
    """

    made: Mapping[str, onnx.NodeProto]
    known: Mapping[str, onnx.TensorProto]
    infos: Mapping[str, TensorInfo] = field(default_factory=dict)
    classes: int | None = None

    def values(self, name: str) -> int | None:
        """Values of each picture, None where that is not known."""
        shape = self.infos[name].shape[1:] if name in self.infos else ()
        return int(np.prod([d or 0 for d in shape])) if shape else None

    def number(self, name: str) -> float | None:
        """The value of a constant that is the same everywhere."""
        array = edit.array_of(self.known[name]) if name in self.known else np.empty(0)
        if not array.size or not np.isfinite(array.flat[0]) or (array != array.flat[0]).any():
            return None
        return float(array.flat[0])

    def follows_from(self, name: str, scores: str, nodes: int = 16) -> bool:
        """Whether a tensor is made of these scores by what is USUAL, in so many nodes at most (of a sum each part has half),
        and of nothing else that the picture changes, which could switch the answer. It grows as they do: nothing is squared,
        stored numbers shift nothing, and an Exp is only behind a Log.
        """
        node = self.made.get(name)
        if name == scores or node is None or node.domain not in edit.DEFAULT_DOMAIN or nodes <= 0:
            return name == scores
        if node.op_type == "Log":
            summed = self.made.get(node.input[0])
            risen = self.made.get(summed.input[0]) if summed is not None and summed.op_type == "ReduceSum" else None
            return risen is not None and risen.op_type == "Exp" and self.follows_from(risen.input[0], scores, nodes - 3)
        plain = node.op_type in USUAL | SILENT | LAYING | {"Abs", "Cast", "Neg"}
        if not plain and (node.op_type not in ("Add", "Sub") or any(n in self.known for n in node.input)):
            return False
        parts = [n for n in node.input if n and n not in self.known]
        return bool(parts) and all(self.follows_from(n, scores, nodes // len(parts) - 1) for n in parts)

    def is_positive(self, name: str) -> bool:
        """Whether an operator makes it that gives no negative numbers."""
        return name in self.made and self.made[name].op_type in POSITIVE


def before(node: onnx.NodeProto, tail: Tail) -> str | None:
    """The input whose scores have the order of the node's output, None where there is none."""
    name = _scores(node, tail)
    if name is None or node.domain not in edit.DEFAULT_DOMAIN:
        return None
    attributes, op = edit.attributes(node), node.op_type
    if op in BOUNDED and any(n and n not in tail.known for n in node.input[1:]):
        return None  # bounds and steps that the picture makes could switch the answer
    if op in ("Softmax", "LogSoftmax"):
        laid_flat = name in tail.infos and len(tail.infos[name].shape) == 2
        return name if laid_flat and attributes.get("axis", -1) in (1, -1) else None
    if op == "Cast":
        whole = name in tail.infos and tail.infos[name].dtype.kind != "f"
        return name if attributes.get("to") in FLOATS and not whole else None
    if op in ("QuantizeLinear", "DequantizeLinear"):
        return name if (tail.number(node.input[1]) or 0) > 0 else None
    if op in LAYING:
        return name
    if op in RISING:
        slopes = [float(attributes[key]) for key in ("alpha", "gamma") if key in attributes]  # type: ignore[arg-type]
        return name if all(slope > 0 for slope in slopes) else None
    return name if _shifts_or_scales(node, name, tail) else None


def _scores(node: onnx.NodeProto, tail: Tail) -> str | None:
    """The one input that holds a score per class for each picture."""
    names = node.input[:1] if node.op_type in RISING | LAYING else [n for n in node.input if n not in tail.known]
    if tail.classes is not None:
        names = [n for n in names if tail.values(n) == tail.classes]
    return names[0] if len(names) == 1 else None


def _shifts_or_scales(node: onnx.NodeProto, name: str, tail: Tail) -> bool:
    """Whether an operator of two inputs treats all scores of a picture alike and keeps their order."""
    if len(node.input) != 2 or node.input[0] == node.input[1]:
        return False
    first = node.input[0] == name
    other = node.input[1 if first else 0]
    value = tail.number(other)
    shared = tail.values(other) == 1 and other not in tail.known and tail.follows_from(other, name)
    if node.op_type in ("Max", "Min"):
        return value is not None
    if node.op_type == "Add" or (node.op_type == "Sub" and first):
        return value is not None or shared
    if node.op_type == "Mul" or (node.op_type == "Div" and first):
        if value is not None:
            return value > 0
        divisor = tail.made.get(other)
        summed = divisor is not None and divisor.op_type == "ReduceSum" and tail.is_positive(divisor.input[0])
        norm = divisor is not None and (divisor.op_type in NORMS or summed)
        return node.op_type == "Div" and norm and shared
    return node.op_type == "Pow" and first and value is not None and value > 0 and tail.is_positive(name)


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
    tail = Tail(edit.producers(graph), edit.constants(graph))
    node = tail.made.get(output)
    if node is not None and node.op_type in SILENT:
        return node
    while node is not None and node.op_type not in ENDS:
        node = tail.made.get(before(node, tail) or "")
    return node if node is not None and _within_a_picture(node) else None


def _within_a_picture(node: onnx.NodeProto) -> bool:
    """Whether an end looks at the scores of one picture: the first axis is that of the pictures, and an axis counted from
    the back may be it.
    """
    axis = edit.attributes(node).get("axis", -1)
    return node.op_type == "Sigmoid" or axis == -1 or (isinstance(axis, int) and axis > 0)


def _ends_in_logits(model: onnx.ModelProto) -> bool:
    return end_of(model.graph, model.graph.output[0].name) is None


LOGITS = Condition("no Softmax or Sigmoid makes the output, seen through what keeps order", _ends_in_logits)

END = Pass("end", strip_end, (ONE_OUTPUT, RAW), (ONE_OUTPUT, LOGITS))
