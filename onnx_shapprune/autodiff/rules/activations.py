"""Elementwise functions of one tensor, Softmax and LogSoftmax. y is the output, x the input.

Masks come from y where it determines them: onnxruntime then fuses Conv and activation in the forward part and one
tensor less is kept. Greater, Cast, Mul is 1.5 times faster there than Where.
"""

import math

import numpy as np

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


def _xy(node: Node) -> tuple[str, str]:
    return node.inputs[0], node.outputs[0]


@vjp("Relu", since=14)
def relu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where y > 0."""
    _, y = _xy(node)
    return [b("Mul", dy, b.mask(b("Greater", y, 0.0), y))]


@vjp("LeakyRelu", since=16)
def leaky_relu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where y > 0, alpha * dy elsewhere."""
    x, y = _xy(node)
    alpha = node.attribute("alpha", 0.01)
    return [b("Where", b("Greater", y if alpha > 0 else x, 0.0), dy, b("Mul", dy, alpha))]


@vjp("PRelu", since=16, broadcasts=True)
def prelu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy or dy * slope; dslope = dy * min(x, 0)."""
    x, slope = node.inputs
    return [
        b("Where", b("Less", x, 0.0), b("Mul", dy, slope), dy),
        b("Mul", dy, b("Min", x, b.scalar(0.0, x))),
    ]


@vjp("Elu", since=6)
def elu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where x > 0, dy * (y + alpha) elsewhere."""
    x, y = _xy(node)
    alpha = node.attribute("alpha", 1.0)
    return [b("Where", b("Greater", y if alpha > 0 else x, 0.0), dy, b("Mul", dy, b("Add", y, alpha)))]


@vjp("Selu", since=6)
def selu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """gamma * dy where x > 0, dy * (y + gamma * alpha) elsewhere."""
    x, y = _xy(node)
    alpha, gamma = (
        node.attribute("alpha", 1.67326319217681884765625),
        node.attribute("gamma", 1.05070102214813232421875),
    )
    return [b("Where", b("Greater", x, 0.0), b("Mul", dy, gamma), b("Mul", dy, b("Add", y, alpha * gamma)))]


@vjp("Celu", since=12)
def celu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where x > 0, dy * (y / alpha + 1) elsewhere."""
    x, y = _xy(node)
    slope = b("Add", b("Mul", y, 1 / node.attribute("alpha", 1.0)), 1.0)
    return [b("Where", b("Greater", x, 0.0), dy, b("Mul", dy, slope))]


@vjp("ThresholdedRelu", since=10)
def thresholded_relu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where x > alpha."""
    x, _ = _xy(node)
    return [b("Mul", dy, b.mask(b("Greater", x, node.attribute("alpha", 1.0)), x))]


