"""Reductions over axes. The gradient is first brought to the keepdims form and then spread."""

import math

import numpy as np

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


def _axes(b: Builder, node: Node) -> tuple[int, ...]:
    rank = len(b.shape(node.inputs[0]))
    axes = np.zeros(0, np.int64)
    if node.input(1):
        value = b.value(node.input(1))
        if value is None:
            raise RefusedError("axes are not constant")
        axes = value.astype(np.int64).reshape(-1)
    if axes.size == 0:
        return () if node.attribute("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(int(a) % rank for a in axes))


def _kept(b: Builder, node: Node, tensor: str) -> str:
    """An output-shaped tensor with the reduced axes as ones."""
    axes = _axes(b, node)
    return tensor if node.attribute("keepdims", 1) or not axes else b("Unsqueeze", tensor, b.ints(*axes))


def _spread(b: Builder, node: Node, g: str) -> str:
    """Stretch a keepdims-shaped gradient to the input's shape."""
    return _spread_over(b, g, node.inputs[0], _axes(b, node))


def _spread_over(b: Builder, g: str, x: str, axes: tuple[int, ...]) -> str:
    shape = b.shape(x)
    if any(shape[a] is None for a in axes):
        return b("Expand", g, b.runtime_shape(x))
    # Expand broadcasts both ways, so an axis that is not stretched may be given as 1: no runtime shape is needed.
    return b("Expand", g, b.ints(*(int(d or 1) if i in axes else 1 for i, d in enumerate(shape))))


def _rest(node: Node) -> list[str | None]:
    return [None] * (len(node.inputs) - 1)


@vjp("ReduceSum", since=13)
def reduce_sum(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy spread."""
    return [_spread(b, node, _kept(b, node, dy)), *_rest(node)]


@vjp("ReduceMean", since=18)
def reduce_mean(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / n spread."""
    return [_spread(b, node, _divided(b, node, _kept(b, node, dy), _axes(b, node))), *_rest(node)]


def _divided(b: Builder, node: Node, g: str, axes: tuple[int, ...]) -> str:
    x, y = node.inputs[0], node.outputs[0]
    dims = [b.shape(x)[a] for a in axes]
    if None not in dims:
        return b("Mul", g, 1 / math.prod(int(d or 1) for d in dims))
    return b("Div", g, b("Div", b.cast(b("Size", x), x), b.cast(b("Size", y), x)))


@vjp("ReduceMax", since=18)
@vjp("ReduceMin", since=18)
def reduce_extremum(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to the elements that attain the extremum, shared equally."""
    x = node.inputs[0]
    hits = b.mask(b("Equal", x, _kept(b, node, node.outputs[0])), x)
    axes = _axes(b, node)
    count = b("ReduceSum", hits, b.ints(*axes), keepdims=1) if axes else hits
    return [b("Mul", hits, b("Div", _kept(b, node, dy), count)), *_rest(node)]


@vjp("ReduceSumSquare", since=18)
def reduce_sum_square(b: Builder, node: Node, dy: str) -> list[str | None]:
    """2 x dy."""
    return [b("Mul", b("Mul", node.inputs[0], 2.0), _kept(b, node, dy)), *_rest(node)]


@vjp("ReduceL1", since=18)
def reduce_l1(b: Builder, node: Node, dy: str) -> list[str | None]:
    """sign(x) dy."""
    return [b("Mul", b("Sign", node.inputs[0]), _kept(b, node, dy)), *_rest(node)]


@vjp("ReduceL2", since=18)
def reduce_l2(b: Builder, node: Node, dy: str) -> list[str | None]:
    """x dy / y, and 0 at the origin."""
    x, y = node.inputs[0], node.outputs[0]
    return [b("Mul", x, _kept(b, node, b("Div", dy, b("Max", y, _smallest(b, y))))), *_rest(node)]


@vjp("ReduceLogSum", since=18)
def reduce_log_sum(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / sum(x), which is dy exp(-y)."""
    return [_spread(b, node, _kept(b, node, b("Mul", dy, b("Exp", b("Neg", node.outputs[0]))))), *_rest(node)]


@vjp("ReduceLogSumExp", since=18)
def reduce_log_sum_exp(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy exp(x - y)."""
    share = b("Exp", b("Sub", node.inputs[0], _kept(b, node, node.outputs[0])))
    return [b("Mul", share, _kept(b, node, dy)), *_rest(node)]


@vjp("GlobalAveragePool", since=1)
def global_average_pool(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / n spread over the spatial axes."""
    x = node.inputs[0]
    axes = tuple(range(2, len(b.shape(x))))
    return [_spread_over(b, _divided(b, node, dy, axes), x, axes)]


@vjp("GlobalMaxPool", since=1)
def global_max_pool(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to the spatial elements that attain the maximum, shared equally."""
    x = node.inputs[0]
    hits = b.mask(b("Equal", x, node.outputs[0]), x)
    count = b("ReduceSum", hits, b.ints(*range(2, len(b.shape(x)))), keepdims=1)
    return [b("Mul", hits, b("Div", dy, count))]


def _smallest(b: Builder, like: str) -> str:
    return b.scalar(float(np.finfo(str(b.dtype(like))).tiny), like)
