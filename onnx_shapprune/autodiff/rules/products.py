"""Matrix products."""

from onnx_shapprune.autodiff.builder import Builder, Shape
from onnx_shapprune.autodiff.registry import Node, RefusedError, vjp


@vjp("Gemm", since=13)
def gemm(b: Builder, node: Node, dy: str) -> list[str | None]:
    """y = alpha A' B' + beta C, where ' transposes as the flags say."""
    left, right = node.inputs[:2]
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    ta, tb = node.attribute("transA", 0), node.attribute("transB", 0)
    grads: list[str | None] = [None, None]
    if node.needs[0]:
        if ta:
            grads[0] = b("Gemm", right, dy, alpha=alpha, transA=tb, transB=1)
        else:
            grads[0] = b("Gemm", dy, right, alpha=alpha, transB=1 - tb)
    if node.needs[1]:
        if tb:
            grads[1] = b("Gemm", dy, left, alpha=alpha, transA=1, transB=ta)
        else:
            grads[1] = b("Gemm", left, dy, alpha=alpha, transA=1 - ta)
    if len(node.inputs) > 2:
        if node.needs[2]:
            scaled = dy if beta == 1 else b("Mul", dy, beta)
            grads.append(b.sum_to(scaled, b.shape(node.outputs[0]), b.shape(node.inputs[2])))
        else:
            grads.append(None)
    return grads


@vjp("MatMul", since=13)
def matmul(b: Builder, node: Node, dy: str) -> list[str | None]:
    """dA = dy B^T, dB = A^T dy, summed over broadcast batch axes; vectors count as one row or one column."""
    left, right = node.inputs
    a_shape, b_shape = b.shape(left), b.shape(right)
    have = b.shape(node.outputs[0])
    a_matrix, b_matrix, dy_matrix = left, right, dy
    a_full, b_full = a_shape, b_shape
    if len(a_shape) == 1:
        a_matrix, a_full = b("Unsqueeze", left, b.ints(0)), (1, *a_shape)
        dy_matrix = b("Unsqueeze", dy_matrix, b.ints(-1 if len(b_shape) == 1 else -2))
        have = (*have, 1) if len(b_shape) == 1 else (*have[:-1], 1, have[-1])
    if len(b_shape) == 1:
        b_matrix, b_full = b("Unsqueeze", right, b.ints(1)), (*b_shape, 1)
        dy_matrix = b("Unsqueeze", dy_matrix, b.ints(-1))
        have = (*have, 1)
    grads: list[str | None] = [None, None]
    if node.needs[0]:
        product = b("MatMul", dy_matrix, _swap(b, b_matrix, len(b_full)))
        full = (*have[:-1], b_full[-2])
        grads[0] = _fit(b, product, full, a_full, a_shape, left)
    if node.needs[1]:
        product = b("MatMul", _swap(b, a_matrix, len(a_full)), dy_matrix)
        full = (*have[:-2], a_full[-1], have[-1])
        grads[1] = _fit(b, product, full, b_full, b_shape, right)
    return grads


@vjp("Einsum", since=12)
def einsum(b: Builder, node: Node, dy: str) -> list[str | None]:
    """For two operands x, z -> y: dx is the product of dy and z onto the letters of x."""
    equation = node.attribute("equation", "").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if "." in equation or len(terms) != 2 or any(len(set(t)) != len(t) for t in terms):
        raise RefusedError(f"equation {equation}")
    if not arrow:
        out = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    first, second = terms
    if not set(first) <= set(out) | set(second) or not set(second) <= set(out) | set(first):
        raise RefusedError(f"equation {equation} sums one operand alone")
    x, z = node.inputs
    sizes: dict[str, int | None] = {}
    for letter, dim in zip(first + second, b.shape(x) + b.shape(z), strict=True):
        if sizes.setdefault(letter, dim) != dim:
            raise RefusedError(f"equation {equation} stretches axis {letter}")
    return [
        b("Einsum", dy, z, equation=f"{out},{second}->{first}") if node.needs[0] else None,
        b("Einsum", x, dy, equation=f"{first},{out}->{second}") if node.needs[1] else None,
    ]


def _fit(b: Builder, g: str, have: Shape, matrix: Shape, shape: Shape, like: str) -> str:
    """Reduce the batch axes of a product to those of its operand, and a matrix of one row or column to a vector."""
    if len(have) < len(matrix):
        raise RefusedError(f"product of shape {have} for an operand of shape {matrix}")
    g = b.sum_to(g, (*have[:-2], *matrix[-2:]), matrix)
    return g if matrix == shape else b.reshape(g, like)


def _swap(b: Builder, x: str, rank: int) -> str:
    return b("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
