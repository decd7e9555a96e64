"""Linear operators that act on each axis on its own, as matrices.

Pooling averages, interpolation and reflecting pads are all y = (M_1 x ... x M_k) x with one constant matrix per axis.
The matrices are found by running the operator on identities, not from the formulas of its specification, whose details
change between versions; a run on random numbers then confirms that the operator really is that product.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onnx_shapprune.autodiff.builder import Array, Attribute, Builder
from onnx_shapprune.autodiff.registry import RefusedError
from onnx_shapprune.runtime.session import Device, Session

Matrix = NDArray[np.float64]
LARGEST_MATRIX = 1 << 22  # elements; beyond it a dense matrix costs more than it is worth


def run_node(
    op: str, x: Array, extra: Sequence[Array | None], attributes: Mapping[str, Attribute], opset: int
) -> NDArray[np.float32]:
    """Run one operator of this opset on x, with further inputs as constants, in onnxruntime on the CPU."""
    names = ["x", *("" if e is None else f"e{i}" for i, e in enumerate(extra))]
    node = helper.make_node(op, names, ["y"])
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(e, f"e{i}") for i, e in enumerate(extra) if e is not None],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return Session(model, Device(threads=1)).run({"x": x})[0]


def apply_transposed(b: Builder, g: str, rank: int, axis: int, matrix: Matrix) -> str:
    """Contract axis `axis` of g, of length matrix.shape[0], with `matrix`: the adjoint of y = matrix @ x on it."""
    if matrix.size > LARGEST_MATRIX:
        raise RefusedError(f"a matrix of {matrix.shape[0]} x {matrix.shape[1]} on axis {axis} is too large")
    dense = matrix.astype(b.dtype(g))
    if axis == rank - 1:
        return b("MatMul", g, dense)
    if axis == rank - 2:
        return b("MatMul", np.ascontiguousarray(dense.T), g)
    swap = list(range(rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    return b("Transpose", b("MatMul", b("Transpose", g, perm=swap), dense), perm=swap)


def selection(indices: Sequence[int], length: int) -> Matrix:
    """The matrix of y[i] = x[indices[i]] for x of the given length."""
    matrix = np.zeros((len(indices), length))
    matrix[np.arange(len(indices)), list(indices)] = 1
    return matrix
