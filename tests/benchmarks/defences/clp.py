"""CLP: Zheng et al., "Data-free Backdoor Removal Based on Channel Lipschitzness", ECCV 2022.

Convolution channels (with the normalisation behind them folded in) whose largest singular value is above mean + 3 deviations
of their layer are switched off. Looks at no picture.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.linear import find_linears
from tests.benchmarks.quality import Known

DEVIATIONS = 3.0  # u, as published for CIFAR-10


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    opened = net.opened
    values = {t.name: numpy_helper.to_array(t) for t in opened.subject.prepared.model.graph.initializer}
    nodes = {n.output[0]: n for n in opened.subject.prepared.model.graph.node}
    units = {layer.name for layer in opened.units.layers}
    off = {}
    for linear in find_linears(opened.file.loaded, opened.interface.output, opened.subject.prepared.model)[0]:
        node = nodes[linear.made]
        if node.op_type != "Conv" or linear.name not in units:
            continue
        weight = values[node.input[1]].astype(np.float64)
        largest = np.linalg.norm(weight.reshape(*weight.shape[:2], -1), ord=2, axis=(1, 2))
        off[linear.name] = np.flatnonzero(largest > largest.mean() + DEVIATIONS * largest.std()).tolist()
    return bake(opened.file.loaded, opened.units.layers, off), f"{sum(map(len, off.values()))} units off"
