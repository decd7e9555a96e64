"""Whether a tensor holds what it declares: one payload, of the size that its shape and type ask for."""

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto

from onnx_shapprune.graph import edit

MAX_RANK = 64
FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
# The field that holds a type's values when they are not in raw_data, and how many of its numbers make one value.
HOLDERS: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 1),
    TensorProto.COMPLEX64: ("float_data", 2),
    TensorProto.DOUBLE: ("double_data", 1),
    TensorProto.COMPLEX128: ("double_data", 2),
    TensorProto.INT64: ("int64_data", 1),
    TensorProto.UINT32: ("uint64_data", 1),
    TensorProto.UINT64: ("uint64_data", 1),
    TensorProto.STRING: ("string_data", 1),
}
BITS = {
    name: bits
    for bits, names in {
        2: ("UINT2", "INT2"),
        4: ("UINT4", "INT4", "FLOAT4E2M1"),
        6: ("FLOAT6E2M3", "FLOAT6E3M2"),
        8: ("UINT8", "INT8", "BOOL", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"),
        16: ("UINT16", "INT16", "FLOAT16", "BFLOAT16"),
        32: ("FLOAT", "INT32", "UINT32"),
        64: ("DOUBLE", "INT64", "UINT64", "COMPLEX64"),
        128: ("COMPLEX128",),
    }.items()
    for name in names
}


def elements(dims: Iterable[int]) -> int:
    """Product of dimensions, as a Python integer: it does not wrap around."""
    return math.prod(int(d) for d in dims)


def stored_bytes(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the values of a tensor take in raw or external data; None for strings and unknown types."""
    bits = BITS.get(_type_name(tensor))
    return None if bits is None else (elements(tensor.dims) * bits + 7) // 8


def tensor_fault(tensor: onnx.TensorProto) -> str:
    """What does not hold together, in words; "" when all does. External data is not looked at."""
    external = tensor.data_location == TensorProto.EXTERNAL
    held = [name for name in FIELDS if len(getattr(tensor, name))]
    if tensor.HasField("raw_data") and (tensor.raw_data or held):
        held.append("raw_data")
    if len(held) + external > 1:
        return f"has two payloads: {', '.join([*held, *['external data'] * external])}"
    if len(tensor.dims) > MAX_RANK or any(d < 0 for d in tensor.dims):
        return f"has an impossible shape: {list(tensor.dims)[:8]}"
    name, count = _type_name(tensor), elements(tensor.dims)
    if name not in BITS and name != "STRING":
        return f"has a type that ONNX does not know: {tensor.data_type}"
    if external:
        return "is of strings, which cannot be external" if name == "STRING" else ""
    if tensor.HasField("raw_data") and not held and not count:
        return ""
    field, width = HOLDERS.get(tensor.data_type, ("int32_data", 1))
    wants = f"declares {number(count)} values of {name.lower()}"
    if held == ["raw_data"] and name != "STRING":
        size = stored_bytes(tensor)
        return "" if size == len(tensor.raw_data) else f"{wants} and has {len(tensor.raw_data):,} bytes"
    if held and held != [field]:
        return f"{wants} and holds them in {held[0]}"
    have = len(getattr(tensor, field))
    packed = BITS.get(name, 8)  # several of the smallest types share one number
    expected = (count * packed + 7) // 8 if packed < 8 else count * width
    return "" if have == expected else f"{wants} and has {have:,} numbers"


def sparse_fault(sparse: onnx.SparseTensorProto) -> str:
    """What does not hold together in a sparse tensor whose two parts are sound; "" when all does."""
    dims, values, indices = list(sparse.dims), sparse.values, sparse.indices
    if len(dims) > MAX_RANK or any(d < 0 for d in dims):
        return f"has an impossible shape: {dims[:8]}"
    if TensorProto.EXTERNAL in (values.data_location, indices.data_location):
        return ""  # looked at again once it is read in
    count = elements(values.dims)
    linear, rows = [count], [count, len(dims)]
    if len(values.dims) != 1 or indices.data_type != TensorProto.INT64 or list(indices.dims) not in (linear, rows):
        return f"has {list(indices.dims)[:4]} indices for {list(values.dims)[:4]} values"
    index = edit.array_of(indices).astype(object)  # dimensions may be larger than any machine integer
    tops = np.array([elements(dims)] if index.ndim == 1 else dims, dtype=object)
    return "" if ((index >= 0) & (index < tops)).all() else "has indices beyond its shape"


def _type_name(tensor: onnx.TensorProto) -> str:
    known = tensor.data_type in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(tensor.data_type)) if known else ""


def number(count: int) -> str:
    """A count for a message: what a hostile file declares may have a thousand digits."""
    return f"{count:,}" if count < 1 << 60 else "more than 10^18"
