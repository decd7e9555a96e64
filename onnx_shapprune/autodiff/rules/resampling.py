"""Resize and GridSample. Resizing is linear and separable, so its adjoint is one transposed matrix per axis."""

import numpy as np
import onnx

from onnx_shapprune.autodiff.axis_maps import LARGEST_MATRIX, Matrix, apply_transposed, run_node
from onnx_shapprune.autodiff.builder import Array, Attribute, Builder
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


@vjp("Resize", since=18)
def resize(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Block sums for integer nearest upsampling, transposed interpolation matrices otherwise."""
    node.only(0)
    x, y = node.inputs[0], node.outputs[0]
    shape, out = b.shape(x), b.shape(y)
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise RefusedError("keep_aspect_ratio_policy")
    if node.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise RefusedError("tf_crop_and_resize")
    rank = len(shape)
    given = b.value(node.input(2)) if node.input(2) else None
    if node.input(2) and given is None and not node.input(3):
        raise RefusedError("scales are not constant")
    axes = [a % rank for a in node.attribute("axes", list(range(rank)))]
    scales = dict(zip(axes, given.astype(np.float64).tolist(), strict=True)) if given is not None and given.size else {}
    matrices: dict[int, Matrix] = {}
    for axis, (n, m) in enumerate(zip(shape, out, strict=True)):
        if n is None or m is None:
            if scales.get(axis, 1.0) != 1.0:
                raise RefusedError(f"axis {axis} depends on the batch")
        elif n != m or scales.get(axis, 1.0) != 1.0:
            matrices[axis] = _interpolation(b, node, n, m, scales.get(axis))
    _confirm(b, node, matrices, scales)
    rest: list[str | None] = [None] * (len(node.inputs) - 1)
    factors = {axis: m.shape[0] // m.shape[1] for axis, m in matrices.items()}
    if rank == 4 and set(matrices) == {2, 3} and all(_repeats(m) for m in matrices.values()):
        kernel = [factors[2], factors[3]]
        pooled = b("AveragePool", dy, kernel_shape=kernel, strides=kernel)
        return [b("Mul", pooled, float(kernel[0] * kernel[1])), *rest]
    for axis, matrix in matrices.items():
        dy = apply_transposed(b, dy, rank, axis, matrix)
    return [dy, *rest]


@vjp("GridSample", since=16)
def grid_sample(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Bilinear: a value is a sum over the four corners around its place, so dy goes back to them by their weights, and the
    place moves along the slopes between them.
    """
    if node.attribute("mode", "linear") not in ("linear", "bilinear"):
        raise RefusedError(f"mode {node.attribute('mode', '')}")
    padding = node.attribute("padding_mode", "zeros")
    if padding not in ("zeros", "border"):
        raise RefusedError(f"padding_mode {padding}")
    x, grid = node.inputs
    shape = b.shape(x)
    if len(shape) != 4 or shape[1] is None or shape[2] is None or shape[3] is None:
        raise RefusedError("it does not read pictures of one size")
    kind = b.dtype(dy)
    last = np.array([shape[3] - 1, shape[2] - 1], kind)  # a place is x, y
    step = np.asarray((last + 1 - node.attribute("align_corners", 0)) / 2, kind)  # pixels for one on the grid

    def inside(places: str) -> str:
        return b("Max", b("Min", places, last), 0.0)

    at = b("Add", b("Mul", b("Reshape", grid, b.ints(0, -1, 2)), step), np.asarray(last / 2, kind))
    moves: str | None = None
    if padding == "border":
        held = inside(at)
        at, moves = held, b.mask(b("Equal", held, at), dy)
    low = b("Floor", at)
    share = b("Sub", at, low)
    flat, back = b("Reshape", x, b.ints(0, 0, -1)), b("Reshape", dy, b.ints(0, 0, -1))
    indices, parts, pulls = [], [], []
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        far = np.array([right, down], kind)
        place = b("Add", low, far)
        held = inside(place)
        there = b("ReduceMin", b.mask(b("Equal", held, place), dy), b.ints(-1), keepdims=1)  # [n, k, 1]
        near = b("Add", b("Mul", share, 2 * far - 1), 1 - far)  # how much of the corner, along x and along y
        index = b("ReduceSum", b("Mul", held, np.array([1, shape[3]], kind)), b.ints(-1), keepdims=0)
        index = b("Unsqueeze", b("Cast", index, to=onnx.TensorProto.INT64), b.ints(1))
        indices.append(b("Expand", index, b.ints(1, shape[1], 1)))
        if node.needs[0]:
            weight = b("Mul", b("ReduceProd", near, b.ints(-1), keepdims=1), there)
            parts.append(b("Mul", back, b("Transpose", weight, perm=[0, 2, 1])))
        if node.needs[1]:
            value = b("GatherElements", flat, indices[-1], axis=2)
            pull = b("ReduceSum", b("Mul", back, value), b.ints(1), keepdims=1)
            pull = b("Mul", b("Transpose", pull, perm=[0, 2, 1]), there)
            other = b("Gather", near, b.ints(1, 0), axis=2)
            pulls.append(b("Mul", pull, b("Mul", other, (2 * far - 1) * step)))
    dx = dgrid = None
    if node.needs[0]:
        zeros = b("Reshape", b.zeros_like(x), b.ints(0, 0, -1))
        every = [b("Concat", *rows, axis=2) for rows in (indices, parts)]
        dx = b.reshape(b("ScatterElements", zeros, *every, axis=2, reduction="add"), x)
    if node.needs[1]:
        pull = b("Sum", *pulls)
        dgrid = b.reshape(b("Mul", pull, moves) if moves else pull, grid)
    return [dx, dgrid]


def _attributes(node: Node) -> dict[str, Attribute]:
    return {n: v for n, v in node.attributes.items() if v is not None and n not in ("axes", "keep_aspect_ratio_policy")}


def _interpolation(b: Builder, node: Node, length: int, size: int, scale: float | None) -> Matrix:
    """(size, length) matrix along one axis, found by resizing the rows of an identity."""
    if length * max(length, size) > LARGEST_MATRIX:
        raise RefusedError(f"axis of length {length} is too long")
    rows = np.eye(length, dtype=np.float32).reshape(length, 1, 1, length)
    extra: list[Array | None]
    if scale is None:
        extra = [None, None, np.array([length, 1, 1, size], np.int64)]
    else:
        extra = [None, np.array([1, 1, 1, scale], np.float32)]
    made = run_node("Resize", rows, extra, _attributes(node), b.opset)[:, 0, 0].T.astype(np.float64)
    if made.shape != (size, length):
        raise RefusedError(f"resizing {length} gave {made.shape[0]} instead of {size}")
    return made


def _confirm(b: Builder, node: Node, matrices: dict[int, Matrix], scales: dict[int, float]) -> None:
    """Refuse when the operator is not the product of its matrices; axes that are not resized are taken as short."""
    rank = len(b.shape(node.inputs[0]))
    if rank == 4 and set(matrices) <= {2, 3}:
        sizes = [1, 1, *(d or 1 for d in b.shape(node.inputs[0])[2:])]
    else:
        sizes = [d or 1 for d in b.shape(node.inputs[0])]
    x: Array = np.random.default_rng(0).random(sizes, np.float32)
    expected = x.astype(np.float64)
    for axis, matrix in matrices.items():
        expected = np.moveaxis(np.tensordot(matrix, expected, (1, axis)), 0, axis)
    if scales:
        extra: list[Array | None] = [None, np.array([scales.get(i, 1.0) for i in range(rank)], np.float32)]
    else:
        extra = [None, None, np.array(expected.shape, np.int64)]
    actual = run_node("Resize", x, extra, _attributes(node), b.opset)
    if actual.shape != expected.shape or np.abs(actual - expected).max(initial=0.0) > 1e-4:
        raise RefusedError("interpolation is not separable")


def _repeats(matrix: Matrix) -> bool:
    """Whether the matrix repeats every element the same number of times."""
    size, length = matrix.shape
    return size % length == 0 and np.array_equal(matrix, np.kron(np.eye(length), np.ones((size // length, 1))))
