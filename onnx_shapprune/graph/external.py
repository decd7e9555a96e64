"""Keep the weights of a file in another one beside it: where the original has them there, or protobuf no room for them."""

from collections.abc import Container

import onnx

ALIGNMENT = 4096  # runtimes map whole pages


def split(baked: onnx.ModelProto, original: onnx.ModelProto, location: str) -> bytes:
    """Data of initializers that `original` keeps outside, and of copies made by baking, which move to `location`.

    baked: with all its bytes inside. The data are empty where the original has none outside.
    """
    inside = {t.name for t in original.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL}
    if len(inside) == len(original.graph.initializer):
        return b""
    return moved_out(baked, location, {t.name for t in baked.graph.initializer} - inside)


def moved_out(model: onnx.ModelProto, location: str, names: Container[str]) -> bytes:
    """Data of the initializers `names`. The model is changed in place: there may be no room for two."""
    data = bytearray()
    for tensor in model.graph.initializer:
        if tensor.name not in names or not tensor.raw_data:
            continue
        data.extend(bytes(-len(data) % ALIGNMENT))
        place = {"location": location, "offset": len(data), "length": len(tensor.raw_data)}
        data.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in place.items())
    return bytes(data)


def data_name(model: str) -> str:
    """The file with the weights of a model that keeps them outside."""
    return f"{model}.data"
