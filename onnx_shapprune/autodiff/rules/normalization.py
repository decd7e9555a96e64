"""Normalisations. With xh the normalised input and dxh = dy * scale, those that centre and divide by the deviation have
dx = (dxh - mean(dxh) - xh * mean(dxh * xh)) / deviation, the means over the normalised axes.
"""

import numpy as np

from onnx_shapprune.autodiff.axis_maps import apply_transposed
from onnx_shapprune.autodiff.builder import Builder, Shape
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


def _mean(b: Builder, x: str, axes: tuple[int, ...]) -> str:
    return b("ReduceMean", x, b.ints(*axes), keepdims=1)


def _standardised(b: Builder, x: str, axes: tuple[int, ...], epsilon: float) -> tuple[str, str]:
    """(xh, 1 / deviation), computed again."""
    centred = b("Sub", x, _mean(b, x, axes))
    variance = _mean(b, b("Mul", centred, centred), axes)
    inverse = b("Reciprocal", b("Sqrt", b("Add", variance, epsilon)))
    return b("Mul", centred, inverse), inverse


def _through(b: Builder, dxh: str, xh: str, inverse: str, axes: tuple[int, ...], *, centred: bool = True) -> str:
    projected = b("Mul", xh, _mean(b, b("Mul", dxh, xh), axes))
    inner = b("Sub", dxh, _mean(b, dxh, axes)) if centred else dxh
    return b("Mul", b("Sub", inner, projected), inverse)


def _per_channel(b: Builder, parameter: str, rank: int) -> str:
    """A (C,) parameter in the shape that broadcasts against (N, C, ...)."""
    return b("Reshape", parameter, b.ints(1, -1, *[1] * (rank - 2)))


@vjp("BatchNormalization", since=15)
def batch_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Inference form: dx = dy * scale / sqrt(var + eps)."""
    node.only(0, 1, 2)
    if node.attribute("training_mode", 0):
        raise RefusedError("training mode")
    x, scale, _, mean, variance = node.inputs
    rank = len(b.shape(x))
    channels = (0, *range(2, rank))
    epsilon = node.attribute("epsilon", 1e-5)
    s, v = b.value(scale), b.value(variance)
    deviation = b("Sqrt", b("Add", _per_channel(b, variance, rank), epsilon))
    if s is not None and v is not None:
        factor = s.astype(np.float64) / np.sqrt(v.astype(np.float64) + epsilon)
        slope = b.const(factor.astype(b.dtype(x)).reshape(1, -1, *[1] * (rank - 2)))
    else:
        slope = b("Div", _per_channel(b, scale, rank), deviation)
    grads: list[str | None] = [b("Mul", dy, slope), None, None, None, None]
    if node.needs[1]:
        xh = b("Div", b("Sub", x, _per_channel(b, mean, rank)), deviation)
        grads[1] = b("ReduceSum", b("Mul", dy, xh), b.ints(*channels), keepdims=0)
    if node.needs[2]:
        grads[2] = b("ReduceSum", dy, b.ints(*channels), keepdims=0)
    return grads


@vjp("LayerNormalization", since=17)
def layer_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Ba et al. 2016, with the operator's own Mean and InvStdDev outputs in float32 (1.2 times faster)."""
    x, scale = node.inputs[:2]
    shape = b.shape(x)
    axes = tuple(range(node.attribute("axis", -1) % len(shape), len(shape)))
    if b.dtype(x) == np.float32:
        inverse = b.extra_output(node.outputs[0], 2)
        xh = b("Mul", b("Sub", x, b.extra_output(node.outputs[0], 1)), inverse)
    else:
        xh, inverse = _standardised(b, x, axes, node.attribute("epsilon", 1e-5))
    grads: list[str | None] = [_through(b, b("Mul", dy, scale), xh, inverse, axes), None]
    if node.needs[1]:
        grads[1] = b.sum_to(b("Mul", dy, xh), shape, b.shape(scale))
    if len(node.inputs) > 2:
        grads.append(b.sum_to(dy, shape, b.shape(node.inputs[2])) if node.needs[2] else None)
    return grads


