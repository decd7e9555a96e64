"""What one output value of a linear layer is a product of: its row, and its weight as a matrix.

Conv, ConvTranspose, Gemm and MatMul all compute y = W r for rows r: patches of the picture under the kernel (im2col), of a
ConvTranspose patches of the input with zeros between its values, tokens, or whole feature vectors.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.stored import RefusedError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Geometry:
    """kind: "Conv", "ConvTranspose" or "dense"; shape: of the weight as the node reads it; groups: of channels. kernel,
    strides, dilations, pads (top, left, bottom, right, None where `same` decides), extra: output_padding; transposed: of a
    dense weight, whether it is [out, in].
    """

    kind: str
    shape: tuple[int, ...]
    groups: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    same: str = ""
    extra: tuple[int, int] = (0, 0)
    transposed: bool = False

    @property
    def kernel(self) -> tuple[int, int]:
        return (self.shape[2], self.shape[3])

    @property
    def fan_in(self) -> int:
        """Values in a row of one group."""
        if self.kind == "dense":
            return self.shape[1] if self.transposed else self.shape[0]
        inputs = self.shape[1] if self.kind == "Conv" else self.shape[0] // self.groups
        return inputs * self.kernel[0] * self.kernel[1]


def geometry_of(node: onnx.NodeProto, shape: tuple[int, ...]) -> Geometry:
    """The geometry of a node whose weight has this shape. Raises RefusedError for one that is not supported."""
    attributes = edit.attributes(node)
    if node.op_type in ("Gemm", "MatMul"):
        if len(shape) != 2:
            raise RefusedError(f"its weight has {len(shape)} dimensions")
        if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            raise RefusedError("its product is scaled or transposed")
        return Geometry("dense", shape, transposed=bool(attributes.get("transB", 0)))
    if len(shape) != 4:
        raise RefusedError(f"its kernel has {len(shape) - 2} dimensions")
    auto = attributes.get("auto_pad", b"NOTSET")
    word = auto.decode() if isinstance(auto, bytes) else str(auto)
    pads = _integers(attributes, "pads", (0, 0, 0, 0))
    same = word if word.startswith("SAME") else ""
    if node.op_type == "ConvTranspose" and (same or "output_shape" in attributes):
        raise RefusedError("its padding follows from its output's shape")
    return Geometry(
        node.op_type,
        shape,
        groups=int(attributes.get("group", 1)),  # type: ignore[call-overload]
        strides=_integers(attributes, "strides", (1, 1))[:2],  # type: ignore[arg-type]
        dilations=_integers(attributes, "dilations", (1, 1))[:2],  # type: ignore[arg-type]
        pads=(0, 0, 0, 0) if word == "VALID" else pads,  # type: ignore[arg-type]
        same=same,
        extra=_integers(attributes, "output_padding", (0, 0))[:2],  # type: ignore[arg-type]
    )


def _integers(attributes: dict[str, object], name: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    value = attributes.get(name)
    return tuple(int(v) for v in value) if isinstance(value, list) else otherwise


def matrices(weight: Doubles, geometry: Geometry) -> Doubles:
    """A weight as the node reads it, as [groups, out/groups, fan_in]."""
    if geometry.kind == "dense":
        return np.ascontiguousarray(weight if geometry.transposed else weight.T)[None]
    groups = geometry.groups
    if geometry.kind == "ConvTranspose":  # [in, out/groups, kh, kw]: as that of the Conv over the stuffed input
        split = weight.reshape(groups, -1, *weight.shape[1:])[..., ::-1, ::-1].swapaxes(1, 2)
        return np.ascontiguousarray(split).reshape(groups, weight.shape[1], -1)
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def weight_of(matrix: Doubles, geometry: Geometry) -> Doubles:
    """The inverse of `matrices`."""
    if geometry.kind == "dense":
        return np.ascontiguousarray(matrix[0] if geometry.transposed else matrix[0].T)
    if geometry.kind == "ConvTranspose":
        inputs, outputs = geometry.shape[0] // geometry.groups, geometry.shape[1]
        split = matrix.reshape(geometry.groups, outputs, inputs, *geometry.kernel).swapaxes(1, 2)[..., ::-1, ::-1]
        return np.ascontiguousarray(split).reshape(geometry.shape)
    return matrix.reshape(geometry.shape)


def windows(data: Floats, geometry: Geometry) -> Floats:
    """All rows of what a layer reads, as a view: [pictures, places, groups, fan_in] for dense layers (one group), else
    [pictures, out_h, out_w, groups, in/groups, kh, kw].
    """
    if geometry.kind == "dense":
        return data.reshape(len(data), -1, 1, data.shape[-1])
    kernel = [1 + (k - 1) * d for k, d in zip(geometry.kernel, geometry.dilations, strict=True)]
    strides = geometry.strides
    if geometry.kind == "ConvTranspose":
        n, c, h, w = data.shape
        stuffed = np.zeros((n, c, (h - 1) * strides[0] + 1, (w - 1) * strides[1] + 1), np.float32)
        stuffed[:, :, :: strides[0], :: strides[1]] = data
        top, left, bottom, right = geometry.pads
        around = (
            (kernel[0] - 1 - top, kernel[0] - 1 - bottom + geometry.extra[0]),
            (kernel[1] - 1 - left, kernel[1] - 1 - right + geometry.extra[1]),
        )
        padded, strides = _padded(stuffed, around), (1, 1)
    else:
        padded = _padded(data, _around(data.shape[2:4], kernel, geometry))
    n, c = padded.shape[:2]
    split = padded.reshape(n, geometry.groups, c // geometry.groups, *padded.shape[2:])
    views = np.lib.stride_tricks.sliding_window_view(split, tuple(kernel), axis=(3, 4))
    views = views[:, :, :, :: strides[0], :: strides[1], :: geometry.dilations[0], :: geometry.dilations[1]]
    return np.asarray(views.transpose(0, 3, 4, 1, 2, 5, 6))


def _around(size: tuple[int, ...], kernel: list[int], geometry: Geometry) -> tuple[tuple[int, int], tuple[int, int]]:
    if not geometry.same:
        top, left, bottom, right = geometry.pads
        return (top, bottom), (left, right)
    found = []
    for length, reach, stride in zip(size, kernel, geometry.strides, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + reach - length)
        less = total // 2
        found.append((less, total - less) if geometry.same == "SAME_UPPER" else (total - less, less))
    return found[0], found[1]


def _padded(data: Floats, around: tuple[tuple[int, int], tuple[int, int]]) -> Floats:
    """Zeros around a picture; a negative width cuts it."""
    wide = np.pad(data, ((0, 0), (0, 0), *((max(0, a), max(0, b)) for a, b in around)))
    (top, bottom), (left, right) = (tuple(max(0, -v) for v in pair) for pair in around)
    return wide[:, :, top : wide.shape[2] - bottom, left : wide.shape[3] - right]


def taken(views: Floats, places: Places) -> Floats:
    """Rows at `places`, int64 [rows, picture and place], of `windows`: float32 [groups, rows, fan_in]."""
    rows = views[tuple(places.T)]
    return np.ascontiguousarray(rows.reshape(*rows.shape[:2], -1).swapaxes(0, 1))


def places_of(views: Floats) -> Places:
    """Every picture and place of `windows`, int64 [rows, 2 or 3]."""
    return np.argwhere(np.ones(views.shape[: views.ndim - (2 if views.ndim == 4 else 4)], bool))


def moved_places(before: Floats, after: Floats, geometry: Geometry, least: float) -> Places:
    """Places whose row differs by more than `least` anywhere between two inputs of a layer."""
    changed = np.abs(after - before)
    if geometry.kind == "dense":
        return np.argwhere(changed.reshape(len(changed), -1, changed.shape[-1]).max(axis=2) > least)
    one = Geometry(
        geometry.kind,
        (1, 1, *geometry.kernel),
        strides=geometry.strides,
        dilations=geometry.dilations,
        pads=geometry.pads,
        same=geometry.same,
        extra=geometry.extra,
    )
    views = windows(changed.max(axis=1, keepdims=True), one)
    return np.argwhere(views.max(axis=(3, 4, 5, 6)) > least)
