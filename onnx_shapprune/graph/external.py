"""Keep the weights of a baked file where the original has them: in one file beside it."""

import onnx

from onnx_shapprune.graph import edit

ALIGNMENT = 4096  # runtimes map whole pages


def split(baked: onnx.ModelProto, original: onnx.ModelProto, location: str) -> tuple[onnx.ModelProto, bytes]:
    """(model, data): initializers that `original` keeps outside, and copies made by baking, move to `location`.

    baked: with all its bytes inside. The data are empty where the original has none outside.
    """
    inside = {t.name for t in original.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL}
    if len(inside) == len(original.graph.initializer):
        return baked, b""
    model, data = edit.copy_of(baked), bytearray()
    for tensor in model.graph.initializer:
        if tensor.name in inside or not tensor.raw_data:
            continue
        data.extend(bytes(-len(data) % ALIGNMENT))
        place = {"location": location, "offset": len(data), "length": len(tensor.raw_data)}
        data.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in place.items())
    return model, bytes(data)
