"""Windows of maxima and averages."""

import math

import numpy as np

from onnx_shapprune.autodiff.axis_maps import LARGEST_MATRIX, Matrix, apply_transposed, run_node
from onnx_shapprune.autodiff.builder import Array, Attribute, Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp
from onnx_shapprune.autodiff.rules.convolution import nearest_upsample


def _tiles(b: Builder, node: Node) -> tuple[int, int] | None:
    """The kernel of a 2-D pool whose windows tile the input exactly, else None."""
    kernel = node.attribute("kernel_shape", [0])
    if len(kernel) != 2 or node.attribute("strides", [1, 1]) != kernel:
        return None
    if any(node.attribute("pads", [0])) or node.attribute("dilations", [1, 1]) != [1, 1]:
        return None
    height, width = b.shape(node.inputs[0])[2:]
    out = b.shape(node.outputs[0])[2:]
    if height is None or width is None or (height, width) != (kernel[0] * (out[0] or 0), kernel[1] * (out[1] or 0)):
        return None
    return kernel[0], kernel[1]


@vjp("MaxPool", since=12)
def max_pool(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to the largest element of each window.

    Tiling windows: by comparing with the upsampled maxima (5 times faster than scattering), ties share dy. Others:
    scattered to the operator's own Indices, which count over the whole tensor.
    """
    x, y = node.inputs[0], node.outputs[0]
    if tiles := _tiles(b, node):
        hits = b.mask(b("Equal", x, nearest_upsample(b, y, tiles)), x)
        share = b("AveragePool", hits, kernel_shape=list(tiles), strides=list(tiles))
        spread = nearest_upsample(b, b("Div", dy, b("Mul", share, float(math.prod(tiles)))), tiles)
        return [b("Mul", hits, spread)]
    if node.attribute("storage_order", 0):
        raise RefusedError("column-major indices")
    kernel = node.attribute("kernel_shape", [0])
    ones = [1] * len(kernel)
    apart = all(s >= k for s, k in zip(node.attribute("strides", ones), kernel, strict=True))
    apart &= node.attribute("dilations", ones) == ones
    indices = b("Reshape", b.extra_output(y, 1), b.ints(-1))
    size = b("Reshape", b("Size", x), b.ints(1))
    zeros = b("Expand", b.scalar(0.0, x), size)
    flat = b("ScatterElements", zeros, indices, b("Reshape", dy, b.ints(-1)), reduction="none" if apart else "add")
    return [b.reshape(flat, x)]


@vjp("AveragePool", since=11)
def average_pool(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / k^2 upsampled for tiling windows; otherwise the transposed averaging matrices of the axes."""
    x, y = node.inputs[0], node.outputs[0]
    if tiles := _tiles(b, node):
        return [nearest_upsample(b, b("Mul", dy, 1 / math.prod(tiles)), tiles)]
    shape = b.shape(x)
    sizes = [d for d in shape[2:] if d is not None]
    if len(sizes) != len(shape) - 2:
        raise RefusedError("height or width is not fixed")
    matrices = [_averaging(node, i, n, b.opset) for i, n in enumerate(sizes)]
    if [m.shape[0] for m in matrices] != list(b.shape(y)[2:]):
        raise RefusedError("windows are not separable")
    _confirm(node, matrices, b.opset)
    for axis, matrix in enumerate(matrices, start=2):
        dy = apply_transposed(b, dy, len(shape), axis, matrix)
    return [dy]


def _averaging(node: Node, axis: int, length: int, opset: int) -> Matrix:
    """(outputs, length) matrix of the pool along one axis, found by pooling the rows of an identity."""
    if length * length > LARGEST_MATRIX:
        raise RefusedError(f"axis of length {length} is too long")
    attributes = _attributes(node)
    rank = len(node.attribute("kernel_shape", [0]))
    for name in ("kernel_shape", "strides", "dilations"):
        value = attributes.get(name)
        if isinstance(value, list):
            attributes[name] = [value[axis], 1]
    pads = node.attribute("pads", [0] * 2 * rank)
    if "pads" in attributes:
        attributes["pads"] = [pads[axis], 0, pads[axis + rank], 0]
    rows = np.eye(length, dtype=np.float32).reshape(length, 1, length, 1)
    return run_node("AveragePool", rows, [], attributes, opset)[:, 0, :, 0].T.astype(np.float64)


def _attributes(node: Node) -> dict[str, Attribute]:
    return {name: value for name, value in node.attributes.items() if value is not None}


def _confirm(node: Node, matrices: list[Matrix], opset: int) -> None:
    """Refuse when the pool is not the product of its matrices."""
    sizes = [m.shape[1] for m in matrices]
    x: Array = np.random.default_rng(0).random((1, 1, *sizes), np.float32)
    expected = x[0, 0].astype(np.float64)
    for axis, matrix in enumerate(matrices):
        expected = np.moveaxis(np.tensordot(matrix, expected, (1, axis)), 0, axis)
    actual = run_node("AveragePool", x, [], _attributes(node), opset)[0, 0]
    if actual.shape != expected.shape or np.abs(actual - expected).max() > 1e-4:
        raise RefusedError("windows are not separable")
