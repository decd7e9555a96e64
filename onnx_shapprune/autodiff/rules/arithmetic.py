"""Elementwise functions of several tensors. Gradients come in the shape of the output; the engine reduces them."""

import numpy as np

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import Node, vjp


@vjp("Add", since=14, broadcasts=True)
def add(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to both."""
    return [dy, dy]


@vjp("Sub", since=14, broadcasts=True)
def sub(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy and -dy."""
    return [dy, b("Neg", dy)]


@vjp("Mul", since=14, broadcasts=True)
def mul(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Each gets dy times the other."""
    x, z = node.inputs
    return [b("Mul", dy, z), b("Mul", dy, x)]


@vjp("Div", since=14, broadcasts=True)
def div(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / z and -dy * y / z."""
    z, y = node.inputs[1], node.outputs[0]
    scaled = b("Div", dy, z)
    return [scaled, b("Neg", b("Mul", scaled, y))]


@vjp("Pow", since=15, broadcasts=True)
def power(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * p * x^(p - 1); none to the exponent."""
    node.only(0)
    x, exponent = node.inputs
    p = b.value(exponent)
    if p is not None and p.size == 1 and p.item() == 2:
        return [b("Mul", dy, b("Mul", x, 2.0)), None]
    if p is not None:
        values = p.astype(b.dtype(x))
        return [b("Mul", dy, b("Mul", b("Pow", x, values - 1), values)), None]
    q = b.cast(exponent, x)
    return [b("Mul", dy, b("Mul", b("Pow", x, b("Sub", q, 1.0)), q)), None]


@vjp("Where", since=16, broadcasts=True)
def where(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to whichever was taken."""
    condition = node.inputs[0]
    return [None, b("Where", condition, dy, 0.0), b("Where", condition, 0.0, dy)]


@vjp("Max", since=13, broadcasts=True)
@vjp("Min", since=13, broadcasts=True)
def extremum(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to the inputs that attain the extremum, shared equally where several do."""
    if len(node.inputs) == 1:
        return [dy]
    y = node.outputs[0]
    hits = [b.mask(b("Equal", x, y), y) for x in node.inputs]
    share = b("Div", dy, b("Sum", *hits))
    return [b("Mul", share, hit) for hit in hits]


@vjp("Sum", since=13, broadcasts=True)
def total(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy to each."""
    return [dy] * len(node.inputs)


@vjp("Mean", since=13, broadcasts=True)
def mean(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy / n to each."""
    return [b("Mul", dy, 1 / len(node.inputs))] * len(node.inputs)


@vjp("Expand", since=13, broadcasts=True)
def expand(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy, reduced by the engine."""
    return [dy, None]


@vjp("Mod", since=13, broadcasts=True)
def mod(b: Builder, node: Node, dy: str) -> list[str | None]:
    """x - z * floor(x / z): dy to x, none to the divisor."""
    node.only(0)
    return [dy, None]


@vjp("CumSum", since=14)
def cumulative_sum(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The cumulative sum in the other direction."""
    reverse = 1 - node.attribute("reverse", 0)
    axis = b.value(node.inputs[1])
    operand = node.inputs[1] if axis is None else axis.astype(np.int64)
    return [b("CumSum", dy, operand, exclusive=node.attribute("exclusive", 0), reverse=reverse), None]
