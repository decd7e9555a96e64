"""The pruning of Fine-Pruning: Liu, Dolan-Gavitt, Garg, RAID 2018.

Channels of the last convolution are switched off, those first that are least active on the pictures, as long as no more than
4 % of these lose their answer. fine_tuning goes on from there.
"""

import numpy as np
import onnx

from onnx_shapprune.graph.bake import bake
from onnx_shapprune.pictures.preprocess import to_input
from onnx_shapprune.runtime.probe import expose
from onnx_shapprune.runtime.session import Device, Session
from tests.benchmarks.quality import Known

MAY_LOSE = 0.04


def repaired(net: Known) -> tuple[onnx.ModelProto, str]:
    opened, prepared = net.opened, net.opened.subject.prepared
    convolutions = [each for each in opened.units.layers if each.op == "Conv"]
    if not convolutions:
        raise ValueError("no convolutions")
    layer = convolutions[-1]
    session = Session(expose(prepared.model, [layer.tensor]), Device(threads=1))
    x = to_input(net.shown.pictures, opened.subject.preprocessing)
    (value,) = session.run({prepared.input: x}, [layer.tensor])
    active = np.maximum(np.moveaxis(value, layer.axis, 1), 0).reshape(len(x), layer.channels, -1).mean(axis=(0, 2))
    order = np.argsort(active, kind="stable").tolist()
    made, kept = opened.file.loaded, 0
    for count in range(1, layer.channels):
        file = bake(opened.file.loaded, opened.units.layers, {layer.name: order[:count]})
        (scores,) = Session(file, Device(threads=1)).run({opened.interface.input: x}, [opened.interface.output])
        right = scores.reshape(len(x), -1).argmax(1) == net.shown.labels
        if net.shown.right.mean() - right.mean() > MAY_LOSE:
            break
        made, kept = file, count
    return made, f"{kept} units off"
