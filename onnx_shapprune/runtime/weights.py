"""Large models in memory: protobuf serialises no message of 2 GiB, so weights travel beside the graph.

A message copies whatever is put into it and taken out of it. So graphs that are derived from a model, to show more of its
tensors or to compute its gradients, hold stand-ins for its weights, and sessions that are open at the same time read equal
weights from one array.
"""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HEAVY = 1 << 16  # bytes; smaller initializers stay in the graph, where sizes and axes are looked up
MESSAGE = (2 << 30) - (64 << 20)  # bytes of weights that a serialised model may have, with room for the graph
MEMORY = "memory"
PART = 16 << 20

_shared: WeakValueDictionary[tuple[str, str, tuple[int, ...]], NDArray[Any]] = WeakValueDictionary()


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all initializers. Where they exceed MESSAGE, the model can be neither serialised nor measured."""
    return sum(map(size_of, model.graph.initializer))


def size_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor."""
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return len(tensor.raw_data)
    width = int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return width * int(math.prod(tensor.dims))


def heavy(model: onnx.ModelProto) -> set[str]:
    """Names of the initializers that take most of the room."""
    return {t.name for t in model.graph.initializer if size_of(t) >= HEAVY}


def shell(model: onnx.ModelProto, stand_in: Callable[[onnx.TensorProto], onnx.TensorProto]) -> onnx.ModelProto:
    """A copy in which `stand_in` takes the place of every heavy initializer; the weights themselves are not copied."""
    names = heavy(model)
    return _with(model, lambda t: stand_in(t) if t.name in names else t)


def held(model: onnx.ModelProto, weights: onnx.ModelProto | None) -> dict[str, onnx.TensorProto]:
    """Heavy initializers of `model` by name, with their values: those that it only stands in for are in `weights`."""
    known = {} if weights is None else {t.name: t for t in weights.graph.initializer}
    names = heavy(model)
    own = {t.name: t for t in model.graph.initializer if t.name in names or stands_in(t)}
    return {name: known.get(name, t) if stands_in(t) else t for name, t in own.items()}


def filled(model: onnx.ModelProto, values: Mapping[str, onnx.TensorProto]) -> onnx.ModelProto:
    """A copy with the values that it stood in for; the model itself where it has them."""
    if not any(map(stands_in, model.graph.initializer)):
        return model
    return _with(model, lambda t: values.get(t.name, t))


def beside(model: onnx.ModelProto, values: Mapping[str, onnx.TensorProto]) -> onnx.ModelProto:
    """A copy that stands in for `values`."""
    return _with(model, lambda t: elsewhere(t) if t.name in values else t)


def in_common(model: onnx.ModelProto, other: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Heavy initializers of `model` that `other` has under the same name with the same values."""
    names, known = heavy(model), {t.name: t for t in other.graph.initializer}
    both = ((t, known[t.name]) for t in model.graph.initializer if t.name in names and t.name in known)
    return {t.name: t for t, same in both if t == same}


def stands_in(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is what `elsewhere` makes."""
    return tensor.data_location == TensorProto.EXTERNAL and any(e.value == MEMORY for e in tensor.external_data)


def shared_array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of a tensor, not to be written to: one array for all tensors of that name and content as long as anybody
    holds it.
    """
    array = _array(tensor)
    key = (tensor.name, array.dtype.str, array.shape)
    known = _shared.get(key)
    if known is not None and _equal(known, array):
        return known
    _shared[key] = array
    return array


def _array(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of a tensor. onnx copies bytes that came out of a message as a copy already."""
    if tensor.data_type == TensorProto.FLOAT and tensor.HasField("raw_data") and sys.byteorder == "little":
        return np.frombuffer(tensor.raw_data, np.float32).reshape(tuple(tensor.dims))
    return numpy_helper.to_array(tensor)


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays of one size hold the same bytes; compared in parts, so that no third one is made."""
    one, other = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (a, b))
    return all(np.array_equal(one[i : i + PART], other[i : i + PART]) for i in range(0, len(one), PART))


def elsewhere(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Name, type and shape of a tensor whose values are handed over in another way."""
    header = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    header.data_location = TensorProto.EXTERNAL
    header.external_data.add(key="location", value=MEMORY)
    return header


def empty(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A tensor of that name and type without any values."""
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])


def _with(model: onnx.ModelProto, pick: Callable[[onnx.TensorProto], onnx.TensorProto]) -> onnx.ModelProto:
    """A copy with other initializers."""
    copy: onnx.ModelProto = _without(model, "graph")
    copy.graph.CopyFrom(_without(model.graph, "initializer"))
    copy.graph.initializer.extend(map(pick, model.graph.initializer))
    return copy


def _without(message: Any, left_out: str) -> Any:
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name == left_out:
            continue
        if hasattr(value, "extend"):
            getattr(copy, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(copy, field.name).CopyFrom(value)
        else:
            setattr(copy, field.name, value)
    return copy
