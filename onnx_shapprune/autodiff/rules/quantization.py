"""Rounding has no useful derivative: gradients go straight through it, as if it did nothing inside the range.

The straight-through estimator of Y. Bengio, N. Leonard and A. Courville, arXiv 1308.3432. A gradient of an integer
tensor is kept as floating-point numbers, in units of one step.
"""

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp

STRAIGHT_THROUGH = ("QuantizeLinear", "DequantizeLinear")


def _spread(b: Builder, node: Node, name: str, default: float) -> NDArray[np.float64]:
    """A scale or zero point in float64, in a shape that broadcasts onto the data."""
    if not name:
        return np.full((), default)
    value = b.value(name)
    if value is None:
        raise RefusedError(f"{name} is computed from the picture")
    if node.attribute("block_size", 0):
        raise RefusedError("quantised in blocks")
    rank = len(b.shape(node.inputs[0]))
    if value.size == 1:
        return value.astype(np.float64).reshape(())
    axis = node.attribute("axis", 1) % rank
    return value.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(rank)])


@vjp("QuantizeLinear", since=13)
def quantize(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / scale where x / scale + zero point lies in the integers' range, 0 where it is cut off.

    A scale that is computed from the picture is one that cuts nothing off; it is taken for a constant.
    """
    node.only(0)
    x, kind = node.inputs[0], b.dtype(node.outputs[0])
    if b.value(node.inputs[1]) is None and np.prod([d or 0 for d in b.shape(node.inputs[1])]) == 1:
        return [b("Div", dy, node.inputs[1]), *[None] * (len(node.inputs) - 1)]
    if kind.kind not in "iu":
        raise RefusedError(f"quantised to {kind}")
    scale, zero = _spread(b, node, node.inputs[1], 1.0), _spread(b, node, node.input(2), 0.0)
    low, high = ((np.iinfo(kind.name).min - zero - 0.5) * scale, (np.iinfo(kind.name).max - zero + 0.5) * scale)
    dtype = b.dtype(x)
    inside = b("And", b("Greater", x, low.astype(dtype)), b("Less", x, high.astype(dtype)))
    slope = b("Mul", b.mask(inside, x), (1 / scale).astype(dtype))
    return [b("Mul", dy, slope), *[None] * (len(node.inputs) - 1)]


@vjp("DequantizeLinear", since=13)
def dequantize(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy * scale."""
    node.only(0)
    scale = _spread(b, node, node.inputs[1], 1.0).astype(b.dtype(node.outputs[0]))
    return [b("Mul", dy, scale), *[None] * (len(node.inputs) - 1)]