@vjp("Shrink", since=9)
def shrink(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where |x| > lambd."""
    x, _ = _xy(node)
    return [b("Mul", dy, b.mask(b("Greater", b("Abs", x), node.attribute("lambd", 0.5)), x))]


@vjp("Clip", since=13)
def clip(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where min < y < max."""
    node.only(0)
    _, y = _xy(node)
    low, high = node.input(1), node.input(2)
    tests = [b("Greater", y, low)] if low else []
    tests += [b("Less", y, high)] if high else []
    if not tests:
        return [dy, *[None] * (len(node.inputs) - 1)]
    inside = tests[0] if len(tests) == 1 else b("And", *tests)
    return [b("Mul", dy, b.mask(inside, y)), *[None] * (len(node.inputs) - 1)]


@vjp("HardSigmoid", since=6)
def hard_sigmoid(b: Builder, node: Node, dy: str) -> list[str | None]:
    """alpha * dy where 0 < y < 1."""
    _, y = _xy(node)
    inside = b.mask(b("And", b("Greater", y, 0.0), b("Less", y, 1.0)), y)
    return [b("Mul", b("Mul", dy, node.attribute("alpha", 0.2)), inside)]


@vjp("HardSwish", since=14)
def hard_swish(b: Builder, node: Node, dy: str) -> list[str | None]:
    """y = x * h, h = clip(x / 6 + 1 / 2, 0, 1): dx = dy * (h + x / 6 where |x| < 3)."""
    x, _ = _xy(node)
    gate = b("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    inside = b.mask(b("Less", b("Abs", x), 3.0), x)
    return [b("Mul", dy, b("Add", gate, b("Mul", inside, b("Mul", x, 1 / 6))))]


@vjp("Sigmoid", since=13)
def sigmoid(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * y * (1 - y)."""
    _, y = _xy(node)
    return [b("Mul", dy, b("Mul", y, b("Sub", 1.0, y)))]


@vjp("Tanh", since=13)
def tanh(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * (1 - y^2)."""
    _, y = _xy(node)
    return [b("Mul", dy, b("Sub", 1.0, b("Mul", y, y)))]


@vjp("Exp", since=13)
def exp(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * y."""
    _, y = _xy(node)
    return [b("Mul", dy, y)]


@vjp("Log", since=13)
def log(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy / x."""
    x, _ = _xy(node)
    return [b("Div", dy, x)]


@vjp("Sqrt", since=13)
def sqrt(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy / (2 y)."""
    _, y = _xy(node)
    return [b("Div", b("Mul", dy, 0.5), y)]


@vjp("Reciprocal", since=13)
def reciprocal(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = -dy * y^2."""
    _, y = _xy(node)
    return [b("Neg", b("Mul", dy, b("Mul", y, y)))]


@vjp("Abs", since=13)
def absolute(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * sign(x)."""
    x, _ = _xy(node)
    return [b("Mul", dy, b("Sign", x))]


@vjp("Neg", since=13)
def negative(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = -dy."""
    return [b("Neg", dy)]


@vjp("Erf", since=13)
def erf(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * 2 / sqrt(pi) * exp(-x^2)."""
    x, _ = _xy(node)
    return [b("Mul", dy, b("Mul", b("Exp", b("Neg", b("Mul", x, x))), 2 / math.sqrt(math.pi)))]


@vjp("Gelu", since=20)
def gelu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Hendrycks and Gimpel 2016, exact or with the tanh approximation."""
    x, _ = _xy(node)
    if node.attribute("approximate", "none") == "tanh":
        # y = x/2 (1 + t), t = tanh(k (x + c x^3))
        k, c = math.sqrt(2 / math.pi), 0.044715
        square = b("Mul", x, x)
        t = b("Tanh", b("Mul", b("Mul", x, b("Add", b("Mul", square, c), 1.0)), k))
        inner = b("Mul", b("Add", b("Mul", square, 3 * c), 1.0), k)
        slope = b("Mul", b("Mul", x, 0.5), b("Mul", b("Sub", 1.0, b("Mul", t, t)), inner))
        return [b("Mul", dy, b("Add", b("Mul", b("Add", t, 1.0), 0.5), slope))]
    # y = x Phi(x): Phi(x) + x phi(x)
    phi = b("Mul", b("Exp", b("Mul", b("Mul", x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    cumulative = b("Mul", b("Add", b("Erf", b("Mul", x, math.sqrt(0.5))), 1.0), 0.5)
    return [b("Mul", dy, b("Add", cumulative, b("Mul", x, phi)))]


@vjp("Softplus", since=1)
def softplus(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * sigmoid(x)."""
    x, _ = _xy(node)
    return [b("Mul", dy, b("Sigmoid", x))]


@vjp("Softsign", since=1)
def softsign(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy / (1 + |x|)^2."""
    x, _ = _xy(node)
    base = b("Add", b("Abs", x), 1.0)
    return [b("Div", dy, b("Mul", base, base))]


@vjp("Mish", since=18)
def mish(b: Builder, node: Node, dy: str) -> list[str | None]:
    """y = x t, t = tanh(softplus(x)): dx = dy * (t + x sigmoid(x) (1 - t^2))."""
    x, _ = _xy(node)
    t = b("Tanh", b("Softplus", x))
    slope = b("Mul", b("Mul", x, b("Sigmoid", x)), b("Sub", 1.0, b("Mul", t, t)))
    return [b("Mul", dy, b("Add", t, slope))]


@vjp("Swish", since=24)
def swish(b: Builder, node: Node, dy: str) -> list[str | None]:
    """y = x s, s = sigmoid(alpha x): dx = dy * (s + alpha x s (1 - s))."""
    x, _ = _xy(node)
    alpha = node.attribute("alpha", 1.0)
    s = b("Sigmoid", b("Mul", x, alpha))
    slope = b("Mul", b("Mul", x, alpha), b("Mul", s, b("Sub", 1.0, s)))
    return [b("Mul", dy, b("Add", s, slope))]


@vjp("Sin", since=7)
def sin(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy * cos(x)."""
    return [b("Mul", dy, b("Cos", node.inputs[0]))]


@vjp("Cos", since=7)
def cos(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = -dy * sin(x)."""
    return [b("Neg", b("Mul", dy, b("Sin", node.inputs[0])))]


@vjp("Atan", since=7)
def atan(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy / (1 + x^2)."""
    x, _ = _xy(node)
    return [b("Div", dy, b("Add", b("Mul", x, x), 1.0))]


@vjp("Softmax", since=13)
def softmax(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = y * dy - y * sum(y * dy)."""
    _, y = _xy(node)
    weighted = b("Mul", dy, y)
    total = b("ReduceSum", weighted, b.ints(node.attribute("axis", -1)), keepdims=1)
    return [b("Sub", weighted, b("Mul", y, total))]


@vjp("LogSoftmax", since=13)
def log_softmax(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy - exp(y) * sum(dy)."""
    _, y = _xy(node)
    total = b("ReduceSum", dy, b.ints(node.attribute("axis", -1)), keepdims=1)
    return [b("Sub", dy, b("Mul", b("Exp", y), total))]


@vjp("Identity", since=16)
def identity(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy."""
    return [dy]


@vjp("Dropout", since=13)
def dropout(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dx = dy; only inference mode."""
    training = b.value(node.input(2)) if node.input(2) else np.array(False)
    if training is None or bool(training):
        raise RefusedError("training mode")
    return [dy, *[None] * (len(node.inputs) - 1)]


@vjp("Cast", since=13)
def cast(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy in the dtype of the input."""
    return [b.cast(dy, node.inputs[0])]


@vjp("CastLike", since=15)
def cast_like(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy in the dtype of the input."""
    return [b.cast(dy, node.inputs[0]), None]
