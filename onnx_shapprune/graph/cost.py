"""How much arithmetic and memory one picture costs: decides how wide a search can be, the same way on every machine."""

from collections.abc import Mapping

import numpy as np
import onnx

from onnx_shapprune.runtime.probe import TensorInfo


def multiply_adds(model: onnx.ModelProto, infos: Mapping[str, TensorInfo]) -> int:
    """Multiply-adds of Conv, ConvTranspose, Gemm and MatMul for one picture.

    Measured time would be a better guide and is not used: a busy machine would then give another result than an idle one.
    """
    total = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        data, weight, out = (infos.get(name) for name in (node.input[0], node.input[1], node.output[0]))
        if data is None or weight is None or out is None:
            continue
        if node.op_type == "Conv":
            total += _size(out) * int(np.prod([d or 1 for d in weight.shape[1:]]))
        elif node.op_type == "ConvTranspose":
            total += _size(data) * int(np.prod([d or 1 for d in weight.shape[1:]]))
        else:
            total += _size(out) * (data.shape[-1] or 1)
    return total


def activation_bytes(infos: Mapping[str, TensorInfo]) -> int:
    """Bytes of all tensors that depend on the batch, for one picture."""
    return sum(_size(info) * info.dtype.itemsize for info in infos.values() if not info.static)


def _size(info: TensorInfo) -> int:
    """Elements per picture: dimensions that depend on the batch count once."""
    return int(np.prod([d or 1 for d in info.shape]))
