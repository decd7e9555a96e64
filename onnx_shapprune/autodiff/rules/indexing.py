"""Operators that pick elements by constant positions: Slice, Pad, Gather."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.axis_maps import apply_transposed, selection
from onnx_shapprune.autodiff.builder import ENDLESS, Builder, Shape
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


def _constant(b: Builder, node: Node, index: int, what: str) -> NDArray[np.int64] | None:
    """An integer input as a flat array, None where it is left out; refused when it is computed."""
    if not node.input(index):
        return None
    value = b.value(node.input(index))
    if value is None:
        raise RefusedError(f"{what} not constant")
    return value.astype(np.int64).reshape(-1)


def _static(shape: Shape, axis: int) -> int:
    dim = shape[axis]
    if dim is None:
        raise RefusedError(f"axis {axis} depends on the batch")
    return dim


def _pad(b: Builder, g: str, rank: int, pads: dict[int, tuple[int, int]]) -> str:
    """Zeros before and after on some axes; negative numbers crop."""
    if not any(before or after for before, after in pads.values()):
        return g
    starts = [pads.get(i, (0, 0))[0] for i in range(rank)]
    ends = [pads.get(i, (0, 0))[1] for i in range(rank)]
    return b("Pad", g, b.ints(*starts, *ends), b.scalar(0.0, g), mode="constant")


@vjp("Slice", since=13)
def slice_(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Zeros around dy for steps of 1, a selection matrix on the axis for others."""
    shape = b.shape(node.inputs[0])
    rank = len(shape)
    starts, ends = _constant(b, node, 1, "starts"), _constant(b, node, 2, "ends")
    if starts is None or ends is None:
        raise RefusedError("starts or ends missing")
    axes, steps = _constant(b, node, 3, "axes"), _constant(b, node, 4, "steps")
    axes = np.arange(len(starts)) if axes is None else axes % rank
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    pads: dict[int, tuple[int, int]] = {}
    strided: list[tuple[int, Sequence[int]]] = []
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        if shape[axis] is None and start == 0 and step == 1 and end >= ENDLESS >> 33:
            continue  # takes everything, however large the batch
        length = _static(shape, axis)
        # A negative end below -length is clamped to "before the first element", which slice() writes as None.
        stop = None if step < 0 and end < -length else end
        taken = range(length)[slice(start, stop, step)]
        if step == 1:
            pads[axis] = (taken.start, length - taken.stop) if len(taken) else (0, length)
        else:
            strided.append((axis, taken))
    g = _pad(b, dy, rank, pads)
    for axis, positions in strided:
        g = apply_transposed(b, g, rank, axis, selection(positions, _static(shape, axis)))
    return [g, *[None] * (len(node.inputs) - 1)]


@vjp("Pad", since=18)
def pad(b: Builder, node: Node, dy: str) -> list[str | None]:
    """The part of dy without the padding; reflected or repeated elements are summed by a selection matrix."""
    node.only(0)
    shape = b.shape(node.inputs[0])
    rank = len(shape)
    amounts = _constant(b, node, 1, "pads")
    axes = _constant(b, node, 3, "axes")
    axes = np.arange(rank) if axes is None else axes % rank
    if amounts is None:
        raise RefusedError("pads missing")
    pads = {int(a): (int(p), int(q)) for a, p, q in zip(axes, amounts, amounts[len(axes) :], strict=False)}
    rest = [None] * (len(node.inputs) - 1)
    mode = node.attribute("mode", "constant")
    if mode == "constant":
        return [_unpad(b, dy, rank, pads), *rest]
    if any(p < 0 for pair in pads.values() for p in pair):
        raise RefusedError(f"negative pads in mode {mode}")
    if mode not in ("reflect", "edge", "wrap"):
        raise RefusedError(f"mode {mode}")
    g = dy
    for axis, (before, after) in pads.items():
        if before or after:
            length = _static(shape, axis)
            if mode == "reflect" and max(before, after) >= length:
                raise RefusedError("reflects more than once")
            positions = np.arange(-before, length + after)
            if mode == "edge":
                positions = positions.clip(0, length - 1)
            elif mode == "wrap":
                positions = positions % length
            else:
                positions = length - 1 - np.abs(length - 1 - np.abs(positions))
            g = apply_transposed(b, g, rank, axis, selection(positions.tolist(), length))
    return [g, *rest]


