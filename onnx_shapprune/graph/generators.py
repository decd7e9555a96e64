"""How much an operator makes out of nothing but constants: a file of 142 bytes can ask for a gigabyte, or run for ever."""

import math
from collections.abc import Callable, Sequence
from typing import Self

import onnx
from onnx import TensorProto

from onnx_shapprune.graph import edit
from onnx_shapprune.graph.payload import BITS, elements

MAX_VALUES = 64  # shapes, scales and counts are short
PASS_ON = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
Values = Sequence[int | float]


class Constants:
    """What is known of tensors in one scope and those around it: shapes, and the values of the short ones."""

    def __init__(self, outer: "Constants | None" = None) -> None:
        self._outer = outer
        self._dims: dict[str, tuple[int, ...]] = {}
        self._values: dict[str, list[int | float]] = {}

    def inner(self) -> Self:
        return type(self)(self)

    def add(self, name: str, tensor: onnx.TensorProto) -> None:
        """Take note of a tensor whose payload has been checked."""
        self._dims[name] = tuple(tensor.dims)
        numeric = tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64)
        if numeric and elements(tensor.dims) <= MAX_VALUES and tensor.data_location != TensorProto.EXTERNAL:
            self._values[name] = edit.array_of(tensor).reshape(-1).tolist()

    def learn(self, node: onnx.NodeProto) -> None:
        """Take note of what a node makes out of constants: Constant itself, and what only renames or reshapes one."""
        if not node.output or not node.output[0]:
            return
        name = node.output[0]
        if node.op_type == "Constant" and node.attribute:
            attribute = node.attribute[0]
            if attribute.name == "value":
                self.add(name, attribute.t)
            elif attribute.name in ("value_int", "value_float"):
                self._values[name] = [attribute.i if attribute.name == "value_int" else attribute.f]
            elif len(listed := attribute.ints or attribute.floats) <= MAX_VALUES:
                self._values[name] = list(listed)
        elif node.op_type in PASS_ON and node.input:
            values = self.values(node.input[0])
            if values is not None:
                self._values[name] = list(values)
        elif made := _shape(node, self):
            self._dims[name] = made

    def values(self, name: str) -> Values | None:
        """The values of a short constant, None where they are not known."""
        return self._values.get(name) if name in self._values or self._outer is None else self._outer.values(name)

    def dims(self, name: str) -> tuple[int, ...] | None:
        """The shape of a constant, None where it is not known."""
        return self._dims.get(name) if name in self._dims or self._outer is None else self._outer.dims(name)


def generated_bytes(node: onnx.NodeProto, known: Constants) -> int:
    """Bytes of what a standard operator makes out of constants, at least; 0 where it is none of these or none are known."""
    shape = _shape(node, known)
    return 0 if shape is None else elements(shape) * _item_bytes(node)


def trips(node: onnx.NodeProto, known: Constants) -> int | None:
    """How often a Loop runs at most; None where the file does not say."""
    values = known.values(node.input[0]) if node.input and node.input[0] else None
    return None if not values else max(0, _whole(values[0]))


def _shape(node: onnx.NodeProto, known: Constants) -> tuple[int, ...] | None:
    """The shape that a generator makes, axes that are not known left out; None for other operators."""
    rule = GENERATORS.get(node.op_type)
    made = None if rule is None else rule(node, known)
    return None if made is None else tuple(max(0, _whole(d)) for d in made)


def _whole(number: int | float) -> int:
    """As an integer; infinity becomes a huge one, and what is no number 0."""
    if isinstance(number, int):
        return number
    if math.isnan(number):
        return 0
    return int(number) if math.isfinite(number) else int(math.copysign(2**63, number))


