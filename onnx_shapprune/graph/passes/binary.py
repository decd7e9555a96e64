"""One score per picture as two classes: networks that answer yes or no are searched like all others.

Deployed ones end in a single Sigmoid, s = sigmoid(z), and say yes above 0.5. That is the Softmax of the two logits -z/2 and
z/2, class 0 and class 1, so the copy gets these. Halves, and not 0 and z: a score that no picture moves is taken for a class
that nothing reaches (case/reach.py). The file keeps its graph and its one score; whoever holds it against the copy lays
its answers out as `of_probabilities` does.

Only a Sigmoid whose values the file gives as they are says where yes begins. A bare number may be a logit, and just as well
an age or a quality; behind a factor, a Clip or 1 - s nobody can tell where users put the line. Those are refused.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onnx_shapprune.errors import ModelError
from onnx_shapprune.graph import edit
from onnx_shapprune.graph.interface import one_bare_score
from onnx_shapprune.graph.passes.contract import Pass, Work
from onnx_shapprune.graph.passes.ends import FLOATS, LAYING, SILENT
from onnx_shapprune.graph.passes.plain import ONE_OUTPUT, RAW

Floats = NDArray[np.float32]
HALVES = [[-0.5, 0.5]]
LAID = SILENT | LAYING - {"QuantizeLinear", "DequantizeLinear"}


def final_sigmoid(graph: onnx.GraphProto, output: str) -> onnx.NodeProto | None:
    """The Sigmoid whose values an output gives as they are, laid out otherwise or rounded at most; None where there is none.

    Local functions and integer operators must be written out before.
    """
    made = edit.producers(graph)
    node = made.get(output)
    while node is not None and node.op_type != "Sigmoid":
        node = made.get(_same_values(node, made) or "")
    return node if node is not None and node.domain in edit.DEFAULT_DOMAIN else None


def _same_values(node: onnx.NodeProto, made: Mapping[str, onnx.NodeProto]) -> str | None:
    """The tensor whose values a node passes on."""
    if node.domain not in edit.DEFAULT_DOMAIN:
        return None
    if node.op_type == "DequantizeLinear":  # back by the very step that it was rounded with, else it is a factor
        whole = made.get(node.input[0])
        same = whole is not None and whole.op_type == "QuantizeLinear" and whole.input[1:] == node.input[1:]
        return whole.input[0] if whole is not None and same else None
    rounded = node.op_type == "Cast" and edit.attributes(node).get("to") in FLOATS
    return node.input[0] if rounded or node.op_type in LAID else None


def of_probabilities(scores: Floats) -> Floats:
    """Scores of two classes, float32 [n, 2], from the probability of the second, [n, 1]. ModelError for another shape."""
    return np.concatenate([1 - _single(scores), scores], axis=1)


def of_logits(scores: Floats) -> Floats:
    """Logits of two classes, float32 [n, 2], from the logit of the second, [n, 1]. ModelError for another shape."""
    return np.asarray(_single(scores) * np.asarray(HALVES, np.float32), np.float32)


def _single(scores: Floats) -> Floats:
    """What a file says when it runs need not be what it declares."""
    if scores.shape[1] != 1:
        raise ModelError(
            f"the file declares one score for each picture, and gives {scores.shape[1]}: it cannot be audited"
        )
    return scores


def two_classes(work: Work) -> Work:
    """Two logits become the output where the file has one score. Raises ModelError where no Sigmoid makes it."""
    if not work.interface.one_score:
        return work
    graph = work.model.graph
    node = final_sigmoid(graph, graph.output[0].name)
    if node is None:
        raise ModelError(one_bare_score(work.interface.output))
    score = node.input[0]
    flat, halves, pair = (f"{score}__{name}" for name in ("alone", "halves", "pair"))
    graph.initializer.append(edit.tensor_of(np.asarray(HALVES, np.float32), halves))
    graph.node.append(helper.make_node("Flatten", [score], [flat], axis=1))
    graph.node.append(helper.make_node("Mul", [flat, halves], [pair]))
    edit.set_output(graph, pair)
    edit.prune_dead(graph)
    return replace(work, stripped=(*work.stripped, node.op_type), score=score)


BINARY = Pass("binary", two_classes, (ONE_OUTPUT, RAW), (ONE_OUTPUT, RAW))
