"""Float64 versions of operators that onnx.reference computes in float32 or not as its own text says.

Written from the operator texts as plain loops; every case also compares the forward result with onnxruntime.
"""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from scipy.special import erf

Floats = NDArray[Any]


class Erf(OpRun):
    """onnx.reference returns float32."""

    op_domain = ""

    def _run(self, x: Floats) -> tuple[Floats]:
        return (erf(x),)


class Gelu(OpRun):
    """The exact form goes through Erf."""

    op_domain = ""

    def _run(self, x: Floats, approximate: str | None = None) -> tuple[Floats]:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + erf(x / np.sqrt(2))),)


class LRN(OpRun):
    """onnx.reference loops over the batch where it should loop over channels."""

    op_domain = ""

    def _run(self, x: Floats, alpha: float, beta: float, bias: float, size: int) -> tuple[Floats]:
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            window = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
            y[:, c] = x[:, c] / (bias + float(alpha) / size * (window**2).sum(1)) ** float(beta)
        return (y,)


class LpNormalization(OpRun):
    """onnx.reference forgets the modulus for p = 1."""

    op_domain = ""

    def _run(self, x: Floats, axis: int, p: int) -> tuple[Floats]:
        return (x / (np.abs(x) ** p).sum(axis, keepdims=True) ** (1 / p),)


class GroupNormalization(OpRun):
    """onnx.reference computes the statistics in float32; scale and bias per group or per channel."""

    op_domain = ""

    def _run(
        self, x: Floats, scale: Floats, bias: Floats, num_groups: int, epsilon: float | None = None, **_: object
    ) -> tuple[Floats]:
        grouped = x.reshape(len(x), num_groups, -1)
        deviation = np.sqrt(grouped.var(2, keepdims=True) + (1e-5 if epsilon is None else epsilon))
        flat = ((grouped - grouped.mean(2, keepdims=True)) / deviation).reshape(x.shape)
        each = x.shape[1] // len(scale)
        shape = (1, x.shape[1], *[1] * (x.ndim - 2))
        return (flat * np.repeat(scale, each).reshape(shape) + np.repeat(bias, each).reshape(shape),)


class ConvTranspose(OpRun):
    """onnx.reference cannot do groups."""

    op_domain = ""

    def _run(
        self,
        x: Floats,
        w: Floats,
        bias: Floats | None = None,
        dilations: list[int] | None = None,
        group: int | None = None,
        output_padding: list[int] | None = None,
        pads: list[int] | None = None,
        strides: list[int] | None = None,
        **_: object,
    ) -> tuple[Floats]:
        rank = w.ndim - 2
        ones, zeros = [1] * rank, [0] * rank
        d, s, extra, p, g = dilations or ones, strides or ones, output_padding or zeros, pads or zeros * 2, group or 1
        size = [s[i] * (x.shape[2 + i] - 1) + d[i] * (w.shape[2 + i] - 1) + 1 + extra[i] for i in range(rank)]
        y = np.zeros((len(x), g * w.shape[1], *size))
        for k in range(g):
            rows, cols = x.shape[1] // g, w.shape[1]
            part, kernel = x[:, k * rows : (k + 1) * rows], w[k * rows : (k + 1) * rows]
            for tap in itertools.product(*(range(n) for n in w.shape[2:])):
                where = tuple(
                    slice(tap[i] * d[i], tap[i] * d[i] + s[i] * (x.shape[2 + i] - 1) + 1, s[i]) for i in range(rank)
                )
                weights = kernel.reshape(rows, cols, -1)[:, :, np.ravel_multi_index(tap, w.shape[2:])]
                term = np.einsum("nc...,cm->nm...", part, weights)
                y[(slice(None), slice(k * cols, (k + 1) * cols), *where)] += term
        cut = tuple(slice(p[i], size[i] - p[rank + i]) for i in range(rank))
        y = y[(slice(None), slice(None), *cut)]
        return (y if bias is None else y + bias.reshape(1, -1, *ones),)


class Pad(OpRun):
    """onnx.reference cannot crop."""

    op_domain = ""

    def _run(
        self,
        x: Floats,
        pads: NDArray[np.int64],
        fill: Floats | None = None,
        axes: NDArray[np.int64] | None = None,
        mode: str | None = None,
    ) -> tuple[Floats]:
        widths = np.zeros((x.ndim, 2), np.int64)
        half = len(pads) // 2
        for i, axis in enumerate(range(x.ndim) if axes is None else axes):
            widths[axis] = pads[i], pads[half + i]
        if mode == "reflect":
            return (np.pad(x, widths, "reflect"),)
        if mode == "edge":
            return (np.pad(x, widths, "edge"),)
        if mode == "wrap":
            return (np.pad(x, widths, "wrap"),)
        y = np.pad(x, widths.clip(0), constant_values=0 if fill is None else fill.item())
        return (y[tuple(slice(-min(a, 0), n + min(b, 0)) for (a, b), n in zip(widths, y.shape, strict=True))],)


class GridSample(OpRun):
    """onnx.reference computes places in float32, and does not know the name that opset 16 has for linear."""

    op_domain = ""

    def _run(
        self, x: Floats, grid: Floats, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
    ) -> tuple[Floats]:
        assert mode in ("linear", "bilinear")
        height, width = x.shape[2:]
        y = np.zeros((*x.shape[:2], *grid.shape[1:3]), x.dtype)
        for n, i, j in np.ndindex(*grid.shape[:3]):
            across, down = grid[n, i, j]
            ends = 1 if align_corners else 0
            places = [((v + 1) * (k - ends) - (1 - ends)) / 2 for v, k in ((down, height), (across, width))]
            if padding_mode == "border":
                places = [min(max(v, 0.0), k - 1.0) for v, k in zip(places, (height, width), strict=True)]
            for corner in itertools.product((0, 1), (0, 1)):
                at = [int(np.floor(v)) + c for v, c in zip(places, corner, strict=True)]
                if 0 <= at[0] < height and 0 <= at[1] < width:
                    weight = np.prod([1 - abs(v - a) for v, a in zip(places, at, strict=True)])
                    y[n, :, i, j] += weight * x[n, :, at[0], at[1]]
        return (y,)


OPS = [Erf, Gelu, LRN, LpNormalization, GroupNormalization, ConvTranspose, Pad, GridSample]
