"""Operators that only move elements: their gradient moves them back."""

import numpy as np

from onnx_shapprune.autodiff.builder import Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


@vjp("Flatten", since=13)
@vjp("Reshape", since=14)
@vjp("Squeeze", since=13)
@vjp("Unsqueeze", since=13)
def reshape(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy in the shape of the input."""
    return [b.reshape(dy, node.inputs[0]), *[None] * (len(node.inputs) - 1)]


@vjp("Transpose", since=13)
def transpose(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The inverse permutation."""
    rank = len(b.shape(node.inputs[0]))
    perm = node.attribute("perm", list(range(rank))[::-1])
    return [b("Transpose", dy, perm=[int(i) for i in np.argsort(perm)])]


@vjp("Concat", since=13)
def concat(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The pieces of dy."""
    if len(node.inputs) == 1:
        return [dy]
    shapes = [b.shape(x) for x in node.inputs]
    axis = node.attribute("axis", 0) % len(shapes[0])
    sizes = [s[axis] for s in shapes]
    if None not in sizes:
        split = b.ints(*(int(s or 0) for s in sizes))
    else:
        split = b("Concat", *(b("Shape", x, start=axis, end=axis + 1) for x in node.inputs), axis=0)
    return list(b.multi("Split", dy, split, outputs=len(sizes), axis=axis))


@vjp("Split", since=18, all_outputs=True)
def split(b: Builder, node: Node, *dys: str | None) -> list[str | None]:
    """All dys joined, zeros for an output that nobody uses."""
    if any(dy is None and not y for dy, y in zip(dys, node.outputs, strict=True)):
        raise RefusedError("an output without a name")
    pieces = [b.zeros_like(y) if dy is None else dy for dy, y in zip(dys, node.outputs, strict=True)]
    joined = pieces[0] if len(pieces) == 1 else b("Concat", *pieces, axis=node.attribute("axis", 0))
    return [joined, *[None] * (len(node.inputs) - 1)]


@vjp("DepthToSpace", since=13)
def depth_to_space(b: Builder, node: Node, dy: str) -> list[str | None]:
    """SpaceToDepth for the DCR order; three steps for the CRD order."""
    size = node.attribute("blocksize", 1)
    if node.attribute("mode", "DCR") == "DCR":
        return [b("SpaceToDepth", dy, blocksize=size)]
    channels, height, width = b.shape(node.inputs[0])[1:]
    if channels is None or height is None or width is None:
        raise RefusedError("channels, height or width depend on the batch")
    blocks = b("Reshape", dy, b.ints(-1, channels // size**2, height, size, width, size))
    return [b.reshape(b("Transpose", blocks, perm=[0, 1, 3, 5, 2, 4]), node.inputs[0])]


@vjp("SpaceToDepth", since=13, until=27)
def space_to_depth(b: Builder, node: Node, dy: str) -> list[str | None]:
    """DepthToSpace in DCR order."""
    return [b("DepthToSpace", dy, blocksize=node.attribute("blocksize", 1), mode="DCR")]


@vjp("Tile", since=13)
def tile(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The copies summed."""
    repeats = b.value(node.inputs[1])
    shape = b.shape(node.inputs[0])
    if repeats is None:
        raise RefusedError("repeats are not constant")
    counts = [int(r) for r in repeats.astype(np.int64)]
    if shape.count(None) > 1:
        raise RefusedError("several dimensions depend on the batch")
    axes = []
    target: list[int] = []
    for dim, count in zip(shape, counts, strict=True):
        if count != 1:
            axes.append(len(target))
            target.append(count)
        target.append(-1 if dim is None else dim)
    if not axes:
        return [dy, None]
    return [b("ReduceSum", b("Reshape", dy, b.ints(*target)), b.ints(*axes), keepdims=0), None]


@vjp("Trilu", since=14)
def trilu(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The same triangle of dy."""
    return [b("Trilu", dy, *node.inputs[1:], upper=node.attribute("upper", 1)), *[None] * (len(node.inputs) - 1)]
