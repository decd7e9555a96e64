"""Large models in memory: protobuf serialises no message of 2 GiB, so weights travel beside the graph."""

import math
from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper

HEAVY = 1 << 16  # bytes; smaller initializers stay in the graph, where sizes and axes are looked up
MESSAGE = (2 << 30) - (64 << 20)  # bytes of weights that a serialised model may have, with room for the graph


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all initializers. Where they exceed MESSAGE, the model can be neither serialised nor measured."""
    return sum(map(_size, model.graph.initializer))


def _size(tensor: onnx.TensorProto) -> int:
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return len(tensor.raw_data)
    width = int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return width * int(math.prod(tensor.dims))


def heavy(model: onnx.ModelProto) -> set[str]:
    """Names of the initializers that take most of the room."""
    return {t.name for t in model.graph.initializer if _size(t) >= HEAVY}


def shell(model: onnx.ModelProto, stand_in: Callable[[onnx.TensorProto], onnx.TensorProto]) -> onnx.ModelProto:
    """A copy in which `stand_in` takes the place of every heavy initializer; the weights themselves are not copied."""
    light: onnx.ModelProto = _without(model, "graph")
    light.graph.CopyFrom(_without(model.graph, "initializer"))
    names = heavy(model)
    light.graph.initializer.extend(stand_in(t) if t.name in names else t for t in model.graph.initializer)
    return light


def elsewhere(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Name, type and shape of a tensor whose values are handed over in another way."""
    header = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    header.data_location = TensorProto.EXTERNAL
    header.external_data.add(key="location", value="memory")
    return header


def empty(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A tensor of that name and type without any values."""
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0])


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
