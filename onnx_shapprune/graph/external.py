"""Keep the weights of a file in another one beside it: where the original has them there, or protobuf no room for them."""

from collections.abc import Collection
from pathlib import Path
from typing import IO

import onnx

ALIGNMENT = 4096  # runtimes map whole pages


def write_like(original: onnx.ModelProto, baked: onnx.ModelProto, folder: Path, name: str) -> tuple[Path, ...]:
    """Write an edited model into a folder of its own, with its data beside it where `original` keeps them outside: the data,
    if any, then the model. baked: with all its bytes inside; it is used up. Raises OSError.
    """
    inside = {t.name for t in original.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL}
    outside = {t.name for t in baked.graph.initializer} - inside  # copies made by baking among them
    data, path = folder / data_name(name), folder / name
    written = 0
    if len(inside) < len(original.graph.initializer):
        with data.open("xb") as stream:
            written = move_out(baked, data.name, outside, stream)
    with path.open("xb") as stream:
        stream.write(baked.SerializeToString())
    return (data, path) if written else (path,)


def move_out(model: onnx.ModelProto, location: str, names: Collection[str], stream: IO[bytes]) -> int:
    """Write the data of the initializers `names` to a new file, called `location` by the model, which is changed in place:
    there may be no room for two. Returns the bytes written. Raises OSError.
    """
    end = 0
    for tensor in model.graph.initializer:
        raw = tensor.raw_data if tensor.name in names else b""
        if not raw:
            continue
        gap = -end % ALIGNMENT
        place = {"location": location, "offset": end + gap, "length": len(raw)}
        stream.write(bytes(gap))
        stream.write(raw)
        end += gap + len(raw)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in place.items())
    return end


def data_name(model: str) -> str:
    """The file with the weights of a model that keeps them outside."""
    return f"{model}.data"
