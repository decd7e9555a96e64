"""What one output value of a linear layer is a product of: its row, and its weight as a matrix.

Conv, ConvTranspose, Gemm and MatMul all compute y = W r for rows r: patches of the picture under the kernel (im2col), of a
ConvTranspose patches of the input with zeros between its values, tokens, or whole feature vectors. The scale of a
normalisation is a diagonal W: one group a channel, whose rows are single normalised values.
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
DENSE = ("Gemm", "MatMul")
DIAGONAL = ("BatchNormalization", "LayerNormalization")


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """kind: operator in the working copy; shape: of the weight as the node reads it; groups: of channels.

    Of convolutions strides, dilations, pads (top, left, bottom, right, where `same` does not decide) and extra, the
    output_padding; of one over a single axis the first of each is that of a picture with one line. Of dense layers,
    transposed: whether the weight is [out, in]; alpha, beta: what the product and the bias are multiplied with. Of
    normalisations epsilon, and of a BatchNormalization its mean and variance.
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
    alpha: float = 1.0
    beta: float = 1.0
    epsilon: float = 1e-5
    mean: Doubles | None = None
    variance: Doubles | None = None

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of what lies under one output value."""
        if self.kind in (*DENSE, *DIAGONAL):
            return (1, 1)
        return (1, self.shape[2]) if len(self.shape) == 3 else (self.shape[2], self.shape[3])

    @property
    def fan_in(self) -> int:
        """Values in a row of one group."""
        if self.kind in DIAGONAL:
            return 1
        if self.kind in DENSE:
            return self.shape[1] if self.transposed else self.shape[0]
        inputs = self.shape[1] if self.kind == "Conv" else self.shape[0] // self.groups
        return inputs * self.kernel[0] * self.kernel[1]

    @property
    def reach(self) -> tuple[int, int]:
        """The kernel with its gaps."""
        height, width = (1 + (k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True))
        return height, width


def geometry_of(node: onnx.NodeProto, values: dict[str, onnx.TensorProto]) -> Geometry:
    """The geometry of a node of the working copy, whose constants are `values`. Raises RefusedError for one that is not
    supported.
    """
    attributes, kind = edit.attributes(node), str(node.op_type)
    shape = tuple(values[node.input[1]].dims)
    if kind in DENSE:
        alpha, beta = (float(attributes.get(n, 1.0)) for n in ("alpha", "beta"))  # type: ignore[arg-type]
        if len(shape) != 2:
            raise RefusedError(f"its weight has {len(shape)} dimensions")
        if attributes.get("transA", 0) or not alpha:
            raise RefusedError("its data is transposed" if alpha else "its product is multiplied with 0")
        return Geometry(kind, shape, transposed=bool(attributes.get("transB", 0)), alpha=alpha, beta=beta)
    if kind in DIAGONAL:
        epsilon = float(attributes.get("epsilon", 1e-5))  # type: ignore[arg-type]
        if kind == "LayerNormalization":
            return Geometry(kind, shape, groups=shape[0], epsilon=epsilon)
        if any(n not in values for n in node.input[3:5]):
            raise RefusedError("its statistics are computed")
        mean, variance = (edit.array_of(values[n]).astype(np.float64) for n in node.input[3:5])
        return Geometry(kind, shape, groups=shape[0], epsilon=epsilon, mean=mean, variance=variance)
    if len(shape) not in (3, 4):
        raise RefusedError(f"its kernel has {len(shape) - 2} dimensions")
    auto = attributes.get("auto_pad", b"NOTSET")
    word = auto.decode() if isinstance(auto, bytes) else str(auto)
    same = word if word.startswith("SAME") else ""
    if kind == "ConvTranspose" and (same or "output_shape" in attributes):
        raise RefusedError("its padding follows from its output's shape")
    begins = _pair(attributes, "pads", 0) if word != "VALID" else (0, 0)
    ends = _pair(attributes, "pads", 0, last=True) if word != "VALID" else (0, 0)
    return Geometry(
        kind,
        shape,
        groups=int(attributes.get("group", 1)),  # type: ignore[call-overload]
        strides=_pair(attributes, "strides", 1),
        dilations=_pair(attributes, "dilations", 1),
        pads=(*begins, *ends),
        same=same,
        extra=_pair(attributes, "output_padding", 0),
    )


def _pair(attributes: dict[str, object], name: str, otherwise: int, *, last: bool = False) -> tuple[int, int]:
    """An attribute for height and width; pads have two such pairs. A convolution over one axis says only the width's."""
    value = attributes.get(name)
    if not isinstance(value, list):
        return otherwise, otherwise
    if name == "pads":
        half = len(value) // 2
        value = value[half:] if last else value[:half]
    return (int(value[0]), int(value[1])) if len(value) == 2 else (otherwise, int(value[0]))