@vjp("RMSNormalization", since=23)
def rms_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Zhang and Sennrich 2019: not centred."""
    x, scale = node.inputs
    shape = b.shape(x)
    axes = tuple(range(node.attribute("axis", -1) % len(shape), len(shape)))
    square = _mean(b, b("Mul", x, x), axes)
    inverse = b("Reciprocal", b("Sqrt", b("Add", square, node.attribute("epsilon", 1e-5))))
    xh = b("Mul", x, inverse)
    dx = _through(b, b("Mul", dy, scale), xh, inverse, axes, centred=False)
    return [dx, b.sum_to(b("Mul", dy, xh), shape, b.shape(scale)) if node.needs[1] else None]


@vjp("InstanceNormalization", since=6)
def instance_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Ulyanov et al. 2016: statistics over the spatial axes."""
    x, scale = node.inputs[:2]
    rank = len(b.shape(x))
    axes = tuple(range(2, rank))
    xh, inverse = _standardised(b, x, axes, node.attribute("epsilon", 1e-5))
    dx = _through(b, b("Mul", dy, _per_channel(b, scale, rank)), xh, inverse, axes)
    return [dx, *_affine(b, node, dy, xh, (0, *axes))]


def _affine(b: Builder, node: Node, dy: str, xh: str, axes: tuple[int, ...]) -> list[str | None]:
    """Gradients of a per-channel scale and bias."""
    return [
        b("ReduceSum", b("Mul", dy, xh), b.ints(*axes), keepdims=0) if node.needs[1] else None,
        b("ReduceSum", dy, b.ints(*axes), keepdims=0) if node.needs[2] else None,
    ]


@vjp("GroupNormalization", since=18)
def group_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Wu and He 2018: statistics over the channels of a group and the spatial axes.

    Scale and bias have one entry per group before opset 21, one per channel from there on.
    """
    if b.opset < 21:
        node.only(0)
    x, scale = node.inputs[:2]
    shape: Shape = b.shape(x)
    rank, groups = len(shape), node.attribute("num_groups", 1)
    epsilon = node.attribute("epsilon", 1e-5)
    grouped = b.ints(0, groups, -1)
    xh, inverse = _standardised(b, b("Reshape", x, grouped), (2,), epsilon)
    if b.opset < 21:
        dxh = b("Mul", b("Reshape", dy, grouped), b("Reshape", scale, b.ints(1, -1, 1)))
        return [b.reshape(_through(b, dxh, xh, inverse, (2,)), x), None, None]
    dxh = b("Reshape", b("Mul", dy, _per_channel(b, scale, rank)), grouped)
    dx = b.reshape(_through(b, dxh, xh, inverse, (2,)), x)
    return [dx, *_affine(b, node, dy, b.reshape(xh, x), (0, *range(2, rank)))]


@vjp("LpNormalization", since=1)
def lp_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """y = x / n: dx = (dy - s * sum(dy * y)) / n with s = y for the Euclidean norm n, sign(x) for the sum of moduli."""
    x, y = node.inputs[0], node.outputs[0]
    axis = b.ints(node.attribute("axis", -1))
    euclidean = node.attribute("p", 2) == 2
    norm = b("ReduceL2" if euclidean else "ReduceL1", x, axis, keepdims=1)
    total = b("ReduceSum", b("Mul", dy, y), axis, keepdims=1)
    return [b("Div", b("Sub", dy, b("Mul", y if euclidean else b("Sign", x), total)), norm)]


@vjp("LRN", since=13)
def local_response_normalization(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Krizhevsky et al. 2012: y = x / d^beta, d = bias + alpha / size * (sum of x^2 over neighbouring channels)."""
    x, y = node.inputs[0], node.outputs[0]
    shape = b.shape(x)
    channels, size = shape[1], node.attribute("size", 1)
    if channels is None:
        raise RefusedError("the number of channels is not fixed")
    alpha, beta, bias = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75), node.attribute("bias", 1.0)
    before = (size - 1) // 2
    gap = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = ((gap >= -before) & (gap <= size - 1 - before)).astype(np.float64)
    squares = apply_transposed(b, b("Mul", x, x), len(shape), 1, np.ascontiguousarray(band.T))
    d = b("Add", b("Mul", squares, alpha / size), bias)
    spread = apply_transposed(b, b("Div", b("Mul", dy, y), d), len(shape), 1, band)
    direct = b("Mul", dy, b("Pow", d, -beta))
    return [b("Sub", direct, b("Mul", b("Mul", x, 2 * alpha * beta / size), spread))]
