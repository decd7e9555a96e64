"""The BatchNorm that an exporter folded into a convolution, put behind it again.

Published defences learn on networks whose normalisations are there: by the statistics of the batch, and with a scale and a
shift for every filter. Without them the same rates make weights explode. What a BatchNorm gave has, over the training set,
its shift as mean and its scale as deviation: here both are taken over the few pictures. The network computes what it did,
until it learns, and in the end the file has the nodes that it had.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

FOLDED = "onnx::Conv_"  # how torch's exporter names the weight and bias of a convolution that it folded
EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Unfolded:
    """Names of the tensors of a convolution, and of the BatchNorm behind it."""

    weight: str
    bias: str

    @property
    def scale(self) -> str:
        return f"{self.weight}/scale"

    @property
    def shift(self) -> str:
        return f"{self.weight}/shift"

    @property
    def mean(self) -> str:
        return f"{self.weight}/mean"

    @property
    def variance(self) -> str:
        return f"{self.weight}/variance"


def folded_ones(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Convolutions that a BatchNorm was folded into."""
    nodes = [n for n in model.graph.node if n.op_type == "Conv" and len(n.input) == 3]
    read = [n.input[1] for n in nodes]
    return [n for n in nodes if all(t.startswith(FOLDED) for t in n.input[1:]) and read.count(n.input[1]) == 1]


def unfolded(
    model: onnx.ModelProto, statistics: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> tuple[onnx.ModelProto, list[Unfolded]]:
    """A copy with a BatchNormalization behind each of these convolutions, given mean and variance of what they make."""
    copy, made = onnx.ModelProto(), []
    copy.CopyFrom(model)
    behind = dict(zip((n.output[0] for n in folded_ones(model)), statistics, strict=True))
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        copy.graph.node.append(node)
        if node.output[0] not in behind:
            continue
        mean, variance = behind[node.output[0]]
        each, name = Unfolded(node.input[1], node.input[2]), node.output[0]
        copy.graph.node[-1].output[0] = before = f"{name}/before"
        inputs = {each.scale: np.sqrt(variance + EPSILON), each.shift: mean, each.mean: mean, each.variance: variance}
        copy.graph.initializer.extend(numpy_helper.from_array(v.astype(np.float32), n) for n, v in inputs.items())
        copy.graph.node.append(onnx.helper.make_node("BatchNormalization", [before, *inputs], [name], epsilon=EPSILON))
        made.append(each)
    return copy, made