def matrices(weight: Doubles, geometry: Geometry) -> Doubles:
    """A weight as the node reads it, as [groups, out/groups, fan_in]: what y = W r multiplies a row with."""
    if geometry.kind in DIAGONAL:
        return weight.reshape(-1, 1, 1)
    if geometry.kind in DENSE:
        return np.ascontiguousarray(weight if geometry.transposed else weight.T)[None] * geometry.alpha
    groups, places = geometry.groups, geometry.kernel[0] * geometry.kernel[1]
    split = weight.reshape(groups, -1, weight.shape[1], places)
    if geometry.kind == "ConvTranspose":  # [in, out/groups, ...]: turned round it is a Conv over the stuffed input
        split = split[..., ::-1].swapaxes(1, 2)
    return np.ascontiguousarray(split.swapaxes(2, 3)).reshape(groups, split.shape[1], -1)


def weight_of(matrix: Doubles, geometry: Geometry) -> Doubles:
    """The inverse of `matrices`."""
    if geometry.kind in DIAGONAL:
        return matrix.reshape(geometry.shape)
    if geometry.kind in DENSE:
        return np.ascontiguousarray(matrix[0] if geometry.transposed else matrix[0].T) / geometry.alpha
    groups, outputs, _ = matrix.shape
    split = matrix.reshape(groups, outputs, geometry.kernel[0] * geometry.kernel[1], -1).swapaxes(2, 3)
    if geometry.kind == "ConvTranspose":
        split = split.swapaxes(1, 2)[..., ::-1]
    return np.ascontiguousarray(split).reshape(geometry.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """What a layer reads, laid so that rows can be picked out of it.

    values: float32 [groups, pictures * height * width, channels/groups], padded. size: height, width. grid: how many places
    a row can be taken at, down and across. strides, offsets: from place to place, and within a row. each: places that belong
    to one picture. A place is an index into pictures x grid.
    """

    values: Floats
    size: tuple[int, int]
    grid: tuple[int, int]
    strides: tuple[int, int]
    offsets: Places
    each: int

    @property
    def places(self) -> int:
        """How many there are."""
        height, width = self.size
        pixels: int = self.values.shape[1]
        return pixels // max(1, height * width) * self.grid[0] * self.grid[1]

    def first(self, places: Places) -> Places:
        """Where the rows at these places begin in `values`."""
        picture, rest = np.divmod(places, self.grid[0] * self.grid[1])
        y, x = np.divmod(rest, self.grid[1])
        return np.asarray((picture * self.size[0] + y * self.strides[0]) * self.size[1] + x * self.strides[1])


def laid(data: Floats, geometry: Geometry, pictures: int) -> Laid:
    """Lay out what a layer reads of so many pictures, which stand in the first axis, perhaps with several entries each."""
    if geometry.kind in ("Conv", "ConvTranspose"):
        split = data.reshape(len(data), geometry.groups, -1, int(np.prod(data.shape[2:-1])), data.shape[-1])
        return _convolved(split.transpose(1, 0, 3, 4, 2), geometry, pictures)
    if geometry.kind in DIAGONAL:
        data = _normalised(data, geometry)
    split = data.reshape(-1, geometry.groups, data.shape[-1] // geometry.groups).swapaxes(0, 1)
    values = np.ascontiguousarray(split, np.float32)
    each = values.shape[1] // pictures
    return Laid(values, (1, each), (1, each), (1, 1), np.zeros(1, np.int64), each)


def _normalised(data: Floats, geometry: Geometry) -> Floats:
    """Values that the scale of a normalisation multiplies, channels last."""
    if geometry.mean is not None and geometry.variance is not None:
        mean, steps = (v.astype(np.float32) for v in (geometry.mean, np.sqrt(geometry.variance + geometry.epsilon)))
        return np.asarray((np.moveaxis(data, 1, -1) - mean) / steps, np.float32)
    centred = data - data.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    variance = np.einsum("...i,...i->...", centred, centred, dtype=np.float64)[..., None] / data.shape[-1]
    return np.asarray(centred / np.sqrt(variance + geometry.epsilon).astype(np.float32))


def _convolved(data: Floats, geometry: Geometry, pictures: int) -> Laid:
    """data: [groups, pictures, height, width, channels/groups]."""
    strides, reach = geometry.strides, geometry.reach
    if geometry.kind == "ConvTranspose":
        g, n, h, w, c = data.shape
        stuffed = np.zeros((g, n, (h - 1) * strides[0] + 1, (w - 1) * strides[1] + 1, c), np.float32)
        stuffed[:, :, :: strides[0], :: strides[1]] = data
        top, left, bottom, right = geometry.pads
        around = (
            (reach[0] - 1 - top, reach[0] - 1 - bottom + geometry.extra[0]),
            (reach[1] - 1 - left, reach[1] - 1 - right + geometry.extra[1]),
        )
        padded, strides = _padded(stuffed, around), (1, 1)
    else:
        padded = _padded(data, _around(data.shape[2:4], geometry))
    g, n, h, w, c = padded.shape
    grid = ((h - reach[0]) // strides[0] + 1, (w - reach[1]) // strides[1] + 1)
    down, across = (np.arange(k) * d for k, d in zip(geometry.kernel, geometry.dilations, strict=True))
    offsets = (down[:, None] * w + across).reshape(-1)
    each = n * grid[0] * grid[1] // pictures
    return Laid(padded.reshape(g, -1, c), (h, w), grid, strides, offsets, each)


def _around(size: tuple[int, ...], geometry: Geometry) -> tuple[tuple[int, int], tuple[int, int]]:
    if not geometry.same:
        top, left, bottom, right = geometry.pads
        return (top, bottom), (left, right)
    found = []
    for length, reach, stride in zip(size, geometry.reach, geometry.strides, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + reach - length)
        less = total // 2
        found.append((less, total - less) if geometry.same == "SAME_UPPER" else (total - less, less))
    return found[0], found[1]


def _padded(data: Floats, around: tuple[tuple[int, int], tuple[int, int]]) -> Floats:
    """Zeros around pictures [..., h, w, c]; a negative width cuts them."""
    still = ((0, 0),) * (data.ndim - 3)
    wide = np.pad(data, (*still, *((max(0, a), max(0, b)) for a, b in around), (0, 0)))
    (top, bottom), (left, right) = (tuple(max(0, -v) for v in pair) for pair in around)
    cut = wide[..., top : wide.shape[-3] - bottom, left : wide.shape[-2] - right, :]
    return np.ascontiguousarray(cut, np.float32)


def taken(data: Laid, places: Places) -> Floats:
    """Rows at some places: float32 [groups, rows, fan_in]."""
    return data.values.take(data.first(places)[:, None] + data.offsets, axis=1).reshape(
        len(data.values), len(places), -1
    )


def moved_places(before: Laid, after: Laid, of: Places, least: float) -> Places:
    """Places of `after` whose row differs anywhere by more than `least` from that in picture of[i] of `before`."""
    pixels = after.each * after.size[0] * after.size[1] // max(1, after.grid[0] * after.grid[1])  # of one picture
    other, mine = (d.values.reshape(len(d.values), -1, pixels, d.values.shape[2]) for d in (before, after))
    moved = (np.abs(mine[:, k] - other[:, i]) > least for k, i in enumerate(of))
    changed = np.stack([m.any(axis=2).any(axis=0) for m in moved])
    first = after.first(np.arange(after.places))
    found = np.zeros(len(first), bool)
    for offset in after.offsets:
        found |= changed.reshape(-1)[first + offset]
    return np.flatnonzero(found)


def originals(data: Laid, places: Places, of: Places) -> Places:
    """The same places in the pictures `of` which those of `data` were made."""
    picture, rest = np.divmod(places, data.each)
    return of[picture] * data.each + rest