def _item_bytes(node: onnx.NodeProto) -> int:
    """Bytes per value, 4 where the type is not said."""
    said = {a.name: a for a in node.attribute}
    if node.op_type == "ConstantOfShape" and "value" in said:
        kind = said["value"].t.data_type
    else:
        kind = said["dtype"].i if "dtype" in said else TensorProto.FLOAT
    named = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else ""
    return max(1, BITS.get(named, 32) // 8)


def _input(node: onnx.NodeProto, known: Constants, *places: int) -> Values | None:
    """The values of the first of these inputs that is a short constant."""
    for place in places:
        if place < len(node.input) and (values := known.values(node.input[place])) is not None:
            return values
    return None


def _data(node: onnx.NodeProto, known: Constants) -> tuple[int, ...] | None:
    return known.dims(node.input[0]) if node.input else None


def _attribute(node: onnx.NodeProto, name: str) -> Values | None:
    for attribute in node.attribute:
        if attribute.name == name:
            return [*attribute.ints, *attribute.floats]
    return None


def _asked(node: onnx.NodeProto, known: Constants) -> Values | None:
    """Operators that are told the whole shape by an input."""
    return _input(node, known, 0)


def _expand(node: onnx.NodeProto, known: Constants) -> Values | None:
    asked, data = _input(node, known, 1), _data(node, known) or ()
    if asked is None:
        return None
    wide = [1] * (len(asked) - len(data)) + list(data)
    return [max(a, _whole(b)) for a, b in zip(wide, [1] * (len(wide) - len(asked)) + list(asked), strict=True)]


def _times(node: onnx.NodeProto, factors: Values | None, known: Constants) -> Values | None:
    """Every axis that many times as long; data of unknown shape counts as one value."""
    if factors is None:
        return None
    data = _data(node, known)
    return [d * f for d, f in zip(data, factors, strict=False)] if data is not None else factors


def _tile(node: onnx.NodeProto, known: Constants) -> Values | None:
    return _times(node, _input(node, known, 1), known)


def _range(node: onnx.NodeProto, known: Constants) -> Values | None:
    ends = [_input(node, known, i) for i in range(3)]
    if not all(ends):
        return None
    start, limit, delta = (end[0] for end in ends if end)
    return None if not delta else [_whole((limit - start) / delta) + 1]


def _resize(node: onnx.NodeProto, known: Constants) -> Values | None:
    """Sizes are the fourth input, scales the third, or the second of old versions and of Upsample."""
    sizes = _input(node, known, 3)
    if sizes:
        return sizes
    return _times(node, _input(node, known, 2, 1) or _attribute(node, "scales") or None, known)


def _pad(node: onnx.NodeProto, known: Constants) -> Values | None:
    pads = _input(node, known, 1) or _attribute(node, "pads")
    if not pads:
        return None
    axes = len(pads) // 2
    data = _data(node, known)
    if data is None or len(data) != axes:
        data = (1,) * axes
    return [max(0, d + _whole(a) + _whole(b)) for d, a, b in zip(data, pads[:axes], pads[axes:], strict=False)]


def _one_hot(node: onnx.NodeProto, known: Constants) -> Values | None:
    depth = _input(node, known, 1)
    return None if not depth else [*(_data(node, known) or ()), depth[0]]


def _eye_like(node: onnx.NodeProto, known: Constants) -> Values | None:
    return _data(node, known)


def _shape_attribute(name: str) -> Callable[[onnx.NodeProto, Constants], Values | None]:
    return lambda node, known: _attribute(node, name) or None


def _grid(node: onnx.NodeProto, known: Constants) -> Values | None:
    return _input(node, known, 1)


GENERATORS: dict[str, Callable[[onnx.NodeProto, Constants], Values | None]] = {
    "ConstantOfShape": _asked,
    "HannWindow": _asked,
    "HammingWindow": _asked,
    "BlackmanWindow": _asked,
    "Expand": _expand,
    "Tile": _tile,
    "Range": _range,
    "Resize": _resize,
    "Upsample": _resize,
    "Pad": _pad,
    "OneHot": _one_hot,
    "EyeLike": _eye_like,
    "RandomNormal": _shape_attribute("shape"),
    "RandomUniform": _shape_attribute("shape"),
    "ConvTranspose": _shape_attribute("output_shape"),
    "AffineGrid": _grid,
    "Col2Im": _grid,
    "CenterCropPad": _grid,
}
