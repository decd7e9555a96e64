"""Small networks with attention of several heads, written as exporters write it."""

import models
import numpy as np
import onnx
from models import Net

WIDTH, HEADS, TOKENS = 6, 3, 16
EACH = WIDTH // HEADS


def ints(n: Net, *values: int) -> str:
    return n.const(np.array(values, np.int64))


def size(n: Net, x: str, axis: int) -> str:
    return n.op("Unsqueeze", n.op("Gather", n.op("Shape", x), n.const(np.array(axis)), axis=0), ints(n, 0))


def linear(n: Net, x: str, after: int) -> str:
    return n.op("Add", n.normal(after, scale=0.5), n.op("MatMul", x, n.normal(WIDTH, after)))


def tokens(n: Net) -> str:
    patches = n.op("Conv", "x", n.normal(WIDTH, 3, 2, 2), n.normal(WIDTH), kernel_shape=[2, 2], strides=[2, 2])
    return n.op("Transpose", n.op("Reshape", patches, ints(n, 0, WIDTH, TOKENS)), perm=[0, 2, 1])


def separate(n: Net, x: str) -> tuple[str, str, str]:
    """A layer each; the batch and the number of tokens are read off at run time."""

    def split(y: str) -> str:
        shape = n.op("Concat", size(n, y, 0), ints(n, -1), ints(n, HEADS), ints(n, EACH), axis=0)
        return n.op("Transpose", n.op("Reshape", y, shape), perm=[0, 2, 1, 3])

    q, k, v = (split(linear(n, x, WIDTH)) for _ in range(3))
    return q, k, v


def gathered(n: Net, x: str) -> tuple[str, str, str]:
    """One layer for all three, the last size of the Reshape computed from the input's."""
    shape = [size(n, x, 0), size(n, x, 1), ints(n, 3), ints(n, HEADS), n.op("Div", size(n, x, 2), ints(n, HEADS))]
    y = n.op("Reshape", linear(n, x, 3 * WIDTH), n.op("Concat", *shape, axis=0))
    y = n.op("Transpose", y, perm=[2, 0, 3, 1, 4])
    q, k, v = (n.op("Gather", y, n.const(np.array(i)), axis=0) for i in range(3))
    return q, k, v


def sliced(n: Net, x: str) -> tuple[str, str, str]:
    """One layer, Slice and Squeeze behind a Reshape that is stored."""
    y = n.op("Reshape", linear(n, x, 3 * WIDTH), ints(n, -1, TOKENS, 3, HEADS, EACH))
    y = n.op("Transpose", y, perm=[2, 0, 3, 1, 4])
    parts = (n.op("Slice", y, ints(n, i), ints(n, i + 1), ints(n, 0)) for i in range(3))
    q, k, v = (n.op("Squeeze", part, ints(n, 0)) for part in parts)
    return q, k, v


def split_first(n: Net, x: str) -> tuple[str, str, str]:
    """One layer that a Split takes apart before the heads."""
    names = [f"part{i}" for i in range(3)]
    n.nodes.append(onnx.helper.make_node("Split", [linear(n, x, 3 * WIDTH)], names, axis=-1))
    shape = ints(n, 0, 0, HEADS, EACH)
    q, k, v = (n.op("Transpose", n.op("Reshape", y, shape), perm=[0, 2, 1, 3]) for y in names)
    return q, k, v


def unbound(n: Net, x: str) -> tuple[str, str, str]:
    """One layer, Split with its sizes and Squeeze behind the Reshape, as PyTorch writes unbind."""
    y = n.op("Reshape", linear(n, x, 3 * WIDTH), ints(n, -1, TOKENS, 3, HEADS, EACH))
    y = n.op("Transpose", y, perm=[2, 0, 3, 1, 4])
    names = [f"part{i}" for i in range(3)]
    n.nodes.append(onnx.helper.make_node("Split", [y, ints(n, 1, 1, 1)], names))
    q, k, v = (n.op("Squeeze", part, ints(n, 0)) for part in names)
    return q, k, v


WAYS = {f.__name__: f for f in (separate, gathered, sliced, split_first, unbound)}
FIRST = {
    "separate": 0,
    "gathered": 2 * WIDTH,
    "sliced": 2 * WIDTH,
    "split_first": 2 * WIDTH,
    "unbound": 2 * WIDTH,
}  # column of the values


def weighted(n: Net, q: str, k: str, v: str) -> str:
    scores = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
    return n.op("MatMul", n.op("Softmax", n.op("Mul", scores, n.const(np.float32(1.5)[None])), axis=-1), v)


def finished(n: Net, context: str) -> onnx.ModelProto:
    y = n.op("Reshape", n.op("Transpose", context, perm=[0, 2, 1, 3]), ints(n, 0, TOKENS, WIDTH))
    y = n.op("ReduceMean", n.op("Relu", linear(n, y, WIDTH)), axes=[1], keepdims=0)
    return n.model(n.dense(y, WIDTH, models.CLASSES))


def network(way: str) -> onnx.ModelProto:
    n = Net(3)
    return finished(n, weighted(n, *WAYS[way](n, tokens(n))))