def _unpad(b: Builder, dy: str, rank: int, pads: dict[int, tuple[int, int]]) -> str:
    cut = {a: (max(p, 0), max(q, 0)) for a, (p, q) in pads.items() if p > 0 or q > 0}
    g = dy
    if cut:
        starts = b.ints(*(p for p, _ in cut.values()))
        ends = b.ints(*(-q if q else ENDLESS for _, q in cut.values()))
        g = b("Slice", g, starts, ends, b.ints(*cut))
    return _pad(b, g, rank, {a: (max(-p, 0), max(-q, 0)) for a, (p, q) in pads.items()})


@vjp("Gather", since=13)
def gather(b: Builder, node: Node, dy: str) -> list[str | None]:
    """Zeros around dy for one index or a run of them, a selection matrix on the axis for others."""
    node.only(0)
    x, where = node.inputs
    shape = b.shape(x)
    rank = len(shape)
    axis = node.attribute("axis", 0) % rank
    indices = b.value(where)
    if indices is None:
        return [_scatter(b, node, dy, axis), None]
    length = _static(shape, axis)
    flat = [int(i) % length for i in indices.reshape(-1)]
    g = dy
    if indices.ndim == 0:
        g = b("Unsqueeze", g, b.ints(axis))
    elif indices.ndim > 1:
        merged = [*shape[:axis], len(flat), *shape[axis + 1 :]]
        if merged.count(None) > 1:
            raise RefusedError("several dimensions depend on the batch")
        g = b("Reshape", g, b.ints(*(-1 if d is None else d for d in merged)))
    if flat and flat == list(range(flat[0], flat[0] + len(flat))):
        return [_pad(b, g, rank, {axis: (flat[0], length - flat[-1] - 1)}), None]
    return [apply_transposed(b, g, rank, axis, selection(flat, length)), None]


def _scatter(b: Builder, node: Node, dy: str, axis: int) -> str:
    """dy added at indices that are only known at run time, with the gathered axis brought to the front."""
    x, where = node.inputs
    rank, depth = len(b.shape(x)), len(b.shape(where))
    swap = [axis, *(i for i in range(rank) if i != axis)]
    front = [*range(axis, axis + depth), *(i for i in range(rank - 1 + depth) if not axis <= i < axis + depth)]
    zeros = b.zeros_like(x)
    if axis:
        zeros, dy = b("Transpose", zeros, perm=swap), b("Transpose", dy, perm=front)
    made = b("ScatterND", zeros, b("Unsqueeze", where, b.ints(-1)), dy, reduction="add")
    return b("Transpose", made, perm=[int(i) for i in np.argsort(swap)]) if axis else made


@vjp("GatherND", since=13)
def gather_nd(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy added at the positions it was taken from."""
    if node.attribute("batch_dims", 0):
        raise RefusedError("batch_dims")
    x, where = node.inputs
    return [b("ScatterND", b.zeros_like(x), where, dy, reduction="add"), None]


@vjp("ScatterND", since=16)
def scatter_nd(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy where it was put to what was put there, and elsewhere to what it was put into; positions are thought to differ."""
    if node.attribute("reduction", "none") not in ("none", "add"):
        raise RefusedError("reduction")
    _, where, put = node.inputs
    kept = dy if node.attribute("reduction", "none") == "add" else b("ScatterND", dy, where, b.zeros_like(put))
    return [kept, None, b("GatherND", dy, where)]


@vjp("GatherElements", since=13)
def gather_elements(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy added at the positions it was taken from."""
    x, where = node.inputs
    axis = node.attribute("axis", 0)
    return [b("ScatterElements", b.zeros_like(x), where, dy, axis=axis, reduction="add"), None]


@vjp("TopK", since=11)
def top_k(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dy at the positions of the largest elements."""
    x = node.inputs[0]
    where = b.extra_output(node.outputs[0], 1)
    return [b("ScatterElements", b.zeros_like(x), where, dy, axis=node.attribute("axis", -1)), None]
